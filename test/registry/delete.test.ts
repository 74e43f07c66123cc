/** Deleting tags, manifests and blobs: gone at once, through caches too, and back when pushed again. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { absentDigest, fixedBytes, image, index, publish } from "../support/content.ts";
import { digestOf, mediaTypes, type RegistryClient } from "../support/registry-client.ts";
import { errorOf, type Registry, startRegistry } from "./harness.ts";

const repository = "admin/delete";
let registry: Registry;
let admin: RegistryClient;

beforeAll(async () => {
  registry = await startRegistry();
  admin = registry.admin;
}, 60_000);
afterAll(() => registry.stop());

function remove(path: string, client = admin, name = repository): Promise<Response> {
  return client.request(`/v2/${name}/${path}`, { method: "DELETE", scope: `repository:${name}:pull,push,delete` });
}

async function tags(): Promise<string[]> {
  return ((await (await admin.listTags(repository)).json()) as { tags: string[] }).tags;
}

/** Pulls often enough that every cache on the way holds it. */
async function warm(reference: string): Promise<void> {
  for (let round = 0; round < 3; round++) {
    expect((await admin.pullManifest(repository, reference)).status).toBe(200);
  }
}

test("a deleted tag is gone at once, says that it was there, and leaves its manifest", async () => {
  const content = image("tag");
  await publish(admin, repository, content, "keep");
  await publish(admin, repository, content, "drop");
  await warm("drop");
  expect((await remove("manifests/drop")).status).toBe(202);
  const response = await admin.pullManifest(repository, "drop");
  expect(response.status).toBe(404);
  expect(await errorOf(response)).toEqual({
    code: "TAG_EXPIRED",
    message: "Tag drop was deleted or has expired. To pull, revive via time machine",
    detail: { tag: "drop" },
  });
  expect((await admin.pullManifest(repository, "drop", { method: "HEAD" })).status).toBe(404);
  expect(await tags()).not.toContain("drop");
  expect((await admin.pullManifest(repository, "keep")).status).toBe(200);
  expect((await admin.pullManifest(repository, content.digest)).status).toBe(200);
});

test("a tag that is not there, or is deleted twice, is MANIFEST_UNKNOWN", async () => {
  await publish(admin, repository, image("twice"), "twice");
  expect((await remove("manifests/twice")).status).toBe(202);
  for (const reference of ["twice", "never", absentDigest]) {
    const response = await remove(`manifests/${reference}`);
    expect(response.status).toBe(404);
    expect((await errorOf(response)).code).toBe("MANIFEST_UNKNOWN");
  }
});

test("a deleted tag can be pushed again, to the same manifest or to another", async () => {
  const [first, second] = [image("again-1"), image("again-2")];
  for (const content of [first, first, second]) {
    await publish(admin, repository, content, "again");
    await warm("again");
    const pulled = await admin.pullManifest(repository, "again");
    expect(pulled.headers.get("docker-content-digest")).toBe(content.digest);
    expect((await remove("manifests/again")).status).toBe(202);
    expect((await admin.pullManifest(repository, "again")).status).toBe(404);
  }
});

test("a manifest deleted by digest takes every tag on it along, at once", async () => {
  const content = image("manifest");
  const others = image("manifest-other");
  for (const tag of ["m1", "m2"]) await publish(admin, repository, content, tag);
  await publish(admin, repository, others, "m3");
  for (const reference of ["m1", "m2", content.digest]) await warm(reference);
  expect((await remove(`manifests/${content.digest}`)).status).toBe(202);
  for (const reference of ["m1", "m2", content.digest]) {
    const response = await admin.pullManifest(repository, reference);
    expect(response.status).toBe(404);
    expect((await errorOf(response)).code).toBe(reference.startsWith("m") ? "TAG_EXPIRED" : "MANIFEST_UNKNOWN");
  }
  const left = await tags();
  expect(left).toContain("m3");
  expect(left).not.toContain("m1");
  expect(left).not.toContain("m2");
});

test("a deleted manifest that is pushed again is back with its blobs", async () => {
  const content = image("revived");
  await publish(admin, repository, content, "revived");
  expect((await remove(`manifests/${content.digest}`)).status).toBe(202);
  for (const blob of content.blobs) expect((await remove(`blobs/${digestOf(blob)}`)).status).toBe(202);
  const without = await admin.pushManifest(repository, "revived", content.manifest);
  expect(without.status).toBe(400);
  await publish(admin, repository, content, "revived");
  await warm("revived");
  for (const blob of content.blobs) expect((await admin.pullBlob(repository, digestOf(blob))).status).toBe(200);
});

