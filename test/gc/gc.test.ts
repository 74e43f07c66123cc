/** What is collected, when, and what never is: pushes and deletions over the wire, the store's files counted. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { purgeDeleted } from "../../src/domain/gc/jobs.ts";
import { collect } from "../../src/domain/gc/round.ts";
import { Tally } from "../../src/domain/gc/tally.ts";
import { RegistryError } from "../../src/errors.ts";
import type { StorageDriver } from "../../src/storage/driver.ts";
import { mediaTypes, type PushedImage, type RegistryClient } from "../support/registry-client.ts";
import { dayMs, type GcWorld, startGcWorld, windowMs } from "./world.ts";

setDefaultTimeout(60_000);

const hourMs = 3600 * 1000;
const minuteMs = 60_000;

let world: GcWorld;
let client: RegistryClient;
beforeAll(async () => {
  world = await startGcWorld();
  client = world.api.admin;
}, 120_000);
afterAll(() => world?.stop());

const blobsOf = (...images: PushedImage[]) =>
  [...new Set(images.flatMap(({ config, layers }) => [config, ...layers].map(({ digest }) => digest)))].sort();

/** Deleted as a client does it: by tag, which the registry takes for a delete of the tag alone. */
async function deleteManifest(repository: string, reference: string): Promise<void> {
  const response = await client.request(`/v2/${repository}/manifests/${reference}`, {
    method: "DELETE",
    scope: `repository:${repository}:delete`,
  });
  expect(response.status).toBe(202);
}

/** Everything goes, so that the next test counts from nothing. */
async function clear(): Promise<void> {
  const { db } = world.api.app;
  const tags = await db.sql<{ name: string; path: string }>`/* test.alive */
    select t.name, r.path from tag t join repository r on r.id = t.repository_id
    where t.end_ms is null and r.deleted_ms is null`;
  for (const { name, path } of tags) await deleteManifest(path, name);
  await world.pass(windowMs + dayMs);
  await world.collect();
  expect([await world.known(), await world.stored()]).toEqual([[], []]);
}

describe("a tag that was deleted", () => {
  test("keeps its image for the window, to the byte, and then nothing of it is left", async () => {
    const [kept, gone] = [await client.pushImage("admin/a", "kept"), await client.pushImage("admin/a", "gone")];
    await deleteManifest("admin/a", "gone");
    await world.pass(windowMs - minuteMs);
    expect((await world.collect()).blobs).toBe(0);
    expect(await world.stored()).toEqual(blobsOf(kept, gone));
    const su = await world.api.as("admin");
    const restored = await su.post("/repository/admin/a/tag/gone/restore", { manifest_digest: gone.descriptor.digest });
    expect(restored.status).toBe(200);
    await deleteManifest("admin/a", "gone");
    await world.pass(windowMs - minuteMs);
    await world.collect();
    expect(await world.stored()).toEqual(blobsOf(kept, gone));

    await world.pass(2 * minuteMs);
    const tally = await world.collect();
    expect(tally.blobs).toBe(2);
    expect(await world.stored()).toEqual(blobsOf(kept));
    expect(await world.known()).toEqual(blobsOf(kept));
    expect((await client.pullManifest("admin/a", gone.descriptor.digest)).status).toBe(404);
    for (const digest of blobsOf(gone)) expect((await client.pullBlob("admin/a", digest)).status).toBe(404);
    expect((await client.pullManifest("admin/a", "kept")).status).toBe(200);
    for (const digest of blobsOf(kept)) expect((await client.pullBlob("admin/a", digest)).status).toBe(200);
    expect((await world.collect()).isEmpty).toBe(true);
    await clear();
  });

  test("moved to another image lets go of the first", async () => {
    const first = await client.pushImage("admin/a", "latest");
    const second = await client.pushImage("admin/a", "latest");
    await world.pass(windowMs + hourMs + minuteMs);
    await world.collect();
    expect(await world.stored()).toEqual(blobsOf(second));
    expect(blobsOf(first)).not.toEqual(blobsOf(second));
    await clear();
  });

  test("shares layers with others, which stay", async () => {
    const layer = randomBytes(3000);
    const images: PushedImage[] = [];
    for (const repository of ["admin/a", "admin/b"]) {
      await client.pushBlob(repository, layer);
      images.push(await client.pushImage(repository, "v1"));
      const shared = { ...JSON.parse(new TextDecoder().decode(images.at(-1)?.manifest)) };
      shared.layers.push({ mediaType: mediaTypes.layer, size: layer.length, digest: digestOf(layer) });
      const pushed = await client.pushManifest(repository, "v1", new TextEncoder().encode(JSON.stringify(shared)));
      expect(pushed.status).toBe(201);
    }
    await deleteManifest("admin/a", "v1");
    await world.pass(windowMs + hourMs + minuteMs);
    await world.collect();
    expect(await world.stored()).toContain(digestOf(layer));
    expect((await client.pullBlob("admin/a", digestOf(layer))).status).toBe(404);
    expect((await client.pullBlob("admin/b", digestOf(layer))).status).toBe(200);
    await clear();
  });
});

