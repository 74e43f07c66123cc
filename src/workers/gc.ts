/**
 * The loop of garbage collection: every GARBAGE_COLLECTION_FREQUENCY auto-prune policies, what was deleted as a whole, and a
 * round of collection. It runs in a Bun worker of `berth serve` while there is something to collect, and in `berth worker`.
 */

import { noteDefaultPolicy } from "../domain/autoprune/due.ts";
import { collected } from "../domain/gc/features.ts";
import { isAnythingDue } from "../domain/gc/round.ts";
import { Tally } from "../domain/gc/tally.ts";
import { type GcApp, runRound } from "./gc-round.ts";
import type { WorkerEvent } from "./messages.ts";
import { type Looping, startRounds } from "./rounds.ts";
import type { SpawnOptions } from "./spawn.ts";
import { workWhenDue } from "./when-due.ts";

export { collectsAnything } from "./gc-round.ts";

export function startGc(app: GcApp, report: (event: WorkerEvent) => void): Looping {
  return startRounds(app.config.GARBAGE_COLLECTION_FREQUENCY * 1000, async (signal) => {
    const tally = await runRound(app, signal);
    const { rowsByTable, blobs, bytes, repositories, namespaces } = tally;
    report({ of: "gc", tally: { rowsByTable, blobs, bytes, repositories, namespaces }, isIdle: tally.isEmpty });
    if (tally.isEmpty) return;
    app.log.info("collected what nobody uses", {
      blobs,
      bytes,
      repositories,
      namespaces,
      rows: Object.fromEntries(rowsByTable),
    });
  });
}

/** Has a worker of `berth serve` as long as there is something to collect. */
export function collectWhenDue(app: GcApp, options: Omit<SpawnOptions, "work">): () => Promise<void> {
  let knowsDefault = false;
  return workWhenDue(app, {
    ...options,
    work: "gc",
    everyMs: app.config.GARBAGE_COLLECTION_FREQUENCY * 1000,
    isDue: async () => {
      if (!knowsDefault) await noteDefaultPolicy(app.db, app.config);
      knowsDefault = true;
      const isDue = await isAnythingDue(app);
      // A look that finds nothing is a round too: who watches quay_gc_iterations_total wants to see that somebody looks.
      const { garbage_collection: collects } = collected(app.config);
      if (!isDue && collects) options.onEvent({ of: "gc", tally: new Tally(), isIdle: true });
      return isDue;
    },
  });
}
