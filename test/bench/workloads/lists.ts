/**
 * A page of 100 out of the middle of a long list: tags of one repository, repositories of the catalog. First of a short
 * list, then of a long one on the same store: the cost must follow the page and not the total.
 */
import { pullScope } from "../../support/registry-client.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { type BenchServer, berth, namespace, startBerthServer } from "../contenders.ts";
import { loadRequests } from "../load/requests.ts";
import { below, type Cell, median, type Row, type Target } from "../report.ts";
import { seedRepositories, seedTags } from "../seed.ts";
import type { Settings } from "../settings.ts";
import type { Workload } from "../workload.ts";

const repository = `${namespace}/tagged`;
const pageSize = 100;
const connections = 4;
/** A long list may cost this much more than a short one and still be called flat. */
const flatFactor = 1.25;

interface List {
  work: string;
  scope: string;
  path(total: number): string;
}

const lists: List[] = [
  {
    work: "tag list",
    scope: pullScope(repository),
    path: (total) => `/v2/${repository}/tags/list?n=${pageSize}&last=t${middle(total)}`,
  },
  {
    work: "catalog",
    scope: "registry:catalog:*",
    path: (total) => `/v2/_catalog?n=${pageSize}&last=${encodeURIComponent(`${namespace}/r${middle(total)}`)}`,
  },
];

export const listPages: Workload = {
  name: "lists",
  run: async ({ settings, contenders }) => {
    if (!contenders.includes(berth)) return [];
    const dir = makeTempDir("bench-lists");
    try {
      await withServer(dir.path, async (server) => {
        const image = await server.client.pushImage(repository, "t000001");
        if (image.response.status !== 201) throw new Error(`the push was answered ${image.response.status}`);
      });
      const cells = new Map<List, Row["cells"]>(lists.map((list) => [list, {}]));
      for (const total of [settings.listSmall, settings.listLarge]) {
        seedTags(dir.path, repository, total);
        seedRepositories(dir.path, namespace, total);
        await withServer(dir.path, async (server) => {
          for (const list of lists) {
            const cell = await measure(server, list, total, settings);
            Object.assign(cells.get(list) ?? {}, { [`berth, ${total.toLocaleString("en-US")}`]: cell });
          }
        });
      }
      return lists.map((list) => toRow(list, cells.get(list) ?? {}));
    } finally {
      dir.remove();
    }
  },
};

/** Runs work against a Berth on SQLite in `dataDir`, which stays when the server stops. */
async function withServer(dataDir: string, work: (server: BenchServer) => Promise<void>): Promise<void> {
  const server = await startBerthServer({ dataDir, database: "sqlite" });
  try {
    await work(server);
  } finally {
    await server.stop();
  }
}

async function measure(server: BenchServer, list: List, total: number, settings: Settings): Promise<Cell> {
  const authorization = await server.client.authorize(list.scope);
  const url = server.url + list.path(total);
  const headers = authorization === undefined ? {} : { authorization };
  await requireFullPage(url, headers);
  const seconds = Math.max(1, settings.seconds / 2);
  await loadRequests({ url, headers, connections, seconds: 1 });
  const rounds = [];
  for (let round = 0; round < settings.rounds; round++) {
    rounds.push(await loadRequests({ url, headers, connections, seconds }));
  }
  return {
    median: median(rounds.map(({ perSecond }) => perSecond)),
    rounds: rounds.map(({ perSecond }) => perSecond),
    p50Ms: median(rounds.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(rounds.map(({ p99Ms }) => p99Ms)),
    peakRssBytes: server.memory().peakRssBytes,
  };
}

/** A page that is short or empty would be fast for the wrong reason. */
async function requireFullPage(url: string, headers: Record<string, string>): Promise<void> {
  const response = await fetch(url, { headers });
  const page = (await response.json()) as { tags?: unknown[]; repositories?: unknown[] };
  const length = (page.tags ?? page.repositories ?? []).length;
  if (length !== pageSize)
    throw new Error(`GET ${url} was answered ${response.status} with ${length} entries, not ${pageSize}`);
}

function toRow(list: List, cells: Row["cells"]): Row {
  const [small, large] = Object.values(cells);
  const targets: Target[] = [below("p99 of the long list", large?.p99Ms, 5, "ms")];
  if (small !== undefined && large !== undefined) {
    const ratio = small.median / large.median;
    targets.push({ text: `flat: long / short ≤ ${flatFactor} (is ${ratio.toFixed(2)})`, met: ratio <= flatFactor });
  }
  return {
    work: `${list.work}, page of ${pageSize}`,
    unit: "req/s",
    cells,
    targets,
    notes: [`${connections} connections, bearer token, page from the middle, rows seeded into SQLite`],
  };
}

function middle(total: number): string {
  return String(Math.floor(total / 2)).padStart(6, "0");
}
