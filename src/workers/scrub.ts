/**
 * The loop of the scrub: for each location, repairs that are due and the pass that is. It runs in a Bun worker of `berth serve`
 * while there is something to read, and in `berth worker`.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { App } from "../app.ts";
import type { ScrubApp, ScrubEvent } from "../domain/scrub/examine.ts";
import { type Due, isLocationDue, noteLocations, takePass } from "../domain/scrub/lease.ts";
import { type PassOptions, runPass, runRepairs } from "../domain/scrub/pass.ts";
import { TokenBucket } from "../lib/token-bucket.ts";
import { errorFields } from "../observe/logger.ts";
import type { WorkerEvent } from "./messages.ts";
import type { SpawnOptions } from "./spawn.ts";
import { workWhenDue } from "./when-due.ts";

/** Asking whether something is due costs a query for each location. */
const POLL_MS_MAX = 60_000;
/** A worker of `berth serve` that finds nothing more ends after ten such looks. */
const IDLE_MS = 1000;
/** What may be read at once after a pause, so that a timer that is late costs nothing. */
const BURST_MS = 250;
/** Bytes that were read are told so often. */
const TELL_MS = 1000;

/** True where this config has blobs read again in the background. */
export function scrubsAnything({ config }: Pick<App, "config">): boolean {
  return config.FEATURE_SCRUB;
}

/** The bytes a second that all locations of this process share; undefined reads as fast as it can. */
export function scrubBudget(bytesPerSecond: number): TokenBucket | undefined {
  return bytesPerSecond === 0 ? undefined : new TokenBucket({ ratePerSecond: bytesPerSecond, burstMs: BURST_MS });
}

type Report = (event: WorkerEvent) => void;

/** Looks every `idleMs` while it finds nothing. */
export function startScrub(app: ScrubApp, report: Report, idleMs = pollMs(app)): { stop(): Promise<void> } {
  const stopped = new AbortController();
  const { signal } = stopped;
  const told = new Telling(report);
  const options: PassOptions = {
    signal,
    budget: scrubBudget(app.config.SCRUB_BYTES_PER_SECOND),
    report: (event) => told.tell(event),
  };

  async function round(): Promise<void> {
    const found = await Promise.all(app.storage.locations.map((location) => scrub(app, location, options)));
    told.flush();
    report({ of: "scrub", isIdle: !found.includes(true) });
  }

  async function loop(): Promise<void> {
    while (!signal.aborted) {
      await round();
      await delay(idleMs * (0.75 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
    }
  }

  const looping = loop();
  return {
    async stop() {
      stopped.abort(new Error("the worker stops"));
      await looping;
    },
  };
}

/** Has a worker of `berth serve` as long as there is something to read. */
export function scrubWhenDue(app: ScrubApp, options: Omit<SpawnOptions, "work">): () => Promise<void> {
  let areNoted = false;
  return workWhenDue(app, {
    ...options,
    work: "scrub",
    everyMs: pollMs(app),
    isDue: async () => {
      if (!areNoted) await noteLocations(app.db, app.storage.locations);
      areNoted = true;
      for (const location of app.storage.locations) {
        if (await isLocationDue(app.db, location, dueOf(app, location))) return true;
      }
      return false;
    },
  });
}

/** In the worker of `berth serve`: it ends soon after its work does. */
export function startScrubOnce(app: ScrubApp, report: Report): { stop(): Promise<void> } {
  return startScrub(app, report, IDLE_MS);
}

/** False when there was nothing to do. A location that fails keeps no other from being read. */
async function scrub(app: ScrubApp, location: string, options: PassOptions): Promise<boolean> {
  try {
    await noteLocations(app.db, [location]);
    const repairs = await runRepairs(app, location, options);
    const pass = await takePass(app.db, location, dueOf(app, location));
    if (!pass) return repairs > 0;
    app.log.info("compares blobs with their digests", { location, afterId: pass.afterId, lastId: pass.lastId });
    const { end, counts } = await runPass(app, pass, options);
    app.log.info("has compared blobs with their digests", { location, end, ...counts });
    return true;
  } catch (error) {
    if (!options.signal.aborted) app.log.error("a scrub ended early", { location, ...errorFields(error) });
    return false;
  }
}

function dueOf({ config, storage }: ScrubApp, location: string): Due {
  return {
    intervalMs: config.SCRUB_PASS_INTERVAL_SECONDS * 1000,
    isFar: location !== storage.preferred.location,
  };
}

/** A short interval, as in tests, is looked after more often. */
function pollMs({ config }: Pick<App, "config">): number {
  return Math.min(POLL_MS_MAX, Math.max(1000, config.SCRUB_PASS_INTERVAL_SECONDS * 100));
}

/** Tells of bytes once a second instead of for each piece that was read. */
class Telling {
  readonly #report: Report;
  readonly #bytes = new Map<string, number>();
  #toldMs = performance.now();

  constructor(report: Report) {
    this.#report = report;
  }

  tell(event: ScrubEvent): void {
    if (event.kind !== "read") {
      this.#report({ of: "scrub", event });
      return;
    }
    this.#bytes.set(event.location, (this.#bytes.get(event.location) ?? 0) + event.sizeBytes);
    if (performance.now() - this.#toldMs > TELL_MS) this.flush();
  }

  flush(): void {
    this.#toldMs = performance.now();
    for (const [location, sizeBytes] of this.#bytes) {
      this.#report({ of: "scrub", event: { kind: "read", location, sizeBytes } });
    }
    this.#bytes.clear();
  }
}
