/**
 * The loop of the replication worker: takes jobs from the lanes of the stores that work, a few at once, until it is
 * stopped. It runs in a Bun worker of `berth serve`, in `berth worker` and in `berth storage copy`.
 */

import type { TakenJob } from "../db/queue.ts";
import type { CopyEvent } from "../domain/replication/copy.ts";
import { type ReplicationApp, runCopy, takeCopy } from "../domain/replication/run.ts";
import { errorFields } from "../observe/logger.ts";
import { pause } from "./rounds.ts";

/** Copies at once: what the network between two sites takes without leaving nothing for pulls. */
const COPIES_MAX = 4;
/** Quay looks every 10 s; a look that finds nothing is one read of an index here. */
const POLL_MS = 2000;
/** The database does not answer. */
const FAILED_MS = 5000;

export interface ReplicationWorker {
  /** Takes no new job, ends the running ones where they are and gives them back. */
  stop(): Promise<void>;
}

export function startReplication(app: ReplicationApp, report: (event: CopyEvent) => void): ReplicationWorker {
  const stopped = new AbortController();
  const running = new Set<Promise<void>>();
  // Lanes take turns, so that a store with a long queue does not keep the others waiting.
  let lanes = [...app.storage.locations];

  async function next(): Promise<TakenJob | undefined> {
    const job = await takeCopy(app, lanes);
    if (job) lanes = [...lanes.filter((lane) => lane !== job.lane), job.lane];
    return job;
  }

  async function run(job: TakenJob): Promise<void> {
    try {
      await runCopy(app, job, { signal: stopped.signal, report });
    } catch (error) {
      app.log.error("cannot note what became of a copy", errorFields(error));
    }
  }

  async function loop(): Promise<void> {
    while (!stopped.signal.aborted) {
      try {
        if (running.size >= COPIES_MAX) {
          await Promise.race(running);
          continue;
        }
        const job = await next();
        if (!job) {
          await pause(POLL_MS, stopped.signal);
          continue;
        }
        const copy: Promise<void> = run(job).finally(() => running.delete(copy));
        running.add(copy);
      } catch (error) {
        app.log.error("cannot take a copy from the queue", errorFields(error));
        await pause(FAILED_MS, stopped.signal);
      }
    }
  }

  const looping = loop();
  return {
    async stop() {
      stopped.abort(new Error("the worker stops"));
      await looping;
      await Promise.all(running);
    },
  };
}
