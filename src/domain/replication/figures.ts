/** What metrics and `berth storage status` show of queues and stores, remembered for a moment: counting reads an index. */

import type { App } from "../../app.ts";
import { countJobs, type QueueCounts } from "../../db/queue.ts";
import type { QueueFigures, ReplicationSource, StoreFigures } from "../../observe/replication-figures.ts";
import { REPLICATION_QUEUE } from "./targets.ts";

/** Several gauges of one scrape, and several scrapers, share one look. */
const REMEMBER_MS = 10_000;
/** After a failed look, the figures are left out until the next. */
const NOTHING: readonly QueueCounts[] = [];

type FiguresApp = Pick<App, "db" | "storage" | "log">;

export function replicationFigures(app: FiguresApp): ReplicationSource {
  let known: { readonly atMs: number; readonly counts: Promise<readonly QueueCounts[]> } | undefined;

  function counts(): Promise<readonly QueueCounts[]> {
    const nowMs = performance.now();
    if (!known || nowMs - known.atMs > REMEMBER_MS) known = { atMs: nowMs, counts: look(app) };
    return known.counts;
  }

  return {
    queues: async () => queuesOf(await counts()),
    async stores() {
      // A single store is not watched; asking is how one knows.
      if (app.storage.locations.length === 1) await app.storage.check().catch(() => undefined);
      return storesOf(app, await counts());
    },
  };
}

async function look({ db, log }: FiguresApp): Promise<readonly QueueCounts[]> {
  try {
    return await countJobs(db);
  } catch (error) {
    // A database that is away must not take the metrics with it.
    log.warn("cannot count the jobs in queues", { error: String(error) });
    return NOTHING;
  }
}

/** One entry for each queue, its lanes together; replication's even when nothing waits. */
function queuesOf(counts: readonly QueueCounts[]): QueueFigures[] {
  const queues = new Map<string, QueueFigures>([
    [REPLICATION_QUEUE, { queue: REPLICATION_QUEUE, total: 0, locked: 0 }],
  ]);
  for (const { queue, total, locked } of counts) {
    const before = queues.get(queue);
    queues.set(queue, { queue, total: total + (before?.total ?? 0), locked: locked + (before?.locked ?? 0) });
  }
  return [...queues.values()];
}

/** One entry for each store that this instance knows. */
export function storesOf({ storage }: Pick<App, "storage">, counts: readonly QueueCounts[]): StoreFigures[] {
  return storage.locations.map((location) => {
    const lane = counts.find((each) => each.queue === REPLICATION_QUEUE && each.lane === location);
    return { location, isUp: storage.isUp(location), waiting: lane?.total ?? 0, lagMs: lane?.oldestMs ?? 0 };
  });
}
