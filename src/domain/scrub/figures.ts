/** What metrics show of the scrub, remembered for a moment. */

import type { App } from "../../app.ts";
import type { BadCopyFigures, ScrubFigures, ScrubSource } from "../../observe/scrub-figures.ts";
import { countBadCopies, scrubStatus } from "./status.ts";

/** Several gauges of one scrape, and several scrapers, share one look. */
const REMEMBER_MS = 10_000;

interface Figures {
  readonly locations: readonly ScrubFigures[];
  readonly badCopies: readonly BadCopyFigures[];
}

/** After a failed look, the figures are left out until the next. */
const NOTHING: Figures = { locations: [], badCopies: [] };

type FiguresApp = Pick<App, "config" | "db" | "storage" | "log">;

export function scrubFigures(app: FiguresApp): ScrubSource {
  let known: { readonly atMs: number; readonly figures: Promise<Figures> } | undefined;

  function figures(): Promise<Figures> {
    const nowMs = performance.now();
    if (!known || nowMs - known.atMs > REMEMBER_MS) known = { atMs: nowMs, figures: look(app) };
    return known.figures;
  }

  return {
    locations: async () => (await figures()).locations,
    badCopies: async () => (await figures()).badCopies,
  };
}

async function look(app: FiguresApp): Promise<Figures> {
  try {
    const status = await scrubStatus(app);
    return {
      // Where nothing reads blobs again, an age would only be a false alarm.
      locations: status
        .filter(({ startedMs }) => app.config.FEATURE_SCRUB || startedMs !== undefined)
        .map(({ location, ageMs, isUnderWay, counts }) => ({
          location,
          ageSeconds: ageMs / 1000,
          isUnderWay,
          unreadable: counts.unreadable,
        })),
      badCopies: await countBadCopies(app.db),
    };
  } catch (error) {
    // A database that is away must not take the metrics with it.
    app.log.warn("cannot ask how the scrub stands", { error: String(error) });
    return NOTHING;
  }
}
