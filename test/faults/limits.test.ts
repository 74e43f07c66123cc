/**
 * A PostgreSQL that is there and cannot: no room for a connection, statements and locks that take too long, restarts. Each is
 * a 503 with Retry-After for those who meet it, and nothing is half done.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres from "postgres";
import type { BerthServer } from "../support/berth.ts";
import { fixedBytes, image, publish } from "../support/content.ts";
import { startOwnPostgres } from "../support/postgres.ts";
import { digestOf, RegistryClient } from "../support/registry-client.ts";
import { expectRefusal, isRefused, until } from "./answers.ts";
import { DURABLE, type OwnPostgres, startBerthOn } from "./start.ts";

const repository = "admin/limits";
/** Less than a client waits, and more than a busy machine needs for a statement that waits for nothing. */
const giveUpMs = 1_500;

let server: OwnPostgres;
let uri: string;
let berth: BerthServer;
let client: RegistryClient;
const tagged = image("tagged");

beforeAll(async () => {
  const settings = { ...DURABLE, max_connections: 24, superuser_reserved_connections: 1 };
  server = await startOwnPostgres({ settings });
  uri = await server.createDatabase();
  berth = await startBerthOn(uri, {
    DB_CONNECTION_ARGS: { max_connections: 10, lock_timeout: giveUpMs, statement_timeout: 30_000 },
  });
  client = new RegistryClient({ url: berth.url, username: "admin", password: berth.adminPassword });
  await publish(client, repository, tagged, "v1");
  await (await client.pullManifest(repository, "v1")).body?.cancel();
}, 120_000);
afterAll(async () => {
  await berth?.stop();
  await server?.stop();
}, 60_000);

const push = (tag: string) => client.pushManifest(repository, tag, tagged.manifest, tagged.mediaType);
const single = () => postgres(uri, { max: 1, onnotice: () => undefined, connection: { application_name: "other" } });

/** Takes every connection that is free, and those that come free, until it is stopped. */
function crowd() {
  const taken: postgres.Sql[] = [];
  const counts = { refused: 0 };
  let isOver = false;
  const taking = (async () => {
    while (!isOver) {
      const next = single();
      try {
        await next`select 1`;
        taken.push(next);
      } catch {
        counts.refused++;
        await next.end({ timeout: 0 });
        await Bun.sleep(5);
      }
    }
  })();
  return {
    counts,
    /** Ends Berth's sessions, so that they are taken by others. */
    async evict(): Promise<void> {
      const [first] = taken;
      if (first) await first`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'berth'`;
    },
    async stop(): Promise<void> {
      isOver = true;
      await taking;
      await Promise.all(taken.map((each) => each.end({ timeout: 1 })));
    },
  };
}

test("what DB_CONNECTION_ARGS asks of a connection is kept to: no TLS where it is required, no start", async () => {
  await expect(startBerthOn(uri, { DB_CONNECTION_ARGS: { sslmode: "require" } })).rejects.toThrow(
    "does not support TLS",
  );
}, 60_000);

test("without room for more connections those that are open go on; without any, requests are refused until there is room", async () => {
  const others = crowd();
  try {
    await until("the server has no room", () => others.counts.refused > 0);
    const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => isRefused(push(`crowded${n}`), 201)));
    expect(answers).toContain(false);
    await until("all of Berth's connections are taken by others", async () => {
      await others.evict();
      return isRefused(push("evicted"), 201);
    });
  } finally {
    await others.stop();
  }
  await until("there is room", async () => !(await isRefused(push("room"), 201)));
  expect((await fetch(`${berth.url}/health/instance`)).status).toBe(200);
}, 180_000);

test("a lock that others hold is waited for as long as lock_timeout, and nothing is half done", async () => {
  const other = single();
  const content = image("locked out");
  for (const blob of content.blobs) expect((await client.pushBlob(repository, blob)).status).toBe(201);
  const sent = () => client.pushManifest(repository, "locked", content.manifest, content.mediaType);
  const release = Promise.withResolvers<void>();
  const isHeld = Promise.withResolvers<void>();
  const holding = other.begin(async (sql) => {
    await sql`lock table tag in share row exclusive mode`;
    isHeld.resolve();
    await release.promise;
  });
  try {
    await isHeld.promise;
    const startedMs = performance.now();
    await expectRefusal(await sent());
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(giveUpMs - 100);
    // Whoever only reads waits for nobody.
    expect((await client.pullManifest(repository, "v1")).status).toBe(200);
    for (const reference of ["locked", content.digest]) {
      expect((await client.pullManifest(repository, reference)).status, reference).toBe(404);
    }
  } finally {
    release.resolve();
    await holding;
    await other.end({ timeout: 5 });
  }
  for (const reference of ["locked", content.digest]) {
    expect((await client.pullManifest(repository, reference)).status, reference).toBe(404);
  }
  expect((await sent()).status).toBe(201);
}, 120_000);