describe("without a tag", () => {
  test("a manifest pushed by digest stays for its lease", async () => {
    const image = await client.pushImage("admin/a", "v1");
    const other = new TextEncoder().encode(
      JSON.stringify({ ...JSON.parse(new TextDecoder().decode(image.manifest)), annotations: { n: "1" } }),
    );
    expect((await client.pushManifest("admin/a", digestOf(other), other)).status).toBe(201);
    await world.pass(hourMs - minuteMs);
    await world.collect();
    expect((await client.pullManifest("admin/a", digestOf(other))).status).toBe(200);
    await world.pass(2 * minuteMs);
    await world.collect();
    expect((await client.pullManifest("admin/a", digestOf(other))).status).toBe(404);
    expect((await client.pullManifest("admin/a", "v1")).status).toBe(200);
    expect(await world.stored()).toEqual(blobsOf(image));
    await clear();
  });

  test("an index keeps its images, a subject its referrers, and both go with them", async () => {
    const children = [await client.pushImage("admin/a", "amd64"), await client.pushImage("admin/a", "arm64")];
    const index = bytesOf({
      schemaVersion: 2,
      mediaType: mediaTypes.index,
      manifests: children.map(({ descriptor }) => descriptor),
    });
    expect((await client.pushManifest("admin/a", "multi", index, mediaTypes.index)).status).toBe(201);
    const signature = randomBytes(200);
    await client.pushBlob("admin/a", signature);
    const referrer = bytesOf({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      artifactType: "application/vnd.example.signature",
      config: children[0]?.config,
      layers: [{ mediaType: "application/octet-stream", size: signature.length, digest: digestOf(signature) }],
      subject: { mediaType: mediaTypes.index, size: index.length, digest: digestOf(index) },
    });
    expect((await client.pushManifest("admin/a", digestOf(referrer), referrer)).status).toBe(201);
    for (const tag of ["amd64", "arm64"]) await deleteManifest("admin/a", tag);
    await world.pass(windowMs + dayMs);
    await world.collect();
    expect(await world.stored()).toEqual([...blobsOf(...children), digestOf(signature)].sort());
    for (const digest of [digestOf(index), digestOf(referrer), ...children.map((child) => child.descriptor.digest)]) {
      expect((await client.pullManifest("admin/a", digest)).status).toBe(200);
    }
    await deleteManifest("admin/a", "multi");
    await world.pass(windowMs + dayMs);
    await world.collect();
    expect([await world.stored(), await world.count("manifest"), await world.count("manifest_child")]).toEqual([
      [],
      0,
      0,
    ]);
    await clear();
  });

  test("an index keeps an image that was deleted when it came, and that was pushed or restored since", async () => {
    const su = await world.api.as("admin");
    for (const back of ["pushed", "restored"]) {
      const image = await client.pushImage("admin/a", "old");
      const { digest } = image.descriptor;
      await deleteManifest("admin/a", digest);
      const index = bytesOf({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [image.descriptor] });
      expect((await client.pushManifest("admin/a", "multi", index, mediaTypes.index)).status).toBe(201);
      if (back === "pushed") expect((await client.pushManifest("admin/a", digest, image.manifest)).status).toBe(201);
      else {
        const answer = await su.post("/repository/admin/a/tag/old/restore", { manifest_digest: digest });
        expect(answer.status).toBe(200);
        await deleteManifest("admin/a", "old");
      }
      await world.pass(windowMs + dayMs);
      await world.collect();
      expect([back, (await client.pullManifest("admin/a", digest)).status]).toEqual([back, 200]);
      expect(await world.stored()).toEqual(blobsOf(image));
      await clear();
    }
  });

  test("a manifest deleted by digest can be restored for the window", async () => {
    const image = await client.pushImage("admin/a", "v1");
    await deleteManifest("admin/a", image.descriptor.digest);
    await world.pass(windowMs - minuteMs);
    await world.collect();
    const su = await world.api.as("admin");
    const { digest } = image.descriptor;
    expect((await su.post("/repository/admin/a/tag/v1/restore", { manifest_digest: digest })).status).toBe(200);
    expect((await client.pullManifest("admin/a", "v1")).status).toBe(200);
    for (const blob of blobsOf(image)) expect((await client.pullBlob("admin/a", blob)).status).toBe(200);
    await clear();
  });

  test("a blob that no manifest names stays for its lease, and one that is deleted goes at once", async () => {
    const [lone, deleted] = [randomBytes(100), randomBytes(100)];
    for (const content of [lone, deleted]) await client.pushBlob("admin/a", content);
    await world.pass(2 * minuteMs);
    const response = await client.request(`/v2/admin/a/blobs/${digestOf(deleted)}`, {
      method: "DELETE",
      scope: "repository:admin/a:delete",
    });
    expect(response.status).toBe(202);
    await world.collect();
    expect(await world.stored()).toEqual([digestOf(lone)]);
    await world.pass(hourMs);
    await world.collect();
    expect(await world.stored()).toEqual([]);
  });
});

