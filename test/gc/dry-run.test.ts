/**
 * The dry run of auto-prune policies: what it lists is what pruning then ends, and the bytes that it tells are those that
 * collection then deletes, over random repositories that share blobs. BERTH_TEST_SEED repeats a run.
 */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { fragment } from "../../src/db/sql.ts";
import { freedByTags } from "../../src/domain/gc/freed.ts";
import { Allowance } from "../../src/lib/allowance.ts";
import { makeRandom, type Random } from "../storage/random.ts";
import { describeContent, mediaTypes, toBytes } from "../support/registry-client.ts";
import { RandomPushes } from "./retention-pushes.ts";
import { RetentionWorld } from "./retention-world.ts";
import { dayMs, windowMs } from "./world.ts";

setDefaultTimeout(120_000);

/** Random worlds to compare; TEST_RETENTION_ROUNDS makes the run longer. */
const ROUNDS = Number(process.env.TEST_RETENTION_ROUNDS ?? 3);

let world: RetentionWorld;
beforeAll(async () => {
  world = await RetentionWorld.start();
}, 120_000);
afterAll(() => world?.gc.stop());

interface Told {
  readonly tags: string[];
  readonly count: number;
  readonly bytes: number;
  readonly registryBytes: number;
}

/** All pages of a dry run. */
async function dryRun(at: string, body?: unknown, limit = 7): Promise<Told> {
  const path = `${at}/autoprunepolicy/dryrun?limit=${limit}`;
  const first = await world.su.post(path, body);
  expect([first.status, first.body.is_complete]).toEqual([200, true]);
  const tags: string[] = [];
  for (let page = first; ; ) {
    tags.push(...page.body.tags.map((tag: Record<string, string>) => `${tag.repository}:${tag.name}`));
    expect(page.body.tags.length).toBeLessThanOrEqual(limit);
    if (page.body.next_page === undefined) break;
    page = await world.su.post(`${path}&next_page=${encodeURIComponent(page.body.next_page)}`, body);
    expect([page.status, page.body.bytes]).toEqual([200, undefined]);
  }
  const { tag_count, bytes, registry_bytes } = first.body;
  expect(new Set(tags).size).toBe(tags.length);
  return { tags: tags.sort(), count: tag_count, bytes, registryBytes: registry_bytes };
}

test("layers that a kept tag or another repository holds are not counted", async () => {
  const [name, other] = [await world.organization(), await world.organization()];
  const layer = (seed: number, size: number) => new Uint8Array(size).fill(seed);
  async function push(path: string, tag: string, ...layers: Uint8Array[]): Promise<number> {
    const config = toBytes({ architecture: "amd64", os: "linux", of: `${path}:${tag}` });
    for (const content of [config, ...layers]) await world.client.pushBlob(path, content);
    const manifest = {
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: describeContent(config, mediaTypes.config),
      layers: layers.map((content) => describeContent(content, mediaTypes.layer)),
    };
    expect((await world.client.pushManifest(path, tag, manifest)).status).toBe(201);
    return config.length;
  }
  const alone = layer(1, 1_000);
  const withKept = layer(2, 20_000);
  const withSibling = layer(3, 300_000);
  const withStranger = layer(4, 4_000_000);
  const twice = layer(5, 50_000);
  const config = await push(`${name}/app`, "old", alone, withKept, withSibling, withStranger, twice);
  const second = await push(`${name}/app`, "older", twice);
  await push(`${name}/lib`, "v1", withSibling);
  await push(`${other}/app`, "v1", withStranger);
  await world.gc.pass(3 * dayMs);
  await push(`${name}/app`, "new", withKept);
  const rule = { method: "number_of_tags", value: 1 };
  const told = await dryRun(`/repository/${name}/app`, rule);
  const registryBytes = alone.length + twice.length + config + second;
  expect(told).toEqual({
    tags: ["app:old", "app:older"],
    count: 2,
    bytes: registryBytes + withStranger.length,
    registryBytes,
  });
  expect(await dryRun(`/organization/${name}`, rule)).toEqual(told);
  expect(await dryRun(`/organization/${name}`)).toEqual({ tags: [], count: 0, bytes: 0, registryBytes: 0 });
  // What only the time machine holds keeps nothing for good.
  await world.deleteTag(`${name}/lib`, "v1");
  expect((await dryRun(`/organization/${name}`, rule)).registryBytes).toBe(registryBytes + withSibling.length);
  expect((await world.su.delete(`/repository/${other}/app`)).status).toBe(204);
  expect((await dryRun(`/organization/${name}`, rule)).registryBytes).toBe(
    registryBytes + withSibling.length + withStranger.length,
  );
  expect(await world.living(name)).toEqual(["app:new", "app:old", "app:older"]);
});

