/** The metrics port: /metrics in Prometheus' text form, alone on its own address as Quay's container has it. */

import { AggregatorRegistry } from "prom-client";
import type { App } from "../app.ts";
import { within } from "../db/within.ts";
import { countRows } from "../domain/health/row-counts.ts";
import { countJobs } from "../observe/job-counters.ts";

/** A scrape waits no longer for rows to be counted; the next one has them. */
const COUNT_MS = 2000;

/** One process's series, as `getMetricsAsJSON` gives them. */
type Figures = readonly object[];

/** `gather` asks the other processes that share the port: one scrape then gives the sum of all. */
export function createMetricsHandler(
  app: App,
  gather?: () => Promise<readonly Figures[]>,
): (request: Request) => Promise<Response> {
  let countedMs = Number.NEGATIVE_INFINITY;
  let counting: Promise<void> | undefined;
  const seen = { queries: 0, transactions: 0 };

  /** Counting rows costs with the registry, so it is done as rarely as Quay does it, and no scrape waits long for it. */
  async function refreshRowCounts(): Promise<void> {
    const nowMs = app.clock.nowMs();
    if (!counting && nowMs - countedMs < app.config.GLOBAL_PROMETHEUS_STATS_FREQUENCY * 1000) return;
    counting ??= readRowCounts(nowMs).finally(() => {
      counting = undefined;
    });
    await within(COUNT_MS, counting);
  }

  async function readRowCounts(nowMs: number): Promise<void> {
    const counts = await countRows(app.db);
    countedMs = nowMs;
    app.metrics.userRows.set(counts.users);
    app.metrics.robotRows.set(counts.robots);
    app.metrics.orgRows.set(counts.organizations);
    app.metrics.repositoryRows.set(counts.repositories);
  }

  function refreshDatabaseCounters(): void {
    const { queries, transactions } = app.db.stats;
    app.metrics.dbQueries.inc(queries - seen.queries);
    app.metrics.dbTransactions.inc(transactions - seen.transactions);
    seen.queries = queries;
    seen.transactions = transactions;
    const figures = app.db.stats.jobs.take();
    if (figures) countJobs(app.metrics, figures);
  }

  async function sumOf(others: readonly Figures[]) {
    const own: Figures = await app.metrics.registry.getMetricsAsJSON();
    return AggregatorRegistry.aggregate([own, ...others].map((figures) => [...figures]));
  }

  return async function answer(request) {
    if (new URL(request.url).pathname !== "/metrics") return new Response("metrics are at /metrics\n", { status: 404 });
    // A database that is away must not take the metrics with it: they are how one sees it.
    await refreshRowCounts().catch((error: unknown) => app.log.warn("cannot count rows", { error: String(error) }));
    refreshDatabaseCounters();
    const registry = gather ? await sumOf(await gather()) : app.metrics.registry;
    return new Response(await registry.metrics(), { headers: { "Content-Type": registry.contentType } });
  };
}
