/**
 * Copies everything that one store has and another lacks, for an operator who waits: queues it as replication would and takes
 * part in the work, so that running workers and this one never copy a blob twice.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { CopyEvent } from "./copy.ts";
import { listMissing, type MissingBlob } from "./missing.ts";
import { type ReplicationApp, runCopy, takeCopy } from "./run.ts";
import { copyKey, queueCopy, REPLICATION_QUEUE } from "./targets.ts";

/** Copies at once, as in the background. */
const COPIES_MAX = 4;
/** How often others' copies are looked after. */
const POLL_MS = 500;

export interface CopyAllOptions {
  readonly from: string;
  readonly to: string;
  /** Ends it; what was copied stays, and the rest goes on with the next call. */
  readonly signal: AbortSignal;
  readonly report: (event: CopyEvent) => void;
  /** Called after each page with what was looked at so far. */
  readonly onPage: (blobs: number, sizeBytes: number) => void;
}

export interface Lacking {
  readonly total: number;
  readonly totalBytes: number;
  readonly some: readonly string[];
}

/** What `to` lacks of what `from` has; the digests of some. */
export async function findLacking(db: Db, from: string, to: string): Promise<Lacking> {
  let [total, totalBytes] = [0, 0];
  const some: string[] = [];
  for await (const page of listMissing(db, [to], from)) {
    total += page.length;
    for (const blob of page) {
      totalBytes += blob.sizeBytes;
      if (some.length < 10) some.push(blob.digest);
    }
  }
  return { total, totalBytes, some };
}

/** Copies once through all blobs. Those that fail are left to the queue, and found by `findLacking`. */
export async function copyAll(app: ReplicationApp, options: CopyAllOptions): Promise<void> {
  let [blobs, sizeBytes] = [0, 0];
  for await (const page of listMissing(app.db, [options.to], options.from)) {
    await app.db.tx(async (tx) => {
      for (const { id } of page) await queueCopy(tx, id, options.to);
    });
    await Promise.all(Array.from({ length: COPIES_MAX }, () => work(app, options)));
    await othersAreDone(app, options, page);
    options.signal.throwIfAborted();
    blobs += page.length;
    for (const blob of page) sizeBytes += blob.sizeBytes;
    options.onPage(blobs, sizeBytes);
  }
}

async function work(app: ReplicationApp, { from, to, signal, report }: CopyAllOptions): Promise<void> {
  while (!signal.aborted) {
    const job = await takeCopy(app, [to]);
    if (!job) return;
    await runCopy(app, job, { from, signal, report });
  }
}

/** Waits for the copies of this page that another worker has in its hands. */
async function othersAreDone(
  app: ReplicationApp,
  options: CopyAllOptions,
  page: readonly MissingBlob[],
): Promise<void> {
  const { db } = app;
  const keys = page.map(({ id }) => copyKey(id, options.to));
  while (!options.signal.aborted) {
    const [row] = await db.sql<{ held: number }>`/* replication.held */
      select count(*) as held from job
      where queue = ${REPLICATION_QUEUE} and lease_until_ms > ${db.dialect.nowMs} and ${db.dialect.inList("dedupe_key", keys)}`;
    if (toNumber(row?.held ?? 0) === 0) return;
    await delay(POLL_MS, undefined, { signal: options.signal }).catch(() => undefined);
    // One that was given back meanwhile is ours to take.
    await work(app, options);
  }
}
