/** A store loses bytes: what `berth scrub` finds, what is served meanwhile, and how a push heals it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { exitCodes } from "../cli/command.ts";
import { errorOf } from "../registry/harness.ts";
import { digestOf } from "../support/registry-client.ts";
import { blobsOf, damages, filesIn, patienceMs, startDiskWorld } from "./world.ts";

setDefaultTimeout(2 * patienceMs);
let world: Awaited<ReturnType<typeof startDiskWorld>>;
const store = () => {
  const found = world.folders.disk;
  if (!found) throw new Error("there is no disk");
  return found;
};

beforeAll(async () => {
  world = await startDiskWorld(["disk"]);
});
afterAll(() => world.stop());

test("finds nothing in a store that is whole, and tells when it last looked", async () => {
  const image = await world.api.admin.pushImage("admin/whole", "v1", { layers: 2, layerBytes: 300_000 });
  const before = await world.status();
  expect(before).toMatchObject({ enabled: false, bytes_per_second: 8 * 1024 * 1024, pass_interval_seconds: 604_800 });
  const { code, stdout } = await world.scrub();
  expect(stdout).toContain("disk: done: ");
  expect(code).toBe(exitCodes.ok);
  const { locations, bad_copies } = await world.status();
  expect(bad_copies).toEqual([]);
  expect(locations).toHaveLength(1);
  const [disk] = locations;
  expect(disk).toMatchObject({ location: "disk", state: "resting", progress: 1, bad: 0, unreadable: 0, bad_copies: 0 });
  expect(disk.blobs).toBeGreaterThanOrEqual(blobsOf(image).length);
  expect(disk.bytes).toBeGreaterThanOrEqual(600_000);
  expect(disk.last_full_ms).toBe(disk.ended_ms);
  expect(disk.age_seconds).toBeLessThan(patienceMs / 1000);
});

describe.each(Object.entries(damages))("%s", (name, { kind, damage }) => {
  test("is found, not served, and healed by a push of the same blob", async () => {
    const { admin } = world.api;
    const repository = `admin/${name.replaceAll(" ", "-")}`;
    const content = crypto.getRandomValues(new Uint8Array(60_000));
    const digest = digestOf(content);
    const image = await admin.pushImage(repository, "v1", { layers: 1 });
    expect((await admin.pushBlob(repository, content)).status).toBe(201);
    // In the server's memory, so that it must be told.
    expect(await world.pull(repository, digest)).toBe(200);
    await damage(store(), digest);

    const found = await world.scrub();
    expect(found.stdout).toContain(`${digest} in "disk": bad (${kind}), out of service`);
    expect(found.code).toBe(exitCodes.failed);
    await world.headBecomes(repository, digest, 404);
    expect(await world.pull(repository, digest)).toBe(404);
    expect(await world.places(digest)).toEqual({ good: [], bad: ["disk"] });
    for (const other of blobsOf(image)) expect(await world.pull(repository, other)).toBe(200);
    expect((await world.logged("blob_copy_bad"))[0]).toMatchObject({ digest, location: "disk", kind, size: 60_000 });
    expect((await world.status()).bad_copies).toMatchObject([{ digest, location: "disk", kind }]);

    // It is not forgotten, and not told again.
    const events = (await world.logged("blob_copy_bad")).length;
    expect((await world.scrub()).code).toBe(exitCodes.failed);
    expect(await world.logged("blob_copy_bad")).toHaveLength(events);

    expect((await admin.pushBlob(repository, content)).status).toBe(201);
    expect(await world.pull(repository, digest)).toBe(200);
    expect(digestOf((await store().read(digest)) ?? new Uint8Array())).toBe(digest);
    expect(await world.places(digest)).toEqual({ good: ["disk"], bad: [] });
    expect((await world.logged("blob_copy_repaired"))[0]).toMatchObject({ digest, location: "disk", how: "pushed" });
    expect((await world.scrub()).code).toBe(exitCodes.ok);
  });
});

test("a manifest cannot name a blob that is out of service, and a mount is an upload", async () => {
  const { admin } = world.api;
  const image = await admin.pushImage("admin/named", "v1", { layers: 1, layerBytes: 5000 });
  const layer = image.layers[0]?.digest ?? "";
  const good = await store().read(layer);
  await damages["a flipped bit"]?.damage(store(), layer);
  expect((await world.scrub("--blob", layer)).code).toBe(exitCodes.failed);
  await world.headBecomes("admin/named", layer, 404);

  const again = await admin.pushManifest("admin/named", "v2", image.manifest);
  expect((await errorOf(again)).code).toBe("MANIFEST_BLOB_UNKNOWN");
  const mount = await admin.request(`/v2/admin/mounting/blobs/uploads/?mount=${layer}&from=admin/named`, {
    method: "POST",
    scope: "repository:admin/mounting:pull,push repository:admin/named:pull",
  });
  expect(mount.status).toBe(202);

  // As somebody does who has a copy of the disk: the next scrub sees that it is right again.
  await store().write(layer, good ?? new Uint8Array());
  const { code, stdout } = await world.scrub("--blob", layer, "--json");
  expect(JSON.parse(stdout)).toEqual({ digest: layer, copies: [{ location: "disk", outcome: "repaired" }] });
  expect(code).toBe(exitCodes.failed);
  await world.headBecomes("admin/named", layer, 200);
  expect((await world.logged("blob_copy_repaired"))[0]).toMatchObject({ digest: layer, how: "read" });
  expect((await admin.pushManifest("admin/named", "v2", image.manifest)).status).toBe(201);
});

test("a store that is not mounted is away, and nothing of it is bad", async () => {
  const image = await world.api.admin.pushImage("admin/mounted", "v1", { layers: 2 });
  const full = store().path;
  const files = filesIn(full);
  renameSync(full, `${full}.away`);
  mkdirSync(full);
  try {
    const { code, stdout } = await world.scrub();
    expect(stdout).toContain("not done, because the store cannot be read now");
    expect(code).toBe(exitCodes.unavailable);
  } finally {
    rmSync(full, { recursive: true });
    renameSync(`${full}.away`, full);
  }
  expect(filesIn(full)).toEqual(files);
  expect((await world.status()).bad_copies).toEqual([]);
  expect((await world.status()).locations[0].state).toBe("waiting");
  for (const digest of blobsOf(image)) expect(await world.pull("admin/mounted", digest)).toBe(200);
  expect((await world.scrub()).code).toBe(exitCodes.ok);
});

test("a blob that cannot be read is told of, and not believed to be bad", async () => {
  const image = await world.api.admin.pushImage("admin/unreadable", "v1", { layers: 1 });
  const layer = image.layers[0]?.digest ?? "";
  const path = join(store().path, "sha256", layer.slice(7, 9), layer.slice(7));
  const good = await store().read(layer);
  rmSync(path);
  // ELOOP for everybody, also for those who may read everything.
  symlinkSync(path, path);
  try {
    const { code, stdout } = await world.scrub();
    expect(stdout).toContain(`${layer} in "disk": cannot be read: `);
    expect(stdout).toMatch(/disk: done: .* 0 bad, 0 repaired, 1 could not be read/);
    expect(code).toBe(exitCodes.unavailable);
  } finally {
    rmSync(path);
    await store().write(layer, good ?? new Uint8Array());
  }
  const [disk] = (await world.status()).locations;
  expect(disk).toMatchObject({ state: "resting", unreadable: 1, bad_copies: 0 });
  expect(disk.last_full_ms).toBeLessThan(disk.ended_ms);
  expect(await world.places(layer)).toEqual({ good: ["disk"], bad: [] });
  expect(await world.pull("admin/unreadable", layer)).toBe(200);
  expect((await world.scrub()).code).toBe(exitCodes.ok);
});

test("a blob that is recorded in no store is told of, and a push brings it back", async () => {
  const { admin, app } = world.api;
  const content = crypto.getRandomValues(new Uint8Array(3000));
  const digest = digestOf(content);
  expect((await admin.pushBlob("admin/lost", content)).status).toBe(201);
  await app.db.tx(async (tx) => {
    await tx.sql`/* test.lose */
      delete from blob_placement where blob_id = (select id from blob where digest = ${digest})`;
  });
  const { code, stdout } = await world.scrub();
  expect(stdout).toContain(`${digest} in no store: bad (lost)`);
  expect(code).toBe(exitCodes.failed);
  await world.headBecomes("admin/lost", digest, 404);
  expect((await world.logged("blob_copy_bad"))[0]).toMatchObject({ digest, location: "", kind: "lost" });
  expect((await admin.pushBlob("admin/lost", content)).status).toBe(201);
  expect(await world.places(digest)).toEqual({ good: ["disk"], bad: [] });
  expect(await world.pull("admin/lost", digest)).toBe(200);
  expect((await world.scrub()).code).toBe(exitCodes.ok);
});

test("reads no faster than its budget", async () => {
  const content = crypto.getRandomValues(new Uint8Array(1_500_000));
  expect((await world.api.admin.pushBlob("admin/slow", content)).status).toBe(201);
  const startedMs = performance.now();
  const { code } = await world.scrub("--blob", digestOf(content), "--bytes-per-second", "500000");
  const tookMs = performance.now() - startedMs;
  expect(code).toBe(exitCodes.ok);
  // 3 s of bytes, less what may be read at once.
  expect(tookMs).toBeGreaterThan(2700);
});

test("shows how it stands, and refuses what makes no sense", async () => {
  const status = await world.scrub("--status");
  expect(status.stdout).toMatch(/^disk: last read in full 0\.0 days ago; resting\n {2}last pass: \d+ blobs compared/);
  expect(status.code).toBe(exitCodes.ok);
  const json = await world.scrub("--status", "--json");
  expect(JSON.parse(json.stdout)).toMatchObject({ enabled: false, locations: [{ location: "disk" }], bad_copies: [] });
  for (const args of [
    ["--location", "tape"],
    ["--bytes-per-second", "fast"],
    ["--bytes-per-second", "0"],
    ["--status", "--blob", digestOf(new Uint8Array())],
    ["sha256:abc"],
  ]) {
    const { code, stderr } = await world.scrub(...args);
    expect([args, code]).toEqual([args, exitCodes.usage]);
    expect(stderr).toStartWith("berth scrub: ");
  }
  const unknown = await world.scrub("--blob", `sha256:${"0".repeat(64)}`);
  expect(unknown.code).toBe(exitCodes.failed);
  expect(unknown.stderr).toContain("no store of the config has a blob");
});
