/** How many exports of the action log wait, for metrics. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

export interface ExportCounts {
  /** Exports that are not done, whether or not somebody works on them. */
  readonly total: number;
  /** Of these, taken by a worker. */
  readonly locked: number;
}

/** At most `max`: reads no further, in the index of those that wait. */
export async function countExportsUpTo(db: Db, max: number): Promise<ExportCounts> {
  const [row] = await db.sql<Record<"total" | "locked", unknown>>`/* export.count */
    select count(*) as total, count(*) filter (where lease_until_ms > ${db.dialect.nowMs}) as locked
    from (select lease_until_ms from log_export where state in ('queued', 'made') order by due_ms limit ${max}) waiting`;
  return { total: toNumber(row?.total ?? 0), locked: toNumber(row?.locked ?? 0) };
}
