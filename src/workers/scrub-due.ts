/** Whether there is anything to scrub: all that `berth serve` needs of it while nothing is due. */

import type { App } from "../app.ts";
import { type Due, isLocationDue, noteLocations } from "../domain/scrub/lease.ts";
import type { SpawnOptions } from "./spawn.ts";
import { workWhenDue } from "./when-due.ts";

type DueApp = Pick<App, "config" | "db" | "storage" | "log">;

/** Asking whether something is due costs a query for each location. */
const POLL_MS_MAX = 60_000;

/** True where this config has blobs read again in the background. */
export function scrubsAnything({ config }: Pick<App, "config">): boolean {
  return config.FEATURE_SCRUB;
}

/** Has a worker of `berth serve` as long as there is something to read. */
export function scrubWhenDue(app: DueApp, options: Omit<SpawnOptions, "work">): () => Promise<void> {
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

export function dueOf({ config, storage }: Pick<DueApp, "config" | "storage">, location: string): Due {
  return {
    intervalMs: config.SCRUB_PASS_INTERVAL_SECONDS * 1000,
    isFar: location !== storage.preferred.location,
  };
}

/** A short interval, as in tests, is looked after more often. */
export function pollMs({ config }: Pick<App, "config">): number {
  return Math.min(POLL_MS_MAX, Math.max(1000, config.SCRUB_PASS_INTERVAL_SECONDS * 100));
}
