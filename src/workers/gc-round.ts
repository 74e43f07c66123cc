/**
 * One round of all that garbage collection is: auto-prune policies, what was deleted as a whole, and what nothing keeps any
 * more, as far as the config turns them on. Workers repeat it, `berth gc` does it once.
 */

import type { App } from "../app.ts";
import { noteDefaultPolicy } from "../domain/autoprune/due.ts";
import { pruneNext } from "../domain/autoprune/prune.ts";
import { collected } from "../domain/gc/features.ts";
import { type PurgeQueue, purgeDeleted } from "../domain/gc/jobs.ts";
import { collect } from "../domain/gc/round.ts";
import { Tally } from "../domain/gc/tally.ts";
import { noteRound } from "../domain/gc/totals.ts";
import { errorFields } from "../observe/logger.ts";

export type GcApp = Pick<App, "config" | "db" | "storage" | "clock" | "log">;

/** What the config turns on. */
function queuesOf({ config }: Pick<App, "config">): PurgeQueue[] {
  const { repositories, namespaces } = collected(config);
  return [...(repositories ? (["repositorygc"] as const) : []), ...(namespaces ? (["namespacegc"] as const) : [])];
}

/** True where this config leaves anything to collect. */
export function collectsAnything({ config }: Pick<App, "config">): boolean {
  return Object.values(collected(config)).includes(true);
}

/** Collects until nothing is due or `signal` says to stop. What fails is logged and counted in the tally. */
export async function runRound(app: GcApp, signal: AbortSignal): Promise<Tally> {
  const tally = new Tally();
  const on = collected(app.config);
  try {
    await noteRound(app.db, tally, async () => {
      if (on.auto_prune) await prune(app, signal);
      await purgeDeleted(app, queuesOf(app), tally, signal);
      if (on.garbage_collection) await collect(app, tally, signal);
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
