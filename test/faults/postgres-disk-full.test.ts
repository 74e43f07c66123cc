/**
 * PostgreSQL without room: a full tablespace fails single statements (53100), a full disk of its log ends the whole server.
 * Both are 503 with Retry-After to clients, never a 500 and not the 507 of a store of our own that is full; what was
 * acknowledged stays, and all goes on when there is room.
 */
import { afterEach, expect, test } from "bun:test";
import { join } from "node:path";
import postgres from "postgres";
import { image, publish } from "../support/content.ts";
import { startOwnPostgres } from "../support/postgres.ts";
import { RegistryClient } from "../support/registry-client.ts";
import { type SmallDisk, startSmallDisk } from "../support/small-disk.ts";
import { isRefused, until } from "./answers.ts";
import { DURABLE, startBerthOn } from "./start.ts";

const MiB = 1024 * 1024;
const repository = "admin/full";
/** The user that PostgreSQL runs as where the tests are root. */
const nobody = 65_534;
const stops: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
}, 60_000);

async function smallDisk(sizeBytes: number): Promise<SmallDisk> {
  const disk = await startSmallDisk(sizeBytes, nobody);
  stops.push(() => disk.stop());
  return disk;
}

/** Pushes tags until one is refused; gives those that were taken. */
async function pushUntilRefused(client: RegistryClient, prefix: string, content = image("tagged")): Promise<string[]> {
  const taken: string[] = [];
  let count = 0;
  await until("a push is refused for want of room", async () => {
    const tag = `${prefix}${count++}`;
    if (await isRefused(client.pushManifest(repository, tag, content.manifest, content.mediaType), 201)) return true;
    taken.push(tag);
    return false;
  });
  return taken;
}

async function tagsOf(client: RegistryClient): Promise<string[]> {
  const tags: string[] = [];
  for (let query = ""; ; ) {
    const response = await client.listTags(repository, query);
    expect(response.status).toBe(200);
    tags.push(...((await response.json()) as { tags: string[] }).tags);
    const next = /<[^>]*(\?[^>]*)>/.exec(response.headers.get("link") ?? "")?.[1];
    if (next === undefined) return tags.sort();
    query = next;
  }
}

test("a full tablespace: writes are refused with 503, pulls go on, and all goes on when there is room", async () => {
  const disk = await smallDisk(64 * MiB);
  const server = await startOwnPostgres({ settings: DURABLE });
  stops.push(() => server.stop());
  const admin = postgres(server.uri, { max: 1, onnotice: () => undefined });
  const space = join(disk.path, "space");
  await Bun.$`mkdir ${space} && chown --reference=${server.dataDir} ${space}`.quiet();
  await admin.unsafe(`create tablespace small location '${space}'`);
  await admin.unsafe("create database full_berth tablespace small");
  await admin.end({ timeout: 5 });
  const address = new URL(server.uri);
  address.pathname = "/full_berth";
  const berth = await startBerthOn(address.href);
  stops.push(() => berth.stop());
  const client = new RegistryClient({ url: berth.url, username: "admin", password: berth.adminPassword });
  const content = image("tagged");
  await publish(client, repository, content, "first");
  disk.fill();
  const taken = await pushUntilRefused(client, "t", content);
  expect(berth.logs()).toContain("its disk is full");
  for (const tag of ["first", ...taken.slice(-3)]) {
    expect((await client.pullManifest(repository, tag)).status, tag).toBe(200);
  }
  disk.free();
  await until(
    "a push is taken",
    async () => !(await isRefused(client.pushManifest(repository, "after", content.manifest, content.mediaType), 201)),
  );
  await publish(client, repository, image("more"), "more");
  expect(await tagsOf(client)).toEqual(["first", "after", "more", ...taken].sort());
}, 180_000);

test("a disk too full for PostgreSQL's own log ends that server, and Berth goes on when it is back", async () => {
  const disk = await smallDisk(160 * MiB);
  const settings = { ...DURABLE, min_wal_size: "32MB", max_wal_size: "48MB" };
  const server = await startOwnPostgres({ settings, dataDir: join(disk.path, "data") });
  stops.push(() => server.stop());
  const berth = await startBerthOn(await server.createDatabase());
  stops.push(() => berth.stop());
  const client = new RegistryClient({ url: berth.url, username: "admin", password: berth.adminPassword });
  const content = image("tagged");
  await publish(client, repository, content, "first");
  disk.fill();
  const other = postgres(server.uri, { max: 1, onnotice: () => undefined });
  // Segments of the log that are there already are used up first; then the server stops in the middle of a statement.
  const failed = async () => {
    for (let round = 0; round < 50; round++) {
      try {
        await other`select pg_logical_emit_message(true, 'fill', repeat('x', 1000000)), pg_switch_wal()`;
      } catch (error) {
        return error;
      }
    }
    return undefined;
  };
  expect(await failed()).toBeInstanceOf(Error);
  await other.end({ timeout: 0 });
  const taken = await pushUntilRefused(client, "t", content);
  disk.free();
  await server.restart();
  await until(
    "a push is taken",
    async () => !(await isRefused(client.pushManifest(repository, "after", content.manifest, content.mediaType), 201)),
  );
  expect(await tagsOf(client)).toEqual(["first", "after", ...taken].sort());
}, 180_000);