test("a manifest that cannot be removed keeps no other from going", async () => {
  const { db } = world.api.app;
  const [stuck, free] = [await client.pushImage("admin/a", "stuck"), await client.pushImage("admin/a", "free")];
  for (const tag of ["stuck", "free"]) await deleteManifest("admin/a", tag);
  await db.tx((tx) => tx.script("create table held_by_others (manifest_id bigint not null references manifest (id))"));
  await db.sql`/* test.hold */
    insert into held_by_others (manifest_id) select id from manifest where digest = ${stuck.descriptor.digest}`;
  await world.pass(windowMs + dayMs);
  await world.collect();
  expect(await world.stored()).toEqual(blobsOf(stuck));
  expect(blobsOf(free).length).toBe(2);
  await db.tx((tx) => tx.script("drop table held_by_others"));
  await world.pass(hourMs);
  await clear();
});

test("what waits for the removal of its repository keeps nothing else from going", async () => {
  const { db } = world.api.app;
  const su = await world.api.as("admin");
  const image = await client.pushImage("admin/a", "free");
  await client.pushImage("admin/waits", "v1");
  const due = { many: 600, digest: `sha256:${"0".repeat(58)}` };
  // As many as no look reads at once, all due before the image.
  await db.tx(async (tx) => {
    for (let n = 0; n < due.many; n++) {
      const digest = `${due.digest}${n.toString().padStart(6, "0")}`;
      await tx.sql`/* test.manifest */
        insert into manifest (repository_id, digest, kind, media_type, annotations, size_bytes, layers_size_bytes, created_ms,
                              lease_until_ms, content)
        select id, ${digest}, 'image', ${mediaTypes.manifest}, '{}', 2, 0, 0, 1, ${new Uint8Array(2)}
        from repository where path = 'admin/waits'`;
      await tx.sql`/* test.blob */
        insert into blob (digest, size_bytes, created_ms) values (${digest}, 0, 0)`;
      await tx.sql`/* test.link */
        insert into repository_blob (repository_id, blob_id, lease_until_ms, created_ms)
        select r.id, b.id, 1, 0 from repository r, blob b where r.path = 'admin/waits' and b.digest = ${digest}`;
    }
  });
  expect((await su.delete("/repository/admin/waits")).status).toBe(204);
  const [deleted] = (await su.get("/user/deleted")).body.repositories;
  expect((await su.delete(`/user/deleted/${deleted.uuid}`)).status).toBe(204);
  await deleteManifest("admin/a", "free");
  await world.pass(windowMs + dayMs);
  // As with FEATURE_REPOSITORY_GARBAGE_COLLECTION off, or while the removal fails.
  const tally = new Tally();
  await collect(world.api.app, tally);
  expect(tally.blobs).toBe(blobsOf(image).length);
  expect((await world.collect()).repositories).toBe(1);
  await clear();
});

