/** Whether the key of a config opens what a database holds: a move with the wrong config is better known before than after. */

import { createSecretBox } from "../../lib/secret-box.ts";
import type { Database } from "../db.ts";
import { quote, raw } from "./rows.ts";
import { readTables } from "./schema.ts";

/** Columns with this ending hold texts of the database's secret box. */
const SEALED = "_encrypted";

/**
 * Columns (`table.column`) with a value that the key does not open: `configKey` is DATABASE_SECRET_KEY, without which the
 * instances use the one they keep in the database.
 */
export async function findUnopenable(db: Database, configKey: string | undefined): Promise<string[]> {
  const [setting] = await db.sql<{ value: string }>`/* move.secret_key */
    select value from setting where key = 'database_secret_key'`;
  const box = createSecretBox(configKey ?? setting?.value ?? "");
  const found: string[] = [];
  for (const table of await readTables(db)) {
    for (const { name } of table.columns.filter(({ name }) => name.endsWith(SEALED))) {
      const column = raw(quote(name));
      const [row] = await db.sql<{ value: string }>`/* move.sealed */
        select ${column} as value from ${raw(quote(table.name))} where ${column} is not null limit 1`;
      if (!row) continue;
      try {
        box.open(row.value);
      } catch {
        found.push(`${table.name}.${name}`);
      }
    }
  }
  return found;
}
