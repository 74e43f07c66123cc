/** `berth storage` beside running sites: what it shows, queues, copies and forgets, and what it refuses. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { exitCodes } from "../cli/command.ts";
import { digestOf } from "../support/registry-client.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import { patienceMs, type Sites, startSites } from "./sites.ts";
import { localStore } from "./stores.ts";

setDefaultTimeout(2 * patienceMs);
let dir: TempDir;
let sites: Sites | undefined;
let worlds = 0;

beforeAll(() => {
  dir = makeTempDir("storage-command");
});
afterEach(async () => {
  await sites?.stop();
  sites = undefined;
});
afterAll(() => dir.remove());

async function start(keys: Record<string, unknown> = {}): Promise<Sites> {
  const world = ++worlds;
  const us = await localStore(dir.path, `us-${world}`);
  const eu = await localStore(dir.path, `eu-${world}`);
  sites = await startSites({ us, eu }, keys);
  return sites;
}

async function push({ us }: Sites, count: number): Promise<string[]> {
  const digests: string[] = [];
  for (let n = 0; n < count; n++) {
    const content = randomBytes(20_000);
    expect((await us.client.pushBlob("admin/app", content)).status).toBe(201);
    digests.push(digestOf(content));
  }
  return digests;
}

const alone = { FEATURE_STORAGE_REPLICATION: false };
const replicating = { FEATURE_STORAGE_REPLICATION: true };

/** The line of a location in `status`, as its cells. */
function lineOf(stdout: string, location: string): string[] {
  const line = stdout.split("\n").find((each) => each.startsWith(`${location} `));
  return line?.trim().split(/\s+/) ?? [];
}

test("backfill queues what blobs lack, tells of each, and a worker copies it", async () => {
  const world = await start(alone);
  const digests = await push(world, 3);
  const off = await world.run(["storage", "backfill"]);
  expect(off.code).toBe(exitCodes.config);
  const filled = await world.run(["storage", "backfill"], { config: replicating });
  expect(filled).toMatchObject({ code: exitCodes.ok, stderr: "" });
  for (const digest of digests) {
    expect(filled.stdout).toContain(`Enqueueing manifest blob ${digest} to be replicated\n`);
  }
  const status = await world.run(["storage", "status"]);
  expect(status.code).toBe(exitCodes.ok);
  expect(lineOf(status.stdout, "us").slice(1, 6)).toEqual(["LocalStorage", "ok", "3", "60000", "0"]);
  expect(lineOf(status.stdout, "eu").slice(1, 6)).toEqual(["LocalStorage", "ok", "0", "0", "3"]);
  // The same jobs, taken by the command that waits for them.
  const copied = await world.run(["storage", "copy", "--from", "us", "--to", "eu"]);
  expect(copied.code).toBe(exitCodes.ok);
  expect(copied.stdout).toContain('3 blobs (60000 bytes) of "us" are not in "eu"');
  expect(copied.stdout).toContain("3 of 3 blobs, 60000 of 60000 bytes");
  await world.verify(digests);
  const after = await world.run(["storage", "backfill"], { config: replicating });
  expect(after.stdout).toBe("every blob is in every location that it should be in\n");
});

test("a worker of its own copies what is queued", async () => {
  const world = await start(alone);
  const digests = await push(world, 2);
  await world.run(["storage", "backfill"], { config: replicating });
  const worker = world.startWorker(replicating);
  await world.replicated(digests);
  expect(await worker.stop(patienceMs)).toBe(exitCodes.ok);
  await world.verify(digests);
});

test("copy says what it could not bring, and ends with 1", async () => {
  const world = await start(alone);
  const digests = await push(world, 2);
  const [lost = ""] = digests;
  const path = join(String(world.stores.us.engine[1].storage_path), "sha256", lost.slice(7, 9), lost.slice(7));
  rmSync(path);
  const copied = await world.run(["storage", "copy", "--from", "us", "--to", "eu"]);
  expect(copied.code).toBe(exitCodes.failed);
  expect(copied.stderr).toContain('1 blobs of "us" are still not in "eu"');
  expect(copied.stderr).toContain(lost);
  expect(await world.placesOf(digests[1] ?? "")).toEqual(["eu", "us"]);
});

test("remove-location refuses what would lose a blob, asks, and then forgets the location alone", async () => {
  const world = await start(alone);
  const [first = ""] = await push(world, 1);
  const remove = ["storage", "remove-location", "us"];
  const withoutUs = {
    DISTRIBUTED_STORAGE_CONFIG: { eu: world.stores.eu.engine },
    DISTRIBUTED_STORAGE_PREFERENCE: ["eu"],
    DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: ["eu"],
  };
  const inConfig = await world.run(remove);
  expect(inConfig.code).toBe(exitCodes.failed);
  expect(inConfig.stderr).toContain('"us" is in DISTRIBUTED_STORAGE_CONFIG');
  const only = await world.run([...remove, "--yes"], { config: withoutUs });
  expect(only.code).toBe(exitCodes.failed);
  expect(only.stderr).toContain('1 blobs are in "us" and in no other location');
  expect(only.stderr).toContain(first);
  expect(await world.placesOf(first)).toEqual(["us"]);

  expect((await world.run(["storage", "copy", "--from", "us", "--to", "eu"])).code).toBe(exitCodes.ok);
  for (const stdin of ["n\n", ""]) {
    const asked = await world.run(remove, { config: withoutUs, stdin });
    expect(asked.code).toBe(exitCodes.failed);
    expect(asked.stdout).toContain(
      "WARNING: This is a destructive operation. Are you sure you want to remove us from your storage locations? [y/n] ",
    );
    expect(await world.placesOf(first)).toEqual(["eu", "us"]);
  }
  const done = await world.run(remove, { config: withoutUs, stdin: "y\n" });
  expect(done.code).toBe(exitCodes.ok);
  expect(done.stdout).toMatch(/Deleted placement \d+\nDeleted location us\n$/);
  expect(await world.placesOf(first)).toEqual(["eu"]);
  // No byte is gone.
  await world.verify([first]);
  const again = await world.run([...remove, "--yes"], { config: withoutUs });
  expect(again.code).toBe(exitCodes.failed);
  expect(again.stderr).toContain('nothing is recorded of a location "us"');
});

test("a location that is not there, or twice the same, is a mistake", async () => {
  const world = await start(alone);
  for (const args of [
    ["copy"],
    ["copy", "--from", "us", "--to", "asia"],
    ["copy", "--from", "us", "--to", "us"],
    ["status", "--yes"],
    ["backfill", "--from", "us"],
    ["remove-location"],
    ["remove"],
  ]) {
    expect((await world.run(["storage", ...args])).code).toBe(exitCodes.usage);
  }
  expect((await world.run(["worker", "sleep"])).code).toBe(exitCodes.usage);
});
