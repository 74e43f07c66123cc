/**
 * The loop of garbage collection: every GARBAGE_COLLECTION_FREQUENCY auto-prune policies, what was deleted as a whole, and a
 * round of collection. It runs in a Bun worker of `berth serve` while there is something to collect, and in `berth worker`.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { App } from "../app.ts";
import { noteDefaultPolicy } from "../domain/autoprune/due.ts";
import { pruneNext } from "../domain/autoprune/prune.ts";
import { type PurgeQueue, purgeDeleted } from "../domain/gc/jobs.ts";
import { collect, isAnythingDue } from "../domain/gc/round.ts";
import { Tally } from "../domain/gc/tally.ts";
import { errorFields } from "../observe/logger.ts";
import type { WorkerEvent } from "./messages.ts";
import type { SpawnOptions } from "./spawn.ts";
import { workWhenDue } from "./when-due.ts";

type GcApp = Pick<App, "config" | "db" | "storage" | "clock" | "log">;

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

export function startGc(app: GcApp, report: (event: WorkerEvent) => void): { stop(): Promise<void> } {
  const stopped = new AbortController();
  const { signal } = stopped;
  const everyMs = app.config.GARBAGE_COLLECTION_FREQUENCY * 1000;

  async function prune(): Promise<void> {
    await noteDefaultPolicy(app.db, app.config);
    while (!signal.aborted && (await pruneNext(app)));
  }

  async function round(): Promise<void> {
    const tally = new Tally();
    try {
      if (app.config.FEATURE_AUTO_PRUNE) await prune();
      await purgeDeleted(app, queuesOf(app), tally, signal);
      if (app.config.FEATURE_GARBAGE_COLLECTION) await collect(app, tally, signal);
    } catch (error) {
      if (!signal.aborted) app.log.error("a round of garbage collection ended early", errorFields(error));
    }
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
  }

  async function loop(): Promise<void> {
    while (!signal.aborted) {
      await round();
      // Never exactly the same, so that instances do not look in step.
      await delay(everyMs * (0.75 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
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
      return isAnythingDue(app);
    },
  });
}
