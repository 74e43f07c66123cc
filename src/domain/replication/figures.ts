/** What metrics and `berth storage status` show of queues and stores, remembered for a moment: counting reads indexes. */

import type { App } from "../../app.ts";
import { countJobsUpTo, type LaneCounts, QUEUES, type QueueCounts } from "../../db/queue.ts";
import { within } from "../../db/within.ts";
import type { QueueFigures, ReplicationSource, StoreFigures } from "../../observe/replication-figures.ts";
import { countExportsUpTo } from "../audit/export-count.ts";
import { REPLICATION_QUEUE } from "./targets.ts";

/** Several gauges of one scrape, and several scrapers, share one look. */
const REMEMBER_MS = 10_000;
/** A scrape waits no longer for the database or a store; what is not known then is left out until the next look. */
const LOOK_MS = 2000;
/** Jobs counted in a queue, and in each lane of replication: some ten milliseconds. */
const COUNT_MAX = 100_000;

type FiguresApp = Pick<App, "db" | "storage" | "log">;

export function replicationFigures(app: FiguresApp): ReplicationSource {
  let asked: { readonly atMs: number; readonly counts: Promise<readonly LaneCounts[]> } | undefined;

  function counts(): Promise<readonly LaneCounts[]> {
    const nowMs = performance.now();
    if (!asked || nowMs - asked.atMs > REMEMBER_MS) asked = { atMs: nowMs, counts: look(app) };
    return asked.counts;
  }

  return {
    queues: async () => queuesOf(await counts()),
    async stores() {
      // A single store is not watched; asking is how one knows.
      if (app.storage.locations.length === 1) {
        await within(
          LOOK_MS,
          app.storage.check().catch(() => undefined),
        ).catch(() => undefined);
      }
      return storesOf(app, await counts());
    },
  };
}

async function look(app: FiguresApp): Promise<readonly LaneCounts[]> {
  try {
    return await within(LOOK_MS, countAll(app));
  } catch (error) {
    // A database that is away must not take the metrics with it.
    app.log.warn("cannot count the jobs in queues", { error: String(error) });
    return [];
  }
}

async function countAll({ db, storage }: FiguresApp): Promise<LaneCounts[]> {
  const exports = await countExportsUpTo(db, COUNT_MAX);
  const due = exports.total - exports.locked;
  const counts: LaneCounts[] = [{ ...exports, due, queue: "exportactionlogs", lane: "", givenUp: 0, oldestMs: 0 }];
  for (const queue of QUEUES) {
    if (queue === "exportactionlogs") continue;
    const lanes = queue === REPLICATION_QUEUE ? storage.locations : [""];
    for (const lane of lanes) counts.push(await countJobsUpTo(db, queue, lane, COUNT_MAX));
  }
  return counts;
}

/** One entry for each queue, its lanes together. */
function queuesOf(counts: readonly LaneCounts[]): QueueFigures[] {
  const queues = new Map<string, QueueFigures>();
  for (const { queue, due, locked } of counts) {
    const before = queues.get(queue);
    queues.set(queue, { queue, due: due + (before?.due ?? 0), locked: locked + (before?.locked ?? 0) });
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
