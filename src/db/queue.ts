/**
 * Background work as rows. A job is queued in the transaction that makes it necessary, taken under a lease by whichever
 * instance is free, and ended in the transaction that makes it done. All times are the database's own clock, so that
 * instances whose clocks differ agree on what is due. What a job does is the business of its domain folder.
 */

import type { Database, Db, Tx } from "./db.ts";
import { toNumber } from "./decode.ts";

/** Names of queues are Quay's. Exports of the action log keep their place in a table of their own. */
export const QUEUES = [
  "namespacegc",
  "repositorygc",
  "exportactionlogs",
  "notification",
  "imagestoragereplication",
] as const;

export type QueueName = (typeof QUEUES)[number];

export type JobPayload = Record<string, string | number | boolean | null>;

export interface NewJob {
  readonly queue: QueueName;
  /** Jobs that wait for the same thing, such as a store; none by default. */
  readonly lane?: string;
  /** What the handler needs, as JSON; no secrets, an id where there is a row. */
  readonly payload: JobPayload;
  /** One job of a queue for each key: see `enqueue`. */
  readonly dedupeKey?: string;
  /** Earliest start from now; 0 by default. */
  readonly delayMs?: number;
}

/** A job that this worker holds until its lease ends. */
export interface TakenJob {
  readonly id: number;
  readonly queue: QueueName;
  readonly lane: string;
  readonly payload: JobPayload;
  /** Tries that are left when this one fails. */
  readonly attemptsLeft: number;
  /** Names this taking and no other, of the same worker neither: a job that was lost and taken again is not ours. */
  readonly owner: string;
}

interface JobRow {
  id: number;
  payload: string;
  attempts_left: number;
}

/** How often a job is tried before it is given up. Source: quay-behaviour reference, sections 11 and 12. */
export const JOB_ATTEMPTS = 5;
/** Due time of a job that was given up: it stays to be seen, and to be revived by the next who asks for it. */
const NEVER_MS = Number.MAX_SAFE_INTEGER;
/** A worker that dies loses no more than its lease, whatever the database does in a power cut. */
const LEASE = { durable: false } as const;

/**
 * Queues a job. One with its key that waits already stands for it; one that runs now will run again, since it may be past
 * what this one is about; one that was given up gets its tries back.
 */
export async function enqueue(tx: Tx, job: NewJob): Promise<void> {
  const { nowMs } = tx.dialect;
  await tx.sql`/* queue.put */
    insert into job (queue, lane, dedupe_key, payload, due_ms, attempts_left, created_ms)
    values (${job.queue}, ${job.lane ?? ""}, ${job.dedupeKey ?? null}, ${JSON.stringify(job.payload)},
            ${nowMs} + ${job.delayMs ?? 0}, ${JOB_ATTEMPTS}, ${nowMs})
    on conflict (queue, dedupe_key) where dedupe_key is not null do update
      set again = (coalesce(job.lease_until_ms, 0) > ${nowMs}),
          attempts_left = case when coalesce(job.lease_until_ms, 0) > ${nowMs} then job.attempts_left else ${JOB_ATTEMPTS} end,
          due_ms = case when coalesce(job.lease_until_ms, 0) > ${nowMs} then job.due_ms else excluded.due_ms end
      where job.attempts_left = 0 or coalesce(job.lease_until_ms, 0) > ${nowMs}`;
  tx.afterCommit(() => tx.stats.jobs.put(job.queue));
}

/**
 * Takes the job of the queue's lane that has been due longest, for `leaseMs`; undefined when none is due. It costs one of
 * the job's tries, so that a job that kills its workers ends too; its last one never runs out where it `isNeverGivenUp`.
 * Two workers never hold one job at once.
 */
