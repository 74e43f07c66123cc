/** The scrub as the API and `berth scrub --status --json` show it. Times are epoch ms, null for never. */

import type { App } from "../../app.ts";
import type { BadCopy, LocationStatus } from "./status.ts";

export function scrubView(config: App["config"], locations: readonly LocationStatus[], badCopies: readonly BadCopy[]) {
  return {
    enabled: config.FEATURE_SCRUB,
    bytes_per_second: config.SCRUB_BYTES_PER_SECOND,
    pass_interval_seconds: config.SCRUB_PASS_INTERVAL_SECONDS,
    locations: locations.map((each) => ({
      location: each.location,
      state: each.isUnderWay ? (each.isHeld ? ("running" as const) : ("waiting" as const)) : ("resting" as const),
      progress: each.progress,
      started_ms: each.startedMs ?? null,
      ended_ms: each.endedMs ?? null,
      last_full_ms: each.fullMs ?? null,
      age_seconds: Math.floor(each.ageMs / 1000),
      ...each.counts,
      bad_copies: Object.values(each.badCopies).reduce((sum, count) => sum + count, 0),
    })),
    bad_copies: badCopies.map(({ digest, location, kind, foundMs }) => ({ digest, location, kind, found_ms: foundMs })),
  };
}
