/**
 * The loop of quota counting: namespaces whose totals nobody kept, and every night a comparison of all totals. It runs in a
 * Bun worker of `berth serve` while there is something to count, and in `berth worker`.
 */

import type { App } from "../app.ts";
import { backfill } from "../domain/quota/backfill.ts";
import { countsTotals, isCountingDue, noteNamespaces, takeReconcile } from "../domain/quota/due.ts";
import { reconcile } from "../domain/quota/reconcile.ts";
import { QuotaTally } from "../domain/quota/tally.ts";
import { errorFields } from "../observe/logger.ts";
import type { WorkerEvent } from "./messages.ts";
import { type Looping, startRounds } from "./rounds.ts";
import type { SpawnOptions } from "./spawn.ts";
import { workWhenDue } from "./when-due.ts";

type QuotaApp = Pick<App, "config" | "db" | "log">;

export function startQuota(app: QuotaApp, report: (event: WorkerEvent) => void): Looping {
  return startRounds(app.config.QUOTA_BACKFILL_POLL_PERIOD * 1000, async (signal) => {
    const tally = new QuotaTally();
    try {
      if (await takeReconcile(app)) await reconcile(app, tally, signal);
      while (!signal.aborted && (await noteNamespaces(app)));
      while ((await backfill(app, app.config.QUOTA_BACKFILL_BATCH_SIZE, tally, signal)) > 0) signal.throwIfAborted();
    } catch (error) {
      if (!signal.aborted) app.log.error("a round of quota counting ended early", errorFields(error));
    }
    const { counted, compared, drifted } = tally;
    report({ of: "quota", counted, compared, drifted, isIdle: tally.isEmpty });
    if (!tally.isEmpty) app.log.info("counted what namespaces use", { counted, compared, drifted });
  });
}

/** The same after QUOTA_TOTAL_DELAY_SECONDS, so that a start is over before anybody counts. */
export function startQuotaLater(app: QuotaApp, report: (event: WorkerEvent) => void): Looping {
  let running: Looping | undefined;
  const timer = setTimeout(() => {
    running = startQuota(app, report);
  }, app.config.QUOTA_TOTAL_DELAY_SECONDS * 1000);
  return {
    async stop() {
      clearTimeout(timer);
      await running?.stop();
    },
  };
}

/** Has a worker of `berth serve` as long as there is something to count, from QUOTA_TOTAL_DELAY_SECONDS on. */
export function countWhenDue(app: QuotaApp, options: Omit<SpawnOptions, "work">): () => Promise<void> {
  const fromMs = performance.now() + app.config.QUOTA_TOTAL_DELAY_SECONDS * 1000;
  return workWhenDue(app, {
    ...options,
    work: "quota",
    everyMs: app.config.QUOTA_BACKFILL_POLL_PERIOD * 1000,
    isDue: async () => countsTotals(app) && performance.now() >= fromMs && isCountingDue(app),
  });
}