export async function takeJob(
  db: Database,
  queue: QueueName,
  options: { readonly lane?: string; readonly leaseMs: number; readonly isNeverGivenUp?: boolean },
): Promise<TakenJob | undefined> {
  const lane = options.lane ?? "";
  const triesKept = options.isNeverGivenUp ? 1 : 0;
  const { nowMs, skipLocked } = db.dialect;
  // Looking costs no write lock, and most looks find nothing.
  const [due] = await db.sql`/* queue.look */
    select id from job where queue = ${queue} and lane = ${lane} and due_ms <= ${nowMs} and attempts_left > 0 limit 1`;
  if (!due) {
    db.stats.jobs.get(queue, "nonexistant");
    return undefined;
  }
  const owner = crypto.randomUUID();
  const [row] = await db.tx(
    async (tx) =>
      await tx.sql<JobRow>`/* queue.take */
      update job
      set lease_owner = ${owner}, lease_until_ms = ${nowMs} + ${options.leaseMs}, due_ms = ${nowMs} + ${options.leaseMs},
          attempts_left = case when attempts_left > ${triesKept} then attempts_left - 1 else ${triesKept} end, again = false
      where id = (
        select id from job
        where queue = ${queue} and lane = ${lane} and due_ms <= ${nowMs} and attempts_left > 0
        order by due_ms, id limit 1 ${skipLocked})
        and due_ms <= ${nowMs} and attempts_left > 0
      returning id, payload, attempts_left`,
    LEASE,
  );
  db.stats.jobs.get(queue, row ? "acquired" : "claimed");
  if (!row) return undefined;
  return takenOf(row, queue, lane, owner);
}

/** Takes the one job with this key, whoever else waits before it; undefined when there is none, or it is not due. */
export async function takeJobOf(
  db: Database,
  queue: QueueName,
  dedupeKey: string,
  leaseMs: number,
): Promise<TakenJob | undefined> {
  const owner = crypto.randomUUID();
  const { nowMs } = db.dialect;
  const [row] = await db.tx(
    async (tx) =>
      await tx.sql<JobRow & { lane: string }>`/* queue.take_one */
      update job
      set lease_owner = ${owner}, lease_until_ms = ${nowMs} + ${leaseMs}, due_ms = ${nowMs} + ${leaseMs},
          attempts_left = attempts_left - 1, again = false
      where queue = ${queue} and dedupe_key = ${dedupeKey} and due_ms <= ${nowMs} and attempts_left > 0
      returning id, lane, payload, attempts_left`,
    LEASE,
  );
  db.stats.jobs.get(queue, row ? "acquired" : "nonexistant");
  if (!row) return undefined;
  return takenOf(row, queue, row.lane, owner);
}

function takenOf(row: JobRow, queue: QueueName, lane: string, owner: string): TakenJob {
  const payload = JSON.parse(row.payload) as JobPayload;
  return { id: toNumber(row.id), queue, lane, payload, attemptsLeft: toNumber(row.attempts_left), owner };
}

/** Keeps a job for `leaseMs` from now. False when it is not ours any more: what runs must stop. */
export async function renewJob(db: Database, job: TakenJob, leaseMs: number): Promise<boolean> {
  const { nowMs } = db.dialect;
  const rows = await db.tx(
    async (tx) =>
      await tx.sql`/* queue.renew */
      update job set lease_until_ms = ${nowMs} + ${leaseMs}, due_ms = ${nowMs} + ${leaseMs}
      where id = ${job.id} and lease_owner = ${job.owner} returning id`,
    LEASE,
  );
  return rows.length > 0;
}

/**
 * Ends a job that is done, in the transaction that makes it so. When it was asked for again meanwhile it waits anew. False
 * when it was not ours any more.
 */
export async function finishJob(tx: Tx, job: TakenJob): Promise<boolean> {
  const ended = await tx.sql`/* queue.end */
    delete from job where id = ${job.id} and lease_owner = ${job.owner} and again = ${false} returning id`;
  if (ended.length > 0) {
    tx.afterCommit(() => tx.stats.jobs.delete(1));
    return true;
  }
  const { nowMs } = tx.dialect;
  const waits = await tx.sql`/* queue.run_again */
    update job set lease_owner = null, lease_until_ms = null, due_ms = ${nowMs}, created_ms = ${nowMs}, again = false,
                   attempts_left = ${JOB_ATTEMPTS}
    where id = ${job.id} and lease_owner = ${job.owner} returning id`;
  return waits.length > 0;
}

/** Notes that a try has failed: it is due again after `retryMs`, or was given up because it was the last. */
export async function failJob(db: Database, job: TakenJob, retryMs: number): Promise<"waits" | "given-up"> {
  const { nowMs } = db.dialect;
  const [row] = await db.tx(
    async (tx) =>
      await tx.sql<{ attempts_left: number }>`/* queue.fail */
      update job
      set due_ms = case when attempts_left > 0 or again then ${nowMs} + ${retryMs} else ${NEVER_MS} end,
          attempts_left = case when again then ${JOB_ATTEMPTS} else attempts_left end,
          lease_owner = null, lease_until_ms = null, again = false
      where id = ${job.id} and lease_owner = ${job.owner} returning attempts_left`,
  );
  return row && toNumber(row.attempts_left) === 0 ? "given-up" : "waits";
}

