/**
 * One round of all that garbage collection is: auto-prune policies, what was deleted as a whole, and what nothing keeps any
 * more, as far as the config turns them on. Workers repeat it, `berth gc` does it once.
 */

import type { App } from "../app.ts";
import { noteDefaultPolicy } from "../domain/autoprune/due.ts";
import { pruneNext } from "../domain/autoprune/prune.ts";
import { type PurgeQueue, purgeDeleted } from "../domain/gc/jobs.ts";
import { collect } from "../domain/gc/round.ts";
import { Tally } from "../domain/gc/tally.ts";
import { noteRound } from "../domain/gc/totals.ts";
import { errorFields } from "../observe/logger.ts";

export type GcApp = Pick<App, "config" | "db" | "storage" | "clock" | "log">;

/** What the config turns on. */
function queuesOf({ config }: Pick<App, "config">): PurgeQueue[] {
  return [
    ...(config.FEATURE_REPOSITORY_GARBAGE_COLLECTION ? (["repositorygc"] as const) : []),
    ...(config.FEATURE_NAMESPACE_GARBAGE_COLLECTION ? (["namespacegc"] as const) : []),
  ];
}

/** True where this config leaves anything to collect. */
export function collectsAnything(app: Pick<App, "config">): boolean {
  return app.config.FEATURE_GARBAGE_COLLECTION || app.config.FEATURE_AUTO_PRUNE || queuesOf(app).length > 0;
}

/** Collects until nothing is due or `signal` says to stop. What fails is logged and counted in the tally. */
export async function runRound(app: GcApp, signal: AbortSignal): Promise<Tally> {
  const tally = new Tally();
  try {
    await noteRound(app.db, tally, async () => {
      if (app.config.FEATURE_AUTO_PRUNE) await prune(app, signal);
      await purgeDeleted(app, queuesOf(app), tally, signal);
      if (app.config.FEATURE_GARBAGE_COLLECTION) await collect(app, tally, signal);
    });
  } catch (error) {
    if (!signal.aborted) {
      tally.failures++;
      app.log.error("a round of garbage collection ended early", errorFields(error));
    }
  }
  return tally;
}

async function prune(app: GcApp, signal: AbortSignal): Promise<void> {
  await noteDefaultPolicy(app.db, app.config);
  while (!signal.aborted && (await pruneNext(app)));
}
