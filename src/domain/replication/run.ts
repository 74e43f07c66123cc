/**
 * One job of the replication queue from taking it to its end: the copy, the lease that is kept meanwhile, and what becomes
 * of a job that failed. A store that is away costs no tries; bytes that are wrong do.
 */

import type { App } from "../../app.ts";
import { JobLease } from "../../db/job-lease.ts";
import { failJob, finishJob, postponeJob, type TakenJob, takeJob, takeJobOf } from "../../db/queue.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { type CopyEvent, copyBlob, dropCopy } from "./copy.ts";
import { findBlobToCopy } from "./queries.ts";
import { copyKey, REPLICATION_QUEUE } from "./targets.ts";

export type ReplicationApp = Pick<App, "config" | "db" | "storage" | "log">;

/** Source: quay-behaviour reference, section 11. */
const RETRY_MS = 300_000;
/** A store that is away is asked again after this; its own probes know sooner whether its lane is worth a look. */
const AWAY_MS = 15_000;

export interface RunOptions {
  readonly signal: AbortSignal;
  readonly report: (event: CopyEvent) => void;
  readonly from?: string;
}

/** Takes the job that has waited longest for one of these stores, as far as they work; undefined when none is due. */
export async function takeCopy(app: ReplicationApp, locations: readonly string[]): Promise<TakenJob | undefined> {
  for (const lane of locations) {
    if (!app.storage.isUp(lane)) continue;
    const job = await takeJob(app.db, REPLICATION_QUEUE, { lane, leaseMs: leaseMs(app) });
    if (job) return job;
  }
  return undefined;
}

/** Takes the job that brings this blob to this store; undefined when there is none, it is not due, or another has it. */
export function takeCopyOf(app: ReplicationApp, blobId: number, location: string): Promise<TakenJob | undefined> {
  return takeJobOf(app.db, REPLICATION_QUEUE, copyKey(blobId, location), leaseMs(app));
}

/** Runs a job to its end, whatever that is. Throws only when the database does not answer; the lease ends by itself then. */
export async function runCopy(app: ReplicationApp, job: TakenJob, options: RunOptions): Promise<"done" | "not-done"> {
  const lease = new JobLease(app, job, leaseMs(app), options.signal);
  const blobId = Number(job.payload.blobId);
  try {
    const blob = await findBlobToCopy(app.db, blobId);
    if (blob && !blob.locations.includes(job.lane)) {
      await copyBlob(app, blob, job.lane, {
        ...options,
        signal: lease.signal,
        alongside: async (tx) => void (await finishJob(tx, job)),
      });
    } else {
      await dropCopy(app, blobId, job.lane);
      await app.db.tx((tx) => finishJob(tx, job));
    }
    return "done";
  } catch (error) {
    if (lease.isLost) app.log.warn("another worker goes on with a copy", { blobId, location: job.lane });
    else if (options.signal.aborted) await postponeJob(app.db, job, 0);
    else await giveBack(app, job, error);
    return "not-done";
  } finally {
    lease.end();
  }
}

async function giveBack(app: ReplicationApp, job: TakenJob, error: unknown): Promise<void> {
  const fields = { blobId: Number(job.payload.blobId), location: job.lane, ...errorFields(error) };
  if (error instanceof RegistryError && (error.code === "unavailable" || error.code === "storage_full")) {
    app.log.info("a copy waits for a store", fields);
    return postponeJob(app.db, job, AWAY_MS);
  }
  const state = await failJob(app.db, job, RETRY_MS);
  app.log.error("a copy failed", { ...fields, givenUp: state === "given-up", attemptsLeft: job.attemptsLeft });
}

function leaseMs({ config }: ReplicationApp): number {
  return Math.max(1, config.STORAGE_REPLICATION_PROCESSING_SECONDS) * 1000;
}
