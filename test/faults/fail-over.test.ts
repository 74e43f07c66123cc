/**
 * Another PostgreSQL takes over while `berth serve` runs: the old one is killed, or goes on and takes no writes, with both in
 * DB_URI or behind one address that moves. Clients see 503 with Retry-After for a while and nothing else, no restart is
 * needed, and what the new server has is what is served.
 */
import { afterEach, expect, test } from "bun:test";
import postgres from "postgres";
import type { BerthServer } from "../support/berth.ts";
import { type Image, image, publish } from "../support/content.ts";
import { startFaultProxy } from "../support/fault-proxy.ts";
import { startOwnPostgres } from "../support/postgres.ts";
import type { LocalPostgres } from "../support/postgres-local.ts";
import { RegistryClient } from "../support/registry-client.ts";
import { isRefused, until } from "./answers.ts";
import { DURABLE, type OwnPostgres, startBerthOn, through } from "./start.ts";

const repository = "admin/fail-over";
const stops: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
}, 60_000);

type Standby = Awaited<ReturnType<LocalPostgres["makeStandby"]>>;

interface Pair {
  readonly primary: OwnPostgres;
  readonly standby: Standby;
  /** Of an empty database on the primary. */
  readonly address: string;
}

async function startPair(): Promise<Pair> {
  const primary = await startOwnPostgres({ settings: DURABLE });
  stops.push(() => primary.stop());
  const address = await primary.createDatabase("berth");
  const standby = await primary.makeStandby();
  stops.push(() => standby.stop());
  return { primary, standby, address };
}

/** The database on both servers, the primary first. */
function bothOf({ primary, standby, address }: Pair): string {
  const { username, password } = new URL(address);
  const hosts = [primary, standby].map(({ port }) => `127.0.0.1:${port}`);
  return `postgresql://${username}:${password}@${hosts.join(",")}/berth?sslmode=disable`;
}

async function asAdmin<T>(uri: string, work: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const client = postgres(uri, { max: 1, onnotice: () => undefined });
  try {
    return await work(client);
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** What is committed on the primary is on the standby, too. */
async function caughtUp({ primary, standby }: Pair): Promise<void> {
  const [row] = await asAdmin(primary.uri, (sql) => sql`select pg_current_wal_flush_lsn() as lsn`);
  await until("the standby has it all", async () => {
    const [seen] = await asAdmin(
      standby.uri,
      (sql) => sql`select pg_last_wal_replay_lsn() >= cast(${String(row?.lsn)} as pg_lsn) as done`,
    );
    return seen?.done === true;
  });
}

/** The old primary goes on and takes no writes from now on, on sessions that are open as well. */
async function demote({ primary }: Pair): Promise<void> {
  await asAdmin(primary.uri, async (sql) => {
    await sql`alter system set default_transaction_read_only = on`;
    await sql`select pg_reload_conf()`;
  });
}

async function connect(uri: string): Promise<{ berth: BerthServer; client: RegistryClient; content: Image }> {
  const berth = await startBerthOn(uri);
  stops.push(() => berth.stop());
  const client = new RegistryClient({ url: berth.url, username: "admin", password: berth.adminPassword });
  const content = image("fail-over");
  await publish(client, repository, content, "before");
  expect((await client.pullManifest(repository, "before")).status).toBe(200);
  return { berth, client, content };
}

/** Pushes tags until one is taken that only a new server can have taken; gives all that were taken. */
async function pushThrough(client: RegistryClient, content: Image, isOver: () => Promise<boolean>): Promise<string[]> {
  const taken: string[] = [];
  let count = 0;
  await until("a push is taken by the new primary", async () => {
    const tag = `t${count++}`;
    const push = client.pushManifest(repository, tag, content.manifest, content.mediaType);
    if (!(await isRefused(push, 201))) taken.push(tag);
    return taken.length > 0 && (await isOver());
  });
  return taken;
}

async function tagsOn(uri: string): Promise<string[]> {
  const database = new URL(uri);
  database.pathname = "/berth";
  const rows = await asAdmin(database.href, (sql) => sql`select name from tag where end_ms is null order by name`);
  return rows.map((row) => String(row.name));
}

test("a primary that is killed is replaced by its promoted standby", async () => {
  const pair = await startPair();
  const { berth, client, content } = await connect(bothOf(pair));
  await caughtUp(pair);
  await pair.primary.crash();
  // Neither of them takes writes yet, and the standby's data must not be taken for the primary's.
  await until("pushes are refused", () =>
    isRefused(client.pushManifest(repository, "refused", content.manifest, content.mediaType), 201),
  );
  await pair.standby.promote();
  const taken = await pushThrough(client, content, async () => true);
  const listed = ((await (await client.listTags(repository)).json()) as { tags: string[] }).tags.sort();
  expect(listed).toEqual(["before", ...taken].sort());
  expect(await tagsOn(pair.standby.uri)).toEqual(listed);
  await until("it is well", async () => (await fetch(`${berth.url}/health/endtoend`)).status === 200);
  // And uploads, which the old server knew nothing of.
  await publish(client, repository, image("after"), "after");
}, 180_000);

test("a primary that takes no writes any more is left for the one that does, also by sessions that are open", async () => {
  const pair = await startPair();
  const { client, content } = await connect(bothOf(pair));
  await caughtUp(pair);
  await pair.standby.promote();
  await demote(pair);
  const taken = await pushThrough(client, content, async () => (await tagsOn(pair.standby.uri)).length > 1);
  expect(await tagsOn(pair.standby.uri)).toEqual(expect.arrayContaining(["before", taken.at(-1)]));
  await publish(client, repository, image("after"), "after");
  expect(await tagsOn(pair.primary.uri)).not.toContain("after");
}, 180_000);

test("one address that leads to another server from now on is followed, and the read-only one is left", async () => {
  const pair = await startPair();
  const proxy = await startFaultProxy({ host: "127.0.0.1", port: pair.primary.port });
  stops.push(() => proxy.stop());
  const { client, content } = await connect(through(proxy, pair.address));
  await caughtUp(pair);
  await pair.standby.promote();
  // Open connections stay where they are: only the refused write tells.
  proxy.redirect("127.0.0.1", pair.standby.port);
  await demote(pair);
  await pushThrough(client, content, async () => (await tagsOn(pair.standby.uri)).length > 1);
  // A session that was begun on the old server's last writable connection is not known to the new one.
  const published = () =>
    publish(client, repository, image("after"), "after").then(
      () => true,
      () => false,
    );
  const deadline = performance.now() + 60_000;
  while (!(await published()) && performance.now() < deadline) await Bun.sleep(200);
  expect(await tagsOn(pair.standby.uri)).toContain("after");
}, 180_000);
