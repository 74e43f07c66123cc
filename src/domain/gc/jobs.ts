/** The queues of deleted repositories and namespaces: one job after the other, each kept by a lease while it runs. */

import { JobLease } from "../../db/job-lease.ts";
import {
  failJob,
  finishJob,
  JOB_ATTEMPTS,
  postponeJob,
  type QueueName,
  type TakenJob,
  takeJob,
} from "../../db/queue.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { purgeNamespace } from "./purge-namespace.ts";
import { type PurgeApp, purgeRepository } from "./purge-repository.ts";
import type { Tally } from "./tally.ts";

const LEASE_MS = 60_000;
/**
 * After the first failure, and twice as long after each of the next, up to 40 minutes. Source: quay-behaviour reference,
 * section 8. Quay gives up after five; then what was deleted would keep its space for ever.
 */
const RETRY_MS = 300_000;
/** A store that is away is not the job's fault. */
const AWAY_MS = 60_000;

/** Gives the milliseconds until it is time, where what was deleted can still be restored. */
type Purge = (app: PurgeApp, id: number, tally: Tally, signal: AbortSignal) => Promise<number | undefined>;

const PURGES = {
  repositorygc: (app, id, tally, signal) => purgeRepository(app, id, tally, signal),
  namespacegc: (app, id, tally, signal) => purgeNamespace(app, id, tally, signal),
} satisfies Partial<Record<QueueName, Purge>>;

export type PurgeQueue = keyof typeof PURGES;

/** Runs the jobs of these queues that are due. Throws when the database does not answer. */
export async function purgeDeleted(
  app: PurgeApp,
  queues: readonly PurgeQueue[],
  tally: Tally,
  signal: AbortSignal,
): Promise<void> {
  for (const queue of queues) {
    for (;;) {
      if (signal.aborted) return;
      const job = await takeJob(app.db, queue, { leaseMs: LEASE_MS, isNeverGivenUp: true });
      if (!job) break;
      await run(app, queue, job, tally, signal);
    }
  }
}

async function run(app: PurgeApp, queue: PurgeQueue, job: TakenJob, tally: Tally, stopped: AbortSignal): Promise<void> {
  const lease = new JobLease(app, job, LEASE_MS, stopped);
  try {
    const id = Number(queue === "repositorygc" ? job.payload.repositoryId : job.payload.namespaceId);
    const leftMs = await PURGES[queue](app, id, tally, lease.signal);
    if (leftMs !== undefined) return await postponeJob(app.db, job, leftMs);
    await app.db.tx((tx) => finishJob(tx, job));
  } catch (error) {
    if (lease.isLost) return;
    if (stopped.aborted) return await postponeJob(app.db, job, 0);
    const fields = { queue, ...job.payload, ...errorFields(error) };
    if (error instanceof RegistryError && error.code === "unavailable") {
      app.log.info("the removal of what was deleted waits for a store", fields);
      return await postponeJob(app.db, job, AWAY_MS);
    }
    tally.failures++;
    const retryMs = RETRY_MS * 2 ** (JOB_ATTEMPTS - 1 - job.attemptsLeft);
    await failJob(app.db, job, retryMs);
    app.log.error("cannot remove what was deleted", { ...fields, retryMs });
  } finally {
    lease.end();
  }
}
