/** `bun scripts/dump-schema.ts`: writes sql/schema.sql, what all migrations together make on SQLite. For reading only. */
import { join } from "node:path";
import { migrate } from "../src/db/migrate.ts";
import { migrations } from "../src/db/migrations.ts";
import { openDatabase } from "../src/db/open.ts";
import { makeTempDir } from "../test/support/temp-dir.ts";
import { rootDir } from "./parts.ts";

export const schemaFile = join(rootDir, "sql", "schema.sql");

const header = `-- The schema that the migrations make, as SQLite has it. Written by "bun scripts/dump-schema.ts", read by people only.`;

/** The text of sql/schema.sql as it should be: tables by name, each followed by its indexes and triggers. */
export async function dumpSchema(): Promise<string> {
  const dir = makeTempDir("schema");
  try {
    const db = await openDatabase({ uri: `sqlite:///${join(dir.path, "schema.db")}` });
    try {
      await migrate(db, migrations);
      const rows = await db.sql<{ sql: string }>`/* dump.schema */
        select sql from sqlite_schema where sql is not null and name not like 'sqlite_%'
        order by tbl_name, case type when 'table' then 0 else 1 end, name`;
      return `${header}\n\n${rows.map(({ sql }) => `${sql.trim()};\n`).join("\n")}`;
    } finally {
      await db.close();
    }
  } finally {
    dir.remove();
  }
}

if (import.meta.main) {
  await Bun.write(schemaFile, await dumpSchema());
  console.log(`wrote ${schemaFile}`);
}
