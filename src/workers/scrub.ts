/**
 * The loop of the scrub: for each location, repairs that are due and the pass that is. It runs in a Bun worker of `berth serve`
 * while there is something to read (`scrub-due.ts`), and in `berth worker`.
 */

import type { ScrubApp, ScrubEvent } from "../domain/scrub/examine.ts";
import { noteLocations, takePass } from "../domain/scrub/lease.ts";
import { type PassOptions, runPass, runRepairs } from "../domain/scrub/pass.ts";
import { TokenBucket } from "../lib/token-bucket.ts";
import { errorFields } from "../observe/logger.ts";
import type { WorkerEvent } from "./messages.ts";
import { type Looping, startRounds } from "./rounds.ts";
import { dueOf, pollMs } from "./scrub-due.ts";

/** A worker of `berth serve` that finds nothing more ends after ten such looks. */
const IDLE_MS = 1000;
/** What may be read at once after a pause, so that a timer that is late costs nothing. */
const BURST_MS = 250;
/** Bytes that were read are told so often. */
const TELL_MS = 1000;

/** The bytes a second that all locations of this process share; undefined reads as fast as it can. */
export function scrubBudget(bytesPerSecond: number): TokenBucket | undefined {
  return bytesPerSecond === 0 ? undefined : new TokenBucket({ ratePerSecond: bytesPerSecond, burstMs: BURST_MS });
}

type Report = (event: WorkerEvent) => void;

/** Looks every `idleMs` while it finds nothing. */
export function startScrub(app: ScrubApp, report: Report, idleMs = pollMs(app)): Looping {
  const told = new Telling(report);
  const budget = scrubBudget(app.config.SCRUB_BYTES_PER_SECOND);
  return startRounds(idleMs, async (signal) => {
    const options: PassOptions = { signal, budget, report: (event) => told.tell(event) };
    const found = await Promise.all(app.storage.locations.map((location) => scrub(app, location, options)));
    told.flush();
    report({ of: "scrub", isIdle: !found.includes(true) });
  });
}

/** In the worker of `berth serve`: it ends soon after its work does. */
export function startScrubOnce(app: ScrubApp, report: Report): Looping {
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
