/** Background work as rows: a job is queued in the transaction that makes it necessary. Taking and running them is the workers'. */

import type { Tx } from "./db.ts";

/** Names of queues are Quay's. */
export type QueueName = "namespacegc" | "repositorygc" | "exportactionlogs" | "notification";

export interface NewJob {
  queue: QueueName;
  /** What the handler needs, as JSON; no secrets, an id where there is a row. */
  payload: Record<string, string | number | boolean | null>;
  /** One waiting job of a queue for each key; a second one is not queued. */
  dedupeKey?: string;
  /** Earliest start, epoch ms; now by default. */
  dueMs?: number;
  nowMs: number;
}

/** How often a job is tried before it is given up. Source: quay-behaviour reference, sections 11 and 12. */
const ATTEMPTS = 5;

/** Queues a job, unless one with its key waits already. */
export async function enqueue(tx: Tx, job: NewJob): Promise<void> {
  await tx.sql`/* queue.put */
    insert into job (queue, dedupe_key, payload, due_ms, attempts_left, created_ms)
    values (${job.queue}, ${job.dedupeKey ?? null}, ${JSON.stringify(job.payload)}, ${job.dueMs ?? job.nowMs},
            ${ATTEMPTS}, ${job.nowMs})
    on conflict do nothing`;
}
