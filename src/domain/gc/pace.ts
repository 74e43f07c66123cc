/**
 * How fast a round goes. After each transaction it rests as long as that took, so that whoever writes meanwhile gets every
 * other turn, and much longer while others change something: collection has time, and a push has not.
 */

import type { Database } from "../../db/db.ts";

/** Bound of a rest while nobody else is at work, and as many times what the work took. */
const REST_MS_MAX = 50;
/** The same while others are. 10,000 blobs a minute are collected all the same: NOTES.md. */
const BUSY_REST_MS_MAX = 300;
const BUSY_RESTS = 6;
/** Others are at work for so long after something of theirs was heard: a manifest that was pushed, a tag that was moved. */
const BUSY_MS = 2000;

export class Pace {
  readonly #db: Database;
  readonly #unsubscribe: () => void;
  #isWorking = false;
  #heardMs = Number.NEGATIVE_INFINITY;

  constructor(db: Database) {
    this.#db = db;
    this.#unsubscribe = db.onChanged(() => {
      // What is told while we work may be our own.
      if (!this.#isWorking) this.#heardMs = performance.now();
    });
  }

  /** Runs a short piece of work, and rests unless that found nothing to do (0 or false). */
  async run<Found extends number | boolean>(work: () => Promise<Found>): Promise<Found> {
    const startedMs = performance.now();
    this.#isWorking = true;
    let found: Found;
    try {
      found = await work();
    } finally {
      this.#isWorking = false;
    }
    if (found) await this.#rest(performance.now() - startedMs);
    return found;
  }

  end(): void {
    this.#unsubscribe();
  }

  async #rest(tookMs: number): Promise<void> {
    const restMs = Math.min(tookMs, REST_MS_MAX);
    await Bun.sleep(restMs);
    this.#db.checkChanges();
    if (performance.now() - this.#heardMs > BUSY_MS) return;
    await Bun.sleep(Math.min(tookMs * BUSY_RESTS, BUSY_REST_MS_MAX) - restMs);
  }
}