describe("as a whole", () => {
  test("a repository that is deleted goes, with uploads under way, and what it shares stays", async () => {
    const image = await client.pushImage("admin/whole", "v1", { layers: 3 });
    const layer = image.layers[0]?.digest ?? "";
    const mounted = await client.request(`/v2/admin/other/blobs/uploads/?mount=${layer}&from=admin/whole`, {
      method: "POST",
      scope: "repository:admin/other:pull,push repository:admin/whole:pull",
    });
    expect(mounted.status).toBe(201);
    const upload = await client.request("/v2/admin/whole/blobs/uploads/", {
      method: "POST",
      scope: "repository:admin/whole:pull,push",
    });
    const patched = await client.request(upload.headers.get("location") ?? "", {
      method: "PATCH",
      body: randomBytes(1000),
      scope: "repository:admin/whole:pull,push",
    });
    expect(patched.status).toBe(202);
    const su = await world.api.as("admin");
    expect((await su.delete("/repository/admin/whole")).status).toBe(204);
    expect((await world.collect()).repositories).toBe(0);
    // Given up before its time; otherwise it could be restored for the window.
    const deleted = (await su.get("/user/deleted")).body.repositories;
    expect(deleted.map(({ name }: { name: string }) => name)).toEqual(["whole"]);
    expect((await su.delete(`/user/deleted/${deleted[0].uuid}`)).status).toBe(204);
    await world.pass(2 * minuteMs);
    const tally = await world.collect();
    expect(tally.repositories).toBe(1);
    expect(await world.api.uploads()).toEqual([]);
    expect(await world.stored()).toEqual([layer]);
    expect((await client.pullBlob("admin/other", layer)).status).toBe(200);
    await world.pass(hourMs);
    await world.collect();
    expect(await world.stored()).toEqual([]);
  });

  test("an organization goes with its repositories, teams, robots and policies, and leaves no row", async () => {
    const su = await world.api.as("admin");
    const before = await counts();
    expect((await su.post("/organization/", { name: "gone", email: "gone@example.com" })).status).toBe(201);
    expect((await su.put("/organization/gone/robots/ci", {})).status).toBe(201);
    expect((await su.put("/organization/gone/team/devs", { role: "member" })).status).toBe(200);
    await client.pushImage("gone/one", "v1");
    await client.pushImage("gone/two", "v1");
    expect((await su.delete("/organization/gone")).status).toBe(204);
    await world.pass(windowMs - minuteMs);
    expect((await world.collect()).namespaces).toBe(0);
    await world.pass(2 * minuteMs);
    const tally = await world.collect();
    expect([tally.namespaces, tally.repositories]).toEqual([1, 2]);
    expect(await world.stored()).toEqual([]);
    expect(await counts()).toEqual(before);
  });
});

