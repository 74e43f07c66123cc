/**
 * Walks a location from the first blob to the last that there was when the pass began, in small steps whose end stands in the
 * pass's row: killed anywhere it goes on there, on this instance or another.
 */

import type { TokenBucket } from "../../lib/token-bucket.ts";
import { errorFields } from "../../observe/logger.ts";
import { NOWHERE } from "../blob/bad-copies.ts";
import { type KnownCopy, listPage, noteLost, type Page, takeRetries } from "./copies.ts";
import { examineCopy, type Outcome, type ScrubApp, type ScrubEvent } from "./examine.ts";
import { type Counts, endPass, keepPass, LEASE_MS, leavePass, type Pass, savePass } from "./lease.ts";

/** Blobs listed at once. */
const PAGE = 200;
/** How far a pass has come is written down so often, and read again after a crash. */
const SAVE_MS = 2000;
/** Copies in a row that cannot be read, although the store says that it works: it does not. */
const UNREADABLE_MAX = 10;
/** Repairs that are due, in one round. */
const RETRIES = 50;

export interface PassOptions {
  /** Ends it where it is; whoever comes next goes on. */
  readonly signal: AbortSignal;
  readonly budget: TokenBucket | undefined;
  readonly report: (event: ScrubEvent) => void;
  /** Told whenever the progress is written down. */
  readonly onProgress?: (pass: Pass) => void;
}

/** `away`: the store cannot be read now, and the pass goes on later; `lost`: another scrubber has taken it over. */
export type PassEnd = "done" | "stopped" | "away" | "lost";

/** Runs a pass that was taken. Throws when the database does not answer; the lease ends by itself then. */
export async function runPass(
  app: ScrubApp,
  pass: Pass,
  options: PassOptions,
): Promise<{ end: PassEnd; counts: Counts }> {
  const run = new PassRun(app, pass, options);
  try {
    return { end: await run.walk(), counts: run.pass.counts };
  } finally {
    run.close();
  }
}

/** Tries again to repair what is out of service, as far as it is due. Gives how many copies were looked at. */
export async function runRepairs(app: ScrubApp, location: string, options: PassOptions): Promise<number> {
  const copies = await takeRetries(app, location, RETRIES);
  for (const copy of copies) {
    if (options.signal.aborted || (await examineCopy(app, copy, options)) === "away") break;
  }
  return copies.length;
}

class PassRun {
  pass: Pass;
  readonly #app: ScrubApp;
  readonly #options: PassOptions;
  readonly #lost = new AbortController();
  readonly #signal: AbortSignal;
  readonly #timer: ReturnType<typeof setInterval>;
  #keptMs = performance.now();
  #savedMs = performance.now();
  #unreadableInRow = 0;
  /** As it was before the copies in a row that cannot be read. */
  #readable: Pass;

  constructor(app: ScrubApp, pass: Pass, options: PassOptions) {
    this.pass = pass;
    this.#readable = pass;
    this.#app = app;
    this.#options = {
      ...options,
      report: (event) => {
        if (event.kind === "read") this.#count({ bytes: event.sizeBytes });
        options.report(event);
      },
    };
    this.#signal = AbortSignal.any([options.signal, this.#lost.signal]);
    this.#timer = setInterval(() => void this.#keep(), LEASE_MS / 3);
  }

  async walk(): Promise<PassEnd> {
    try {
      for (;;) {
        const { location, afterId, lastId } = this.pass;
        const page = await listPage(this.#app.db, location, { afterId, lastId, limit: PAGE });
        if (page.lastBlobId === undefined) break;
        if ((await this.#look(page)) === "away") return await this.#leave("away");
        this.pass = { ...this.pass, afterId: page.lastBlobId };
        await this.#save();
      }
    } catch (error) {
      if (this.#lost.signal.aborted) return "lost";
      if (this.#options.signal.aborted) return await this.#leave("stopped");
      throw error;
    }
    return (await endPass(this.#app.db, this.pass)) ? "done" : "lost";
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(page: Page): Promise<"done" | "away"> {
    for (const blob of page.lost) {
      if (!(await noteLost(this.#app, blob))) continue;
      this.#app.log.error("a blob that repositories link is recorded in no store", { digest: blob.digest });
      this.#count({ bad: 1 });
      this.#options.report({ kind: "bad", location: NOWHERE, digest: blob.digest, bad: "lost" });
    }
    for (const copy of page.copies) {
      this.#signal.throwIfAborted();
      const outcome = await examineCopy(this.#app, copy, { ...this.#options, signal: this.#signal });
      if (outcome === "away" || this.#isAway(outcome)) return "away";
      this.#countOutcome(copy, outcome);
      this.pass = { ...this.pass, afterId: copy.blobId };
      if (performance.now() - this.#savedMs > SAVE_MS) await this.#save();
    }
    return "done";
  }

  /** True when so much cannot be read that it must be the store: those copies are read again when the pass goes on. */
  #isAway(outcome: Outcome): boolean {
    if (outcome !== "unreadable") this.#unreadableInRow = 0;
    else if (this.#unreadableInRow++ === 0) this.#readable = this.pass;
    if (this.#unreadableInRow < UNREADABLE_MAX) return false;
    this.pass = this.#readable;
    return true;
  }

  #countOutcome({ isBad }: KnownCopy, outcome: Outcome): void {
    this.#count({
      blobs: 1,
      bad: outcome === "bad" || outcome === "repaired" || (isBad && outcome === "unreadable") ? 1 : 0,
      repaired: outcome === "repaired" ? 1 : 0,
      unreadable: outcome === "unreadable" ? 1 : 0,
    });
  }

  #count(more: Partial<Counts>): void {
    const { counts } = this.pass;
    this.pass = {
      ...this.pass,
      counts: {
        blobs: counts.blobs + (more.blobs ?? 0),
        bytes: counts.bytes + (more.bytes ?? 0),
        bad: counts.bad + (more.bad ?? 0),
        repaired: counts.repaired + (more.repaired ?? 0),
        unreadable: counts.unreadable + (more.unreadable ?? 0),
      },
    };
  }

  async #save(): Promise<void> {
    this.#savedMs = performance.now();
    if (!(await savePass(this.#app.db, this.pass))) this.#lose();
    this.#keptMs = this.#savedMs;
    this.#options.onProgress?.(this.pass);
    this.#signal.throwIfAborted();
  }

  async #leave(why: "stopped" | "away"): Promise<PassEnd> {
    await leavePass(this.#app.db, this.pass, why);
    return why;
  }

  async #keep(): Promise<void> {
    const askedMs = performance.now();
    try {
      if (await keepPass(this.#app.db, this.pass)) this.#keptMs = askedMs;
      else this.#lose();
    } catch (error) {
      this.#app.log.warn("cannot renew the lease of a scrub", { location: this.pass.location, ...errorFields(error) });
      // Somebody else may have it by now.
      if (performance.now() - this.#keptMs > LEASE_MS) this.#lose();
    }
  }

  #lose(): void {
    this.close();
    this.#lost.abort(new Error("another scrubber has this location"));
  }
}