test("a child deleted out of an index leaves the index; pushed again it is whole", async () => {
  const child = image("child");
  await publish(admin, repository, child);
  const parent = index([child.descriptor]);
  await publish(admin, repository, parent, "parent");
  expect((await remove(`manifests/${child.digest}`)).status).toBe(202);
  expect((await admin.pullManifest(repository, child.digest)).status).toBe(404);
  expect((await admin.pullManifest(repository, "parent")).status).toBe(200);
  await publish(admin, repository, child);
  expect((await admin.pullManifest(repository, child.digest)).status).toBe(200);
});

test("a blob is deleted at once in its repository alone, and back when pushed or mounted", async () => {
  const bytes = fixedBytes(2000, 42);
  const digest = digestOf(bytes);
  await admin.pushBlob(repository, bytes);
  await admin.pushBlob("admin/delete-other", bytes);
  for (let round = 0; round < 3; round++) expect((await admin.pullBlob(repository, digest)).status).toBe(200);
  expect((await remove(`blobs/${digest}`)).status).toBe(202);
  for (const method of ["GET", "HEAD"]) {
    expect((await admin.pullBlob(repository, digest, { method })).status).toBe(404);
  }
  const again = await remove(`blobs/${digest}`);
  expect(again.status).toBe(404);
  expect((await errorOf(again)).code).toBe("BLOB_UNKNOWN");
  expect((await admin.pullBlob("admin/delete-other", digest)).status).toBe(200);
  const mounted = await admin.request(`/v2/${repository}/blobs/uploads/?mount=${digest}&from=admin/delete-other`, {
    method: "POST",
    scope: `repository:${repository}:pull,push repository:admin/delete-other:pull`,
  });
  expect(mounted.status).toBe(201);
  expect((await admin.pullBlob(repository, digest)).status).toBe(200);
  expect((await remove(`blobs/${digest}`)).status).toBe(202);
  expect((await admin.pushBlob(repository, bytes)).status).toBe(201);
  expect(await (await admin.pullBlob(repository, digest)).bytes()).toEqual(bytes);
});

test("a blob that a manifest uses is kept: 409 with the manifest's digest", async () => {
  const content = image("in-use");
  await publish(admin, repository, content, "in-use");
  const [config] = content.blobs;
  const digest = digestOf(config as Uint8Array);
  const response = await remove(`blobs/${digest}`);
  expect(response.status).toBe(409);
  expect(await errorOf(response)).toMatchObject({ code: "DENIED", detail: { digest, manifest: content.digest } });
  expect((await admin.pullBlob(repository, digest)).status).toBe(200);
  // Ending the tag is not enough: the manifest is still there by its digest.
  expect((await remove("manifests/in-use")).status).toBe(202);
  expect((await remove(`blobs/${digest}`)).status).toBe(409);
  expect((await remove(`manifests/${content.digest}`)).status).toBe(202);
  expect((await remove(`blobs/${digest}`)).status).toBe(202);
});

test("deletes of one tag at once: one does it, the others find nothing", async () => {
  await publish(admin, repository, image("race"), "race");
  const answers = await Promise.all(Array.from({ length: 5 }, () => remove("manifests/race")));
  expect(answers.map((response) => response.status).sort()).toEqual([202, 404, 404, 404, 404]);
});

test("readers may not delete, and nothing changes", async () => {
  const content = image("kept");
  await publish(admin, repository, content, "kept");
  const reader = await registry.user("delete-reader");
  await registry.grant("delete-reader", repository, "read");
  for (const path of ["manifests/kept", `manifests/${content.digest}`, `blobs/${content.descriptor.digest}`]) {
    const response = await remove(path, reader);
    expect(response.status).toBe(401);
    await response.body?.cancel();
  }
  await warm("kept");
});

test("a tag of a pushed type can be deleted whatever it is", async () => {
  const list = index([], {}, mediaTypes.index);
  await publish(admin, repository, list, "list");
  expect((await remove("manifests/list")).status).toBe(202);
  expect((await admin.pullManifest(repository, list.digest)).status).toBe(200);
});