test("what is removed waits for no store that is away but for what lies there", async () => {
  const su = await world.api.as("admin");
  expect((await su.post("/organization/", { name: "away", email: "away@example.com" })).status).toBe(201);
  for (const path of ["away/one", "away/two"]) {
    await client.pushImage(path, "v1");
    const scope = `repository:${path}:pull,push`;
    const upload = await client.request(`/v2/${path}/blobs/uploads/`, { method: "POST", scope });
    if (path === "away/two") continue;
    const location = upload.headers.get("location") ?? "";
    expect((await client.request(location, { method: "PATCH", body: randomBytes(1000), scope })).status).toBe(202);
  }
  await world.api.app.db.sql`/* test.end */
    delete from upload_session where repository_id in (select id from repository where path = 'away/two')`;
  expect((await su.delete("/organization/away")).status).toBe(204);
  await world.pass(windowMs + dayMs);
  const { app } = world.api;
  const driver = (location: string): StorageDriver =>
    new Proxy(app.storage.driver(location), {
      get(target, name) {
        if (name === "deleteUpload") throw new RegistryError("unavailable", { message: "the store is away" });
        const value = Reflect.get(target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  const tally = new Tally();
  const { signal } = new AbortController();
  await purgeDeleted({ ...app, storage: { ...app.storage, driver } }, ["namespacegc"], tally, signal);
  await collect(app, tally);
  expect([tally.namespaces, tally.repositories, tally.failures, await world.stored()]).toEqual([0, 1, 0, []]);
  await world.pass(hourMs);
  const rest = await world.collect();
  expect([rest.namespaces, rest.repositories, await world.api.uploads()]).toEqual([1, 1, []]);
});

/** A figure of the server's own metrics; NaN when it tells none of that name. */
async function figureOf(own: GcWorld, name: string): Promise<number> {
  const text = await (await fetch(`${own.api.berth.metricsUrl}/metrics`)).text();
  return Number(new RegExp(`^${name}\\{.*\\} (\\d+)$`, "m").exec(text)?.[1]);
}

describe("by itself", () => {
  test("a server with nothing to collect counts its looks as rounds", async () => {
    const own = await startGcWorld({ FEATURE_GARBAGE_COLLECTION: true, GARBAGE_COLLECTION_FREQUENCY: 1 });
    try {
      const rounds = () => figureOf(own, "quay_gc_iterations_total");
      const deadline = performance.now() + 20_000;
      while ((await rounds()) < 2 && performance.now() < deadline) await Bun.sleep(100);
      expect(await rounds()).toBeGreaterThan(1);
    } finally {
      await own.stop();
    }
  });

  test("a server collects, tells its metrics, and gives back the disk", async () => {
    const own = await startGcWorld({
      FEATURE_GARBAGE_COLLECTION: true,
      FEATURE_REPOSITORY_GARBAGE_COLLECTION: true,
      GARBAGE_COLLECTION_FREQUENCY: 1,
      PUSH_TEMP_TAG_EXPIRATION_SEC: 1,
      DEFAULT_TAG_EXPIRATION: "0s",
      TAG_EXPIRATION_OPTIONS: ["0s", "2w"],
    });
    try {
      const { admin, app } = own.api;
      const figure = (name: string) => figureOf(own, name);
      // Rounds are counted also where nothing was ever due: an alert for a collection that stands still reads this.
      const lookedBy = performance.now() + 20_000;
      while ((await figure("quay_gc_iterations_total")) === 0 && performance.now() < lookedBy) await Bun.sleep(100);
      expect(await figure("quay_gc_iterations_total")).toBeGreaterThan(0);
      const kept = await admin.pushImage("admin/a", "kept");
      await admin.pushImage("admin/a", "gone");
      await admin.pushImage("admin/b", "v1");
      const gone = await admin.request("/v2/admin/a/manifests/gone", {
        method: "DELETE",
        scope: "repository:admin/a:delete",
      });
      expect(gone.status).toBe(202);
      expect((await (await own.api.as("admin")).delete("/repository/admin/b")).status).toBe(204);
      // A blob is left alone for its first minute.
      await app.db.sql`/* test.later */ update blob set lease_until_ms = 1`;
      const deadline = performance.now() + 45_000;
      while ((await own.stored()).length > 2 && performance.now() < deadline) await Bun.sleep(100);
      expect(await own.stored()).toEqual(blobsOf(kept));
      while ((await figure("quay_gc_storage_blobs_deleted_total")) < 4 && performance.now() < deadline)
        await Bun.sleep(100);
      expect(await figure("quay_gc_storage_blobs_deleted_total")).toBe(4);
      expect(await figure("quay_gc_repos_purged_total")).toBe(1);
      expect(await figure("quay_gc_iterations_total")).toBeGreaterThan(0);
      // The worker tells what it did to jobs every ten seconds.
      const toldBy = performance.now() + 20_000;
      while ((await figure("quay_queue_item_deletes_total")) < 1 && performance.now() < toldBy) await Bun.sleep(100);
      expect(await figure("quay_queue_item_deletes_total")).toBe(1);
    } finally {
      await own.stop();
    }
  });
});

/** Rows of every table that could keep something of a repository or a namespace. */
async function counts(): Promise<Record<string, number>> {
  const tables = [
    "account",
    "repository",
    "team",
    "tag",
    "manifest",
    "blob",
    "repository_blob",
    "manifest_blob",
    "label",
    "repository_permission",
    "blob_placement",
    "gc_repository",
    "repository_word",
  ];
  return Object.fromEntries(await Promise.all(tables.map(async (table) => [table, await world.count(table)])));
}

function bytesOf(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
}
