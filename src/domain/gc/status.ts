/**
 * What waits for collection, what comes back and when, and what was freed: for operators. Reads a bounded number of rows, some
 * at a time, whatever the registry holds.
 */

import type { App } from "../../app.ts";
import { databaseNowMs } from "../../db/now.ts";
import { findReclaimable, type Reclaimable } from "./reclaimable.ts";
import { type FreedTotals, findFreed, findRounds, type Round } from "./totals.ts";
import { findWaiting, type Waiting } from "./waiting.ts";

export interface GcStatus {
  /** When this was true, by the database's clock. */
  readonly atMs: number;
  readonly waiting: readonly Waiting[];
  readonly reclaimable: Reclaimable;
  readonly freed: FreedTotals;
  readonly rounds: readonly Round[];
}

/** Costs at most some 200,000 rows of indexes. */
export async function findGcStatus({ db }: Pick<App, "db">): Promise<GcStatus> {
  const atMs = await databaseNowMs(db);
  return {
    atMs,
    waiting: await findWaiting(db),
    reclaimable: await findReclaimable(db, atMs),
    freed: await findFreed(db, atMs),
    rounds: await findRounds(db, atMs),
  };
}
