/**
 * What a request costs in database queries and rows: a warm pull none, a cold one few, a page of a list its own length.
 * Runs the whole HTTP surface in this process, where the database's counters can be read.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { type BootedApp, boot } from "../../src/boot.ts";
import { loadConfig } from "../../src/config/load.ts";
import { ensureAdmin } from "../../src/domain/user/first-user.ts";
import { createHttp } from "../../src/http/server.ts";
import { createLogger } from "../../src/observe/logger.ts";
import { image } from "../support/content.ts";
import { chosenEngines } from "../support/database.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { digestOf, mediaTypes } from "../support/registry-client.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";

const password = "queries-are-counted";
const content = image("queries", { layerSizes: [500, 700] });
const layerDigest = digestOf(content.blobs[1] as Uint8Array);
let dir: TempDir;
let app: BootedApp;
let http: ReturnType<typeof createHttp>;
let token: string;

beforeAll(async () => {
  dir = makeTempDir("queries");
  const [engine] = chosenEngines();
  const uri = engine === "postgres" ? await createTestDatabase() : `sqlite:///${join(dir.path, "berth.db")}`;
  const silent = createLogger({ clock: { nowMs: () => Date.now() }, level: "error", format: "text" });
  const env = { QUAY_OVERRIDE_CONFIG: JSON.stringify({ DB_URI: uri }) };
  app = await boot(loadConfig({ dataDir: dir.path, env }), silent);
  await ensureAdmin(app, "admin", password, () => undefined);
  http = createHttp(app);
  const basic = `Basic ${btoa(`admin:${password}`)}`;
  for (const blob of content.blobs) {
    const path = `/v2/admin/queries/blobs/uploads/?digest=${digestOf(blob)}`;
    expect((await send("POST", path, basic, blob)).status).toBe(201);
  }
  for (const round of [0, 1, 2]) {
    const path = `/v2/admin/queries/manifests/${content.digest}?${tagQuery(round)}`;
    expect((await send("PUT", path, basic, content.manifest)).status).toBe(201);
  }
  const scope = encodeURIComponent("repository:admin/queries:pull");
  const issued = await send("GET", `/v2/auth?scope=${scope}`, basic);
  token = `Bearer ${((await issued.json()) as { token: string }).token}`;
}, 60_000);

afterAll(async () => {
  await app.close();
  dir.remove();
});

/** A hundred tags in one push. */
function tagQuery(round: number): string {
  return Array.from({ length: 100 }, (_, position) => `tag=t${round}-${String(position).padStart(3, "0")}`).join("&");
}

async function send(method: string, path: string, authorization: string, body?: Uint8Array): Promise<Response> {
  const request = new Request(`http://berth.test${path}`, {
    method,
    headers: {
      authorization,
      "content-type": mediaTypes.manifest,
      ...(body ? { "content-length": String(body.length) } : {}),
    },
    ...(body === undefined ? {} : { body: new Uint8Array(body) }),
  });
  return http.fetch(request, { clientIp: "127.0.0.1" });
}

/** Queries and rows that this request costs. */
async function costOf(method: string, path: string, authorization = token): Promise<{ queries: number; rows: number }> {
  const before = { ...app.db.stats };
  const response = await send(method, path, authorization);
  expect(response.status, path).toBe(200);
  await response.arrayBuffer();
  return { queries: app.db.stats.queries - before.queries, rows: app.db.stats.rows - before.rows };
}

/** As after a start: nothing is in the caches. */
async function forget(): Promise<void> {
  await app.db.tx(async (tx) => tx.changed("everything"));
}

const pulls = [
  ["a manifest by tag", "GET", "/v2/admin/queries/manifests/t0-000"],
  ["a manifest by digest", "GET", `/v2/admin/queries/manifests/${content.digest}`],
  ["a manifest's head", "HEAD", "/v2/admin/queries/manifests/t0-001"],
  ["a blob", "GET", `/v2/admin/queries/blobs/${layerDigest}`],
  ["a blob's head", "HEAD", `/v2/admin/queries/blobs/${layerDigest}`],
] as const;

for (const [name, method, path] of pulls) {
  test(`${name}: cold at most 5 queries of one row each, warm none`, async () => {
    await forget();
    const cold = await costOf(method, path);
    expect(cold.queries).toBeGreaterThan(0);
    expect(cold.queries).toBeLessThanOrEqual(5);
    expect(cold.rows).toBeLessThanOrEqual(5);
    for (let round = 0; round < 3; round++) expect(await costOf(method, path)).toEqual({ queries: 0, rows: 0 });
  });
}

test("a whole image, warm, asks the database nothing, and neither does the log-in", async () => {
  const basic = `Basic ${btoa(`admin:${password}`)}`;
  const paths = ["/v2/", "/v2/admin/queries/manifests/t0-000", `/v2/admin/queries/blobs/${layerDigest}`];
  for (const authorization of [token, basic]) {
    for (const path of paths) await costOf("GET", path, authorization);
    for (const path of paths) expect(await costOf("GET", path, authorization)).toEqual({ queries: 0, rows: 0 });
  }
});

test("a page of tags reads one row more than it shows, wherever it is", async () => {
  await costOf("GET", "/v2/admin/queries/tags/list?n=1");
  for (const [n, last] of [
    [1, ""],
    [10, ""],
    [10, "t1-050"],
    [100, "t2-000"],
  ] as const) {
    const query = last === "" ? `n=${n}` : `n=${n}&last=${last}`;
    const cost = await costOf("GET", `/v2/admin/queries/tags/list?${query}`);
    expect(cost.queries).toBe(1);
    expect(cost.rows).toBeLessThanOrEqual(n + 1);
  }
});

test("a catalog page is one query for each way to a right, of one row more than it shows in all", async () => {
  const cost = await costOf("GET", "/v2/_catalog?n=10");
  expect(cost.queries).toBeLessThanOrEqual(4);
  expect(cost.rows).toBeLessThanOrEqual(11);
});

test("an unknown token costs no query each: forged ones cannot flood the database", async () => {
  const before = app.db.stats.queries;
  for (let round = 0; round < 200; round++) {
    const head = btoa(JSON.stringify({ alg: "ES256", typ: "JWT", kid: `forged-${round}` }));
    const response = await send("GET", "/v2/", `Bearer ${head}.${btoa("{}")}.${btoa("x".repeat(64))}`);
    expect(response.status).toBe(401);
  }
  expect(app.db.stats.queries - before).toBeLessThanOrEqual(3);
});

test("a push of one tag costs few queries, however many tags and policies there are", async () => {
  const basic = `Basic ${btoa(`admin:${password}`)}`;
  const push = async (tag: string) => {
    const before = app.db.stats.queries;
    expect((await send("PUT", `/v2/admin/queries/manifests/${tag}`, basic, content.manifest)).status).toBe(201);
    return app.db.stats.queries - before;
  };
  await push("warm");
  // Lock, blobs, children, manifest, its blobs; policies and the label that limits tags; the tag and its log entry.
  const cost = await push("cost-1");
  expect(cost).toBeLessThanOrEqual(14);
  await app.db.tx(async (tx) => {
    await tx.sql`/* test.policies */
      insert into immutability_policy (uuid, namespace_id, repository_id, tag_pattern, created_ms)
      with recursive n (i) as (select 1 union all select i + 1 from n where i < 20)
      select 'policy-' || cast(n.i as text), r.namespace_id, r.id, 'never-' || cast(n.i as text), 1
      from n, repository r where r.path = 'admin/queries'`;
  });
  expect(await push("cost-2")).toBe(cost);
});
