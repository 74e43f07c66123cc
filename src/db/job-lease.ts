/** Keeps a job for as long as somebody works on it, and tells that one when it is lost. */

import { errorFields, type Logger } from "../observe/logger.ts";
import type { Database } from "./db.ts";
import { renewJob, type TakenJob } from "./queue.ts";

/** The lease is renewed this many times in its course, so that one slow answer of the database loses nothing. */
const RENEWALS = 3;

export class JobLease {
  /** Aborted when the job is another's, or `stopped` is. */
  readonly signal: AbortSignal;
  isLost = false;
  readonly #lost = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #app: { readonly db: Database; readonly log: Logger };
  readonly #job: TakenJob;
  readonly #durationMs: number;
  #keptMs = performance.now();

  /** The job was taken for `durationMs` just now. The caller ends the lease with `end`. */
  constructor(
    app: { readonly db: Database; readonly log: Logger },
    job: TakenJob,
    durationMs: number,
    stopped: AbortSignal,
  ) {
    this.#app = app;
    this.#job = job;
    this.#durationMs = durationMs;
    this.signal = AbortSignal.any([stopped, this.#lost.signal]);
    this.#timer = setInterval(() => void this.#renew(), durationMs / RENEWALS);
  }

  end(): void {
    clearInterval(this.#timer);
  }

  async #renew(): Promise<void> {
    const askedMs = performance.now();
    try {
      if (await renewJob(this.#app.db, this.#job, this.#durationMs)) this.#keptMs = askedMs;
      else this.#lose();
    } catch (error) {
      const { queue, payload } = this.#job;
      this.#app.log.warn("cannot renew the lease of a job", { queue, ...payload, ...errorFields(error) });
      // Somebody else may have it by now.
      if (performance.now() - this.#keptMs > this.#durationMs) this.#lose();
    }
  }

  #lose(): void {
    this.end();
    this.isLost = true;
    this.#lost.abort(new Error("the lease of this job is over"));
  }
}
