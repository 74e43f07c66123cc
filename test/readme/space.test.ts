/**
 * The README's chapter on space, walked as it is written with podman and curl: on SQLite and a disk, and beside that on
 * PostgreSQL and S3, where only the places of rows and bytes are other ones.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createTestDatabase } from "../support/postgres.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { block } from "./blocks.ts";
import { Walk } from "./walk.ts";

setDefaultTimeout(300_000);
const ADDRESS = "127.0.0.1:8080";
/** The disk, as `du` shows it. Of a bucket there is nothing to see there: it is looked into below. */
const DISK = "du -sm berth-data/blobs/sha256";

let disk: Walk;
let store: Walk;
/** What a command needs to know of the store that the registry was told by its environment. */
let elsewhere = "";
let s3: S3Server | undefined;
let bucket = "";

beforeAll(async () => {
  s3 = await startS3();
  bucket = await s3.createBucket();
  disk = await begin({});
  const places = {
    DB_URI: await createTestDatabase(),
    DISTRIBUTED_STORAGE_CONFIG: { s3: s3.engineConfig(bucket, { storage_path: "/" }) },
    DISTRIBUTED_STORAGE_PREFERENCE: ["s3"],
  };
  store = await begin(places);
  elsewhere = `export QUAY_OVERRIDE_CONFIG='${JSON.stringify(places)}'\n`;
  store.replace(DISK, "echo 0");
});
afterAll(async () => {
  await disk?.end();
  await store?.end();
  await s3?.stop();
});

async function begin(more: Record<string, unknown>): Promise<Walk> {
  const walk = await Walk.begin("space", "");
  await walk.give(ADDRESS);
  const [, config = "", command = ""] =
    /^QUAY_OVERRIDE_CONFIG='(.*)' (berth serve .*)$/m.exec(block("start", "space")) ?? [];
  await walk.start(`${command} --listen ${ADDRESS} --metrics-listen off`, {
    BERTH_ADMIN_PASSWORD: "",
    QUAY_OVERRIDE_CONFIG: JSON.stringify({ ...JSON.parse(config), ...more }),
  });
  return walk;
}

/** Runs a block on both, as a reader does who goes through the chapter in one shell. */
function run(name: string): Promise<string[]> {
  const script = block("run", "space-api") + block("run", name);
  return Promise.all([disk.run(script), store.run(elsewhere + script)]);
}

async function storedBytes(): Promise<number> {
  const objects = (await s3?.objects(bucket, "sha256/")) ?? [];
  return objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

test("podman pushes, and the organization uses as much as was pushed", async () => {
  await Promise.all([disk, store].map((walk) => walk.run(block("run", "space-token"))));
  const outputs = await run("space-push");
  for (const output of outputs) expect(Number(/^(\d{8})$/m.exec(output)?.[1])).toBeGreaterThan(20_000_000);
  expect(outputs[0]).toMatch(/^2\d\s+berth-data/m);
  expect(await storedBytes()).toBeGreaterThan(20_000_000);
});

test("a deleted tag is restored within the window", async () => {
  for (const output of await run("space-restore")) {
    expect(output).toMatch(/"end_ts":\d+/);
    expect(output).toContain('"manifest_digest":"sha256:');
  }
});

test("a deleted repository is restored", async () => {
  for (const output of await run("space-undelete")) {
    expect(output).toContain('"name":"app"');
    expect(output).toContain('{"namespace":"lab","name":"app"}');
  }
});

test("a policy tells beforehand what it would end and free", async () => {
  // It is about tags that are older than a second.
  await Bun.sleep(1100);
  for (const output of await run("space-retention")) {
    expect(output).toMatch(/"name":"v1".*"tag_count":1,"bytes":2\d{7}\b/);
    expect(output).toMatch(/\{"uuid":"[0-9a-f-]{36}"\}/);
  }
});

test("a quota is set, and podman is told that it is exceeded", async () => {
  for (const output of await run("space-quota")) expect(output).toContain('"type":"Reject","limit_percent":100');
  for (const walk of [disk, store]) {
    const pushed = walk.run(block("run", "space-reject"));
    await expect(pushed).rejects.toThrow("denied: Quota has been exceeded on namespace");
  }
});

test("what was deleted makes room by itself, on the disk and in the bucket, and the push goes through", async () => {
  for (const output of await run("space-back")) {
    expect(output).toContain('"tag_expiration_s":0');
    expect(output).toContain("Writing manifest to image destination");
  }
  while ((await storedBytes()) > 30_000_000) await Bun.sleep(500);
});

test("every blob is compared with its digest", async () => {
  for (const output of await run("space-scrub"))
    expect(output).toMatch(/done: \d+ blobs compared, 2\d{7} bytes read, 0 bad/);
});

test("the command tells what was freed, and what keeps a tag", async () => {
  for (const output of await run("space-look")) {
    expect(output).toMatch(/in all +19\.\d MiB/);
    expect(output).toMatch(/^tag lab\/app:v2.*: kept$/m);
  }
});