/** Makes a job that waits due now; one that runs, or was given up, is left as it is. */
export async function hastenJob(tx: Tx, queue: QueueName, dedupeKey: string): Promise<void> {
  const { nowMs } = tx.dialect;
  await tx.sql`/* queue.hasten */
    update job set due_ms = ${nowMs}
    where queue = ${queue} and dedupe_key = ${dedupeKey} and attempts_left > 0 and coalesce(lease_until_ms, 0) <= ${nowMs}`;
}

/** Takes back a job that has lost its reason. Who works on it finds that out for itself. */
export async function withdrawJob(tx: Tx, queue: QueueName, dedupeKey: string): Promise<void> {
  await tx.sql`/* queue.withdraw */ delete from job where queue = ${queue} and dedupe_key = ${dedupeKey}`;
}

/**
 * Gives a job back without having tried it, for `delayMs`: what it needs is away, or this worker stops. One that was asked for
 * again meanwhile is due at once: what it was found to wait for may have changed.
 */
export async function postponeJob(db: Database, job: TakenJob, delayMs: number): Promise<void> {
  const { nowMs } = db.dialect;
  await db.tx(async (tx) => {
    await tx.sql`/* queue.postpone */
      update job
      set due_ms = case when again then ${nowMs} else ${nowMs} + ${delayMs} end, attempts_left = attempts_left + 1,
          lease_owner = null, lease_until_ms = null, again = false
      where id = ${job.id} and lease_owner = ${job.owner}`;
  });
}

export interface QueueCounts {
  readonly queue: string;
  readonly lane: string;
  /** Jobs that are there, whether or not somebody works on them. */
  readonly total: number;
  /** Of these, taken by a worker. */
  readonly locked: number;
  /** Of these, given up. */
  readonly givenUp: number;
  /** How long the oldest has been there. */
  readonly oldestMs: number;
}

/** A lane, and how many of its jobs could be taken now: those that are put off, tried again later or given up are none. */
export interface LaneCounts extends QueueCounts {
  readonly due: number;
}

/**
 * What stands in one lane of a queue, of its oldest `max` jobs: reads no further, in indexes, so that whoever asks every few
 * seconds costs the same however many wait.
 */
export async function countJobsUpTo(db: Db, queue: QueueName, lane: string, max: number): Promise<LaneCounts> {
  const { nowMs } = db.dialect;
  const [row] = await db.sql<
    Record<"total" | "locked" | "due" | "given_up" | "oldest_ms", unknown>
  >`/* queue.count_some */
    select count(*) as total,
           (select count(*) from (select 1 as one from job where queue = ${queue} and lane = ${lane} and due_ms <= ${nowMs}
                                  limit ${max}) ready) as due,
           count(*) filter (where lease_until_ms > ${nowMs}) as locked,
           count(*) filter (where attempts_left = 0 and coalesce(lease_until_ms, 0) <= ${nowMs}) as given_up,
           coalesce(${nowMs} - min(created_ms), 0) as oldest_ms
    from (select created_ms, lease_until_ms, attempts_left from job
          where queue = ${queue} and lane = ${lane} order by created_ms limit ${max}) oldest`;
  return {
    queue,
    lane,
    total: toNumber(row?.total ?? 0),
    locked: toNumber(row?.locked ?? 0),
    due: toNumber(row?.due ?? 0),
    givenUp: toNumber(row?.given_up ?? 0),
    oldestMs: Math.max(0, toNumber(row?.oldest_ms ?? 0)),
  };
}

/** What stands in the queues: reads one index from end to end, so ask now and then and not for every request. */
export async function countJobs(db: Db): Promise<QueueCounts[]> {
  const { nowMs } = db.dialect;
  const rows = await db.sql<Record<"queue" | "lane", string> & Record<string, unknown>>`/* queue.count */
    select queue, lane, count(*) as total,
           count(*) filter (where lease_until_ms > ${nowMs}) as locked,
           count(*) filter (where attempts_left = 0 and coalesce(lease_until_ms, 0) <= ${nowMs}) as given_up,
           ${nowMs} - min(created_ms) as oldest_ms
    from job group by queue, lane order by queue, lane`;
  return rows.map((row) => ({
    queue: row.queue,
    lane: row.lane,
    total: toNumber(row.total),
    locked: toNumber(row.locked),
    givenUp: toNumber(row.given_up),
    oldestMs: Math.max(0, toNumber(row.oldest_ms)),
  }));
}