test("an upload whose row somebody holds is refused and can be ended when it is let go", async () => {
  const other = single();
  const bytes = fixedBytes(5_000, 7);
  const started = await client.request(`/v2/${repository}/blobs/uploads/`, {
    method: "POST",
    scope: `repository:${repository}:pull,push`,
  });
  expect(started.status).toBe(202);
  const location = new URL(started.headers.get("location") ?? "", berth.url).href;
  const end = () =>
    client.request(`${location}${location.includes("?") ? "&" : "?"}digest=${digestOf(bytes)}`, {
      method: "PUT",
      body: bytes,
      headers: { "content-type": "application/octet-stream" },
      scope: `repository:${repository}:pull,push`,
    });
  const release = Promise.withResolvers<void>();
  const isHeld = Promise.withResolvers<void>();
  const holding = other.begin(async (sql) => {
    await sql`select id from upload_session for update`;
    isHeld.resolve();
    await release.promise;
  });
  try {
    await isHeld.promise;
    await expectRefusal(await end());
    expect((await client.pullBlob(repository, digestOf(bytes))).status).toBe(404);
  } finally {
    release.resolve();
    await holding;
    await other.end({ timeout: 5 });
  }
  await until("the upload is free", async () => {
    const response = await end();
    await response.body?.cancel();
    if (![201, 416].includes(response.status)) expect(response.status).toBe(201);
    return response.status === 201;
  });
  expect(digestOf(await (await client.pullBlob(repository, digestOf(bytes))).bytes())).toBe(digestOf(bytes));
}, 120_000);

test("a statement that takes longer than statement_timeout is given up", async () => {
  const own = await startBerthOn(uri, { DB_CONNECTION_ARGS: { lock_timeout: 0, statement_timeout: giveUpMs } });
  const there = new RegistryClient({ url: own.url, username: "admin", password: own.adminPassword });
  const other = single();
  const release = Promise.withResolvers<void>();
  const isHeld = Promise.withResolvers<void>();
  try {
    expect((await there.pushManifest(repository, "v1", tagged.manifest, tagged.mediaType)).status).toBe(201);
    const holding = other.begin(async (sql) => {
      await sql`lock table manifest in access exclusive mode`;
      isHeld.resolve();
      await release.promise;
    });
    await isHeld.promise;
    await expectRefusal(await there.pushManifest(repository, "slow", tagged.manifest, tagged.mediaType));
    // A read that nobody asked before meets the same.
    await expectRefusal(await there.pullManifest(repository, tagged.digest));
    release.resolve();
    await holding;
    expect((await there.pullManifest(repository, "slow")).status).toBe(404);
    expect((await there.pushManifest(repository, "slow", tagged.manifest, tagged.mediaType)).status).toBe(201);
  } finally {
    release.resolve();
    await other.end({ timeout: 5 });
    await own.stop();
  }
}, 120_000);

test("restarts under requests are 503 with Retry-After at the worst, and what was acknowledged stays", async () => {
  const acknowledged: string[] = [];
  let isOver = false;
  let refused = 0;
  const clients = Array.from({ length: 4 }, async (_, index) => {
    for (let n = 0; !isOver; n++) {
      const tag = `restart-${index}-${n}`;
      if (await isRefused(push(tag), 201)) refused++;
      else acknowledged.push(tag);
      if (await isRefused(client.pullManifest(repository, "v1"), 200)) refused++;
    }
  });
  for (const how of ["SIGINT", "SIGQUIT", "crash"] as const) {
    const before = acknowledged.length;
    await until("pushes go on", () => acknowledged.length > before + 5);
    if (how === "crash") await server.crash();
    else await server.shutDown(how);
    const refusedBefore = refused;
    await until("somebody is refused", () => refused > refusedBefore);
    await server.restart();
    const after = acknowledged.length;
    await until("pushes are taken again", () => acknowledged.length > after);
  }
  isOver = true;
  await Promise.all(clients);
  for (const tag of acknowledged) expect((await client.pullManifest(repository, tag)).status, tag).toBe(200);
}, 180_000);