test("what it lists is what pruning ends, and its bytes are what collection deletes", async () => {
  const random = makeRandom("retention");
  let [tags, bytes, shared] = [0, 0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const told = await compareOnce(random);
    tags += told.count;
    bytes += told.registryBytes;
    shared += told.bytes - told.registryBytes;
  }
  console.log(`retention: ${ROUNDS} rounds, ${tags} tags, ${bytes} bytes, and ${shared} more that strangers keep`);
  expect(Math.min(tags, bytes)).toBeGreaterThan(0);
});

test("a spent allowance gives a part of the bytes, and never more", async () => {
  const name = await world.organization();
  for (const repository of ["a", "b"])
    for (const tag of ["v1", "v2"]) await world.client.pushImage(`${name}/${repository}`, tag);
  await world.gc.pass(dayMs);
  const rows = await world.db.sql<{ id: number; manifest_id: number; namespace_id: number }>`/* test.tags */
      select t.id, t.manifest_id, r.namespace_id from tag t join repository r on r.id = t.repository_id
      join account a on a.id = r.namespace_id where a.username = ${name}`;
  const tags = rows.map((row) => ({ id: Number(row.id), manifestId: Number(row.manifest_id) }));
  const namespaceId = Number(rows[0]?.namespace_id);
  const told: number[] = [];
  for (let rowsMax = 1; rowsMax < 200; rowsMax++) {
    const allowance = new Allowance(rowsMax);
    const freed = await freedByTags(world.db, tags, { namespaceId, nowMs: Date.now(), allowance });
    told.push(freed.registryBytes);
    if (!allowance.isSpent) break;
  }
  expect(told).toEqual([...told].sort((a, b) => a - b));
  expect([told[0], told.at(-1)]).toEqual([
    0,
    (await dryRun(`/organization/${name}`, { method: "last_pull_date", value: "1s" })).bytes,
  ]);
});

/** Bytes of the files in the store. */
async function storedBytes(): Promise<number> {
  const root = join(world.gc.api.berth.dataDir, "blobs");
  const files = await Array.fromAsync(new Bun.Glob("sha*/*/*").scan(root));
  return files.reduce((sum, file) => sum + Bun.file(join(root, file)).size, 0);
}

/** Bytes of the blobs that repositories of a namespace link, each once. */
async function linkedBytes(namespace: string): Promise<number> {
  const [row] = await world.db.sql<{ n: number | null }>`/* test.linked */
    select cast(sum(b.size_bytes) as bigint) as n from blob b where b.id in (
      select l.blob_id from repository_blob l join repository r on r.id = l.repository_id
      join account a on a.id = r.namespace_id where a.username = ${namespace})`;
  return Number(row?.n ?? 0);
}

async function letAllGo(): Promise<void> {
  await world.gc.pass(windowMs + 2 * dayMs);
  await world.gc.collect();
  // A blob is left alone for its first minute.
  await world.gc.pass(120_000);
  await world.gc.collect();
}

/** A random namespace and a stranger with the same layers; says what the dry run told, after holding it to what happens. */
async function compareOnce(random: Random): Promise<Told> {
  for (const table of ["autoprune_policy", "prune_repository"])
    await world.db.sql`/* test.clear */ delete from ${fragment([table])}`;
  const [name, stranger] = [await world.organization(), await world.organization()];
  await new RandomPushes(world, random, [`${name}/a`, `${name}/b`, `${name}/c`, `${stranger}/x`]).run(90);
  await letAllGo();
  for (let n = random.integer(2, 4); n > 0; n--) {
    const at = random.integer(0, 2) > 0 ? `/organization/${name}` : `/repository/${name}/a`;
    expect([201, 400]).toContain((await world.su.post(`${at}/autoprunepolicy/`, randomRule(random))).status);
  }
  const [before, stored, linked] = [await world.living(name), await storedBytes(), await linkedBytes(name)];
  const told = await dryRun(`/organization/${name}`);
  const ofOne = await dryRun(`/repository/${name}/a`);
  expect(ofOne.tags).toEqual(told.tags.filter((tag) => tag.startsWith("a:")));
  expect([await world.living(name), await storedBytes()]).toEqual([before, stored]);
  await world.prune();
  const after = new Set(await world.living(name));
  expect(told.tags).toEqual(before.filter((tag) => !after.has(tag)));
  expect(told.count).toBe(told.tags.length);
  await letAllGo();
  expect({ bytes: linked - (await linkedBytes(name)), registryBytes: stored - (await storedBytes()) }).toEqual({
    bytes: told.bytes,
    registryBytes: told.registryBytes,
  });
  return told;
}

function randomRule(random: Random): Record<string, unknown> {
  const pattern = [undefined, "^t[0-4]", "[02468]$", "t1|t3"][random.integer(0, 3)];
  const only = pattern === undefined ? {} : { tagPattern: pattern, tagPatternMatches: random.integer(0, 1) === 0 };
  if (random.integer(0, 2) === 0) return { method: "number_of_tags", value: random.integer(1, 6), ...only };
  const method = random.integer(0, 1) === 0 ? "creation_date" : "last_pull_date";
  return { method, value: `${random.integer(17, 60)}d`, ...only };
}
