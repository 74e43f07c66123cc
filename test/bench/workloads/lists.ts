/**
 * A page of 100 out of the middle of a long list: tags of one repository, repositories of the catalog. Of a short
 * list and of a long one, on two stores in turn: the cost must follow the page and not the total.
 */
import { pullScope } from "../../support/registry-client.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { type BenchServer, berth, type Contender, namespace, startBerthServer } from "../contenders.ts";
import { loadRequests } from "../load/requests.ts";
import { below, type Row, type Target } from "../report.ts";
import { seedRepositories, seedTags } from "../seed.ts";
import { takeTurns, type Workload, withSeats } from "../workload.ts";

export const repository = `${namespace}/tagged`;
const pageSize = 100;
export const connections = 4;
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

export const listPages = listWorkload({
  name: "lists",
  about: "pages of long tag lists and of a large catalog",
  lists,
  prepare: prepareLoad,
  toRow: (list, cells) => {
    const note = `${connections} connections, bearer token, page from the middle, rows seeded into SQLite`;
    return toRow(`${list.work}, page of ${pageSize}`, cells, { p99MaxMs: 5, note });
  },
});

/** Asks for each list of a short store and of a long one in turn; `prepare` gives the request of a server's store. */
export function listWorkload<L>(parts: {
  name: string;
  about: string;
  lists: readonly L[];
  prepare(server: BenchServer, list: L, total: number): Promise<{ url: string; headers: Record<string, string> }>;
  toRow(list: L, cells: Row["cells"]): Row;
}): Workload {
  return {
    name: parts.name,
    about: parts.about,
    run: async ({ settings, contenders }) => {
      if (!contenders.includes(berth)) return [];
      const stores = [settings.listSmall, settings.listLarge].map((total) => ({
        total,
        dir: makeTempDir(`bench-${parts.name}`),
      }));
      try {
        for (const { total, dir } of stores) await makeStore(dir.path, total);
        const totals = new Map(stores.map(({ total }) => [serverName(total), total]));
        const rows: Row[] = [];
        for (const list of parts.lists) {
          const prepare = (server: BenchServer) => parts.prepare(server, list, totals.get(server.name) ?? 0);
          const servers = stores.map(({ total, dir }) => storeContender(dir.path, total));
          const cells = await withSeats(servers, prepare, (seats) =>
            takeTurns(seats, { measured: settings.rounds, warmUps: 1 }, async (_, load, round) => {
              const seconds = round < 0 ? 1 : Math.max(1, Math.floor(settings.seconds / 2));
              const figures = await loadRequests({ ...load, connections, seconds });
              return { figure: figures.perSecond, p50Ms: figures.p50Ms, p99Ms: figures.p99Ms };
            }),
          );
          rows.push(parts.toRow(list, cells));
        }
        return rows;
      } finally {
        for (const { dir } of stores) dir.remove();
      }
    },
  };
}

/** A store with `total` tags in one repository and `total` repositories. */
async function makeStore(dataDir: string, total: number): Promise<void> {
  const server = await startBerthServer({ dataDir, database: "sqlite" });
  try {
    const image = await server.client.pushImage(repository, "t000001");
    if (image.response.status !== 201) throw new Error(`the push was answered ${image.response.status}`);
  } finally {
    await server.stop();
  }
  seedTags(dataDir, repository, total);
  seedRepositories(dataDir, namespace, total);
}

function serverName(total: number): string {
  return `berth, ${total.toLocaleString("en-US")}`;
}

function storeContender(dataDir: string, total: number): Contender {
  const name = serverName(total);
  const start = async () => ({ ...(await startBerthServer({ dataDir, database: "sqlite" })), name });
  return { name, note: berth.note, start };
}

async function prepareLoad(server: BenchServer, list: List, total: number) {
  const authorization = await server.client.authorize(list.scope);
  const url = server.url + list.path(total);
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  await requireFullPage(url, headers);
  return { url, headers };
}

/** A page that is short or empty would be fast for the wrong reason. */
async function requireFullPage(url: string, headers: Record<string, string>): Promise<void> {
  const response = await fetch(url, { headers });
  const page = (await response.json()) as { tags?: unknown[]; repositories?: unknown[] };
  const length = (page.tags ?? page.repositories ?? []).length;
  if (length !== pageSize)
    throw new Error(`GET ${url} was answered ${response.status} with ${length} entries, not ${pageSize}`);
}

/** A row of the short list's figures beside the long one's, which must be as good. */
export function toRow(work: string, cells: Row["cells"], about: { p99MaxMs?: number; note: string }): Row {
  const [small, large] = Object.values(cells);
  const targets: Target[] =
    about.p99MaxMs === undefined ? [] : [below("p99 of the long list", large?.p99Ms, about.p99MaxMs, "ms")];
  if (small !== undefined && large !== undefined) {
    const ratio = small.median / large.median;
    targets.push({ text: `flat: long / short ≤ ${flatFactor} (is ${ratio.toFixed(2)})`, met: ratio <= flatFactor });
  }
  return { work, unit: "req/s", cells, targets, notes: [about.note] };
}

/** Number of the entry in the middle, as the seeded names have it. */
export function middle(total: number): string {
  return String(Math.floor(total / 2)).padStart(6, "0");
}
