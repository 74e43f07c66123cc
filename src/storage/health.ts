/**
 * Whether one store can be used now: a circuit that opens at the first `unavailable` and closes when a probe succeeds. It
 * only remembers and probes; who goes elsewhere meanwhile is decided in `placement.ts`.
 */

import { RegistryError } from "../errors.ts";
import type { Logger } from "../observe/logger.ts";

export interface LocationHealthOptions {
  readonly location: string;
  /** Throws when the store cannot be used. */
  readonly probe: () => Promise<void>;
  readonly log: Logger;
}

/** The first pause after a failure: a hiccup costs a second. */
const PAUSE_MIN_MS = 1000;
/** Longest pause between probes of a store that stays away: how late its return may be noticed. */
const PAUSE_MAX_MS = 15_000;
/** One that fails again so soon after a good probe goes on with its last pause: some stores answer and do not work. */
const RELAPSE_MS = 60_000;
/** How often a store that seems well is probed: clients that are redirected do not tell us when it is not. */
const WATCH_MS = 5000;
/** A probe without an answer has failed: later than a store that is merely busy takes. */
const PROBE_TIMEOUT_MS = 10_000;
/** A full store takes no new uploads for this long, and is read as before. */
const FULL_MS = 30_000;

export class LocationHealth {
  readonly #options: LocationHealthOptions;
  #isUp = true;
  /** What a probe has thrown, so that the first failure was no hiccup. */
  #confirmed: RegistryError | undefined;
  #pauseMs = PAUSE_MIN_MS;
  #upAtMs = Number.NEGATIVE_INFINITY;
  #fullAtMs = Number.NEGATIVE_INFINITY;
  #isWatched = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #probing: Promise<void> | undefined;

  constructor(options: LocationHealthOptions) {
    this.#options = options;
  }

  /** False from the first failure until a probe succeeds. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /** True when a probe has failed: more than one call that went wrong. */
  get isDown(): boolean {
    return !this.#isUp && this.#confirmed !== undefined;
  }

  /** A new upload may begin here. */
  get takesUploads(): boolean {
    return this.#isUp && performance.now() - this.#fullAtMs > FULL_MS;
  }

  /** Takes note of what a call to the store threw; errors that say nothing of its health are passed over. */
  failed(error: unknown): void {
    if (!(error instanceof RegistryError)) return;
    if (error.code === "storage_full") this.#fullAtMs = performance.now();
    if (error.code === "unavailable") this.#goDown(error);
  }

  /** Probes it from now on, at once and while it is well too. */
  watch(): void {
    this.#isWatched = true;
    void this.#probe();
  }

  /** Throws what is wrong with it: known from its probes when it is watched and away, else from a probe now. */
  async check(): Promise<void> {
    if (this.#isWatched && !this.#isUp && this.#confirmed) throw this.#confirmed;
    return this.#ask();
  }

  async #ask(): Promise<void> {
    try {
      await withTimeout(this.#options.probe(), this.#options.location);
    } catch (error) {
      const known = error instanceof RegistryError ? error : new RegistryError("unavailable", { cause: error });
      this.#goDown(known);
      this.#confirmed = known;
      throw known;
    }
    this.#comeUp();
  }

  close(): void {
    this.#isWatched = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #goDown(error: RegistryError): void {
    if (!this.#isUp) return;
    const isRelapse = performance.now() - this.#upAtMs < RELAPSE_MS;
    this.#pauseMs = isRelapse ? Math.min(this.#pauseMs * 2, PAUSE_MAX_MS) : PAUSE_MIN_MS;
    this.#isUp = false;
    this.#confirmed = undefined;
    const cause = error.cause instanceof Error ? { cause: error.cause.message } : {};
    this.#options.log.warn("a store cannot be used", {
      location: this.#options.location,
      error: error.message,
      ...cause,
    });
    this.#probeIn(this.#pauseMs);
  }

  #comeUp(): void {
    if (this.#isUp) return;
    this.#isUp = true;
    this.#upAtMs = performance.now();
    this.#options.log.info("a store can be used again", { location: this.#options.location });
    if (this.#isWatched) this.#probeIn(WATCH_MS);
  }

  #probeIn(delayMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#probe();
    }, delayMs);
    // Nobody is kept from ending by a store that is away.
    this.#timer.unref();
  }

  #probe(): Promise<void> {
    this.#probing ??= this.#probeOnce().finally(() => {
      this.#probing = undefined;
    });
    return this.#probing;
  }

  async #probeOnce(): Promise<void> {
    // A call that changed its state meanwhile has set the timer; when that went off beside this probe, it began no other one.
    try {
      await this.#ask();
      if (this.#isWatched && this.#timer === undefined) this.#probeIn(WATCH_MS);
    } catch {
      if (this.#timer !== undefined) return;
      this.#pauseMs = Math.min(this.#pauseMs * 2, PAUSE_MAX_MS);
      this.#probeIn(this.#pauseMs);
    }
  }
}

async function withTimeout(work: Promise<void>, location: string): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    const message = `the store "${location}" did not answer a probe within ${PROBE_TIMEOUT_MS} ms`;
    reject(new RegistryError("unavailable", { message }));
  }, PROBE_TIMEOUT_MS);
  try {
    await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
