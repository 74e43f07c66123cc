/**
 * DISABLED_FOR_AUDIT_LOGS as rows, so that an entry written inside a change can be left out by its own statement. The
 * instance that started last decides; instances of one registry have the same config.
 */

import type { Database } from "../../db/db.ts";
import { isNamespaceName } from "../../oci/names.ts";

/** Names at most: a config file's worth. */
const NAMES_MAX = 1000;

/** Makes the rows say what the config says. Does not write when they do. */
export async function keepExemptNamespaces(db: Database, names: readonly string[]): Promise<void> {
  // What cannot be a namespace exempts nobody.
  const wanted = [...new Set(names)].filter(isNamespaceName).slice(0, NAMES_MAX).sort();
  const kept = await db.sql<{
    username: string;
  }>`/* audit.exempt */ select username from audit_exempt order by username`;
  if (kept.map(({ username }) => username).join("\n") === wanted.join("\n")) return;
  await db.tx(async (tx) => {
    await tx.sql`/* audit.forget_exempt */ delete from audit_exempt`;
    if (wanted.length === 0) return;
    await tx.sql`/* audit.keep_exempt */
      insert into audit_exempt (username) values ${tx.dialect.rows(wanted.map((name) => [name]))} on conflict do nothing`;
  });
}
