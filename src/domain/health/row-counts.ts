/** How many accounts and repositories there are, for Quay's quay_*_rows gauges. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

export interface RowCounts {
  readonly users: number;
  readonly robots: number;
  readonly organizations: number;
  readonly repositories: number;
}

/** Scans two indexes: milliseconds for 100,000 rows. Called by a timer, not by requests. */
export async function countRows(db: Db): Promise<RowCounts> {
  const accounts = await db.sql<{ kind: string; total: number }>`/* rows.accounts */
    select kind, count(*) as total from account group by kind`;
  const [repositories] = await db.sql<{
    total: number;
  }>`/* rows.repositories */ select count(*) as total from repository`;
  const of = (kind: string) => toNumber(accounts.find((row) => row.kind === kind)?.total ?? 0);
  return {
    users: of("user"),
    robots: of("robot"),
    organizations: of("organization"),
    repositories: toNumber(repositories?.total ?? 0),
  };
}
