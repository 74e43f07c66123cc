/** How many accounts and repositories there are, for Quay's quay_*_rows gauges. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

export interface RowCounts {
  readonly users: number;
  readonly robots: number;
  readonly organizations: number;
  readonly repositories: number;
}

/**
 * Those that live. Scans two indexes, and what was deleted and is still kept: milliseconds for 100,000 rows. Called by a timer,
 * not by requests.
 */
export async function countRows(db: Db): Promise<RowCounts> {
  const accounts = await db.sql<{ kind: string; total: number }>`/* rows.accounts */
    select kind, count(*) as total from account group by kind`;
  const deleted = await db.sql<{ kind: string; total: number }>`/* rows.deleted_accounts */
    select kind, count(*) as total from account where deleted_ms is not null group by kind`;
  const [repositories] = await db.sql<{ total: number }>`/* rows.repositories */
    select (select count(*) from repository) - (select count(*) from repository where deleted_ms is not null) as total`;
  const all = (rows: typeof accounts, kind: string) => toNumber(rows.find((row) => row.kind === kind)?.total ?? 0);
  const of = (kind: string) => Math.max(0, all(accounts, kind) - all(deleted, kind));
  return {
    users: of("user"),
    robots: of("robot"),
    organizations: of("organization"),
    repositories: Math.max(0, toNumber(repositories?.total ?? 0)),
  };
}
