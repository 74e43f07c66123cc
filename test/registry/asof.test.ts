/** `?asof=`: tags as they were at an instant, on /v2 and the API, as long as the time machine keeps it. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { dayMs, type GcWorld, startGcWorld, windowMs } from "../gc/world.ts";
import { mediaTypes, type PushedImage, type RegistryClient } from "../support/registry-client.ts";

setDefaultTimeout(60_000);

const hourMs = 3600 * 1000;

let world: GcWorld;
let client: RegistryClient;
beforeAll(async () => {
  world = await startGcWorld({ PERMANENTLY_DELETE_TAGS: true, CREATE_PRIVATE_REPO_ON_PUSH: true });
  client = world.api.admin;
}, 120_000);
afterAll(() => world?.stop());

/** An instant so many hours ago, as a query wants it. */
const ago = (hours: number) => new Date(Date.now() - hours * hourMs).toISOString();

const at = (repository: string, reference: string, asof: string, options = {}) =>
  client.pullManifest(repository, `${reference}?asof=${encodeURIComponent(asof)}`, options);

async function remove(repository: string, reference: string): Promise<void> {
  const response = await client.request(`/v2/${repository}/manifests/${reference}`, {
    method: "DELETE",
    scope: `repository:${repository}:delete`,
  });
  expect(response.status).toBe(202);
}

async function errorOf(response: Response): Promise<{ status: number; code: string; message: string }> {
  const { errors } = (await response.json()) as { errors: { code: string; message: string }[] };
  return { status: response.status, code: errors[0]?.code ?? "", message: errors[0]?.message ?? "" };
}

async function expectImage(repository: string, image: PushedImage, response: Response): Promise<void> {
  expect([response.status, response.headers.get("docker-content-digest")]).toEqual([200, image.descriptor.digest]);
  expect(Buffer.from(await response.arrayBuffer()).equals(Buffer.from(image.manifest))).toBe(true);
  for (const { digest } of [image.config, ...image.layers]) {
    expect((await client.pullBlob(repository, digest)).status).toBe(200);
  }
}

describe("a tag that was moved and deleted", () => {
  const repository = "admin/moved";
  let first: PushedImage;
  let second: PushedImage;
  beforeAll(async () => {
    first = await client.pushImage(repository, "v1");
    await world.pass(hourMs);
    second = await client.pushImage(repository, "v1");
    await world.pass(hourMs);
    await remove(repository, "v1");
    await world.pass(hourMs);
    await world.collect();
  });

  test("is what it was, and its blobs can be pulled", async () => {
    await expectImage(repository, first, await at(repository, "v1", ago(2.5)));
    await expectImage(repository, second, await at(repository, "v1", ago(1.5)));
    expect((await client.pullManifest(repository, "v1")).status).toBe(404);
  });

  test("is asked for by HEAD and by condition as any other", async () => {
    const head = await at(repository, "v1", ago(1.5), { method: "HEAD" });
    const { digest } = second.descriptor;
    expect([head.status, head.headers.get("docker-content-digest"), await head.text()]).toEqual([200, digest, ""]);
    const conditional = (asof: string) => at(repository, "v1", asof, { headers: { "If-None-Match": `"${digest}"` } });
    expect((await conditional(ago(1.5))).status).toBe(304);
    expect((await conditional(ago(2.5))).status).toBe(200);
  });

  test("takes seconds since 1970 and offsets, a plus sent as a blank too", async () => {
    const seconds = String((Date.now() - 2.5 * hourMs) / 1000);
    const shifted = new Date(Date.now() - 1.5 * hourMs).toISOString().replace("Z", " 01:00");
    await expectImage(repository, first, await at(repository, "v1", seconds));
    await expectImage(repository, first, await at(repository, "v1", shifted));
  });

  test("was not there before it began, nor after it ended, and the answer says which", async () => {
    const before = await errorOf(await at(repository, "v1", ago(10)));
    expect([before.status, before.code]).toEqual([404, "MANIFEST_UNKNOWN"]);
    expect(before.message).toMatch(/^what is known of tag "v1" begins at \d{4}-.*, after \d{4}-/);
    const after = await errorOf(await at(repository, "v1", ago(0.5)));
    expect([after.status, after.code]).toEqual([404, "MANIFEST_UNKNOWN"]);
    expect(after.message).toMatch(/^tag "v1" did not exist at \d{4}-/);
    const never = await errorOf(await at(repository, "never", ago(0.5)));
    expect([never.status, never.code, never.message]).toEqual([
      404,
      "MANIFEST_UNKNOWN",
      'nothing is known of a tag "never" here',
    ]);
  });

  test("is found by the times that the API tells", async () => {
    const su = await world.api.as("admin");
    const { tags } = (await su.get(`/repository/${repository}/tag/?specificTag=v1`)).body;
    expect(tags.length).toBe(2);
    for (const tag of tags) {
      const response = await at(repository, "v1", String(tag.start_ts));
      expect(response.headers.get("docker-content-digest")).toBe(tag.manifest_digest);
      const then = (await su.get(`/repository/${repository}/tag/?asof=${tag.start_ts}`)).body;
      expect(then).toEqual({ tags: [tag], page: 1, has_additional: false });
    }
  });
});

test("what a tag is now is not unsettled by what it was", async () => {
  const repository = "admin/now";
  const first = await client.pushImage(repository, "v1");
  await world.pass(hourMs);
  const now = async () => (await client.pullManifest(repository, "v1")).headers.get("docker-content-digest");
  const then = async () => (await at(repository, "v1", ago(0.5))).headers.get("docker-content-digest");
  expect([await now(), await then()]).toEqual([first.descriptor.digest, first.descriptor.digest]);
  const second = await client.pushImage(repository, "v1");
  for (let round = 0; round < 3; round++) {
    expect([await then(), await now()]).toEqual([first.descriptor.digest, second.descriptor.digest]);
  }
  await remove(repository, "v1");
  expect(await then()).toBe(first.descriptor.digest);
  expect((await client.pullManifest(repository, "v1")).status).toBe(404);
});

test("a value that is no time, or lies ahead, is refused, and a clock a little ahead is not", async () => {
  const repository = "admin/values";
  const image = await client.pushImage(repository, "v1");
  const su = await world.api.as("admin");
  for (const value of ["", "now", "2026-11-23", "2026-02-30T00:00:00Z", "1795449600000", ago(-1), "99999999999"]) {
    const error = await errorOf(await at(repository, "v1", value));
    expect([error.status, error.code]).toEqual([400, "INVALID_REQUEST"]);
    expect(error.message).toContain(value);
    const query = `asof=${encodeURIComponent(value)}`;
    expect((await client.listTags(repository, `?${query}`)).status).toBe(400);
    expect((await su.get(`/repository/${repository}/tag/?${query}`)).status).toBe(400);
  }
  const ahead = new Date(Date.now() + 60_000).toISOString();
  await expectImage(repository, image, await at(repository, "v1", ahead));
});

test("who may not pull may not pull what was either, and learns nothing by asking", async () => {
  const repository = "admin/hidden";
  const image = await client.pushImage(repository, "v1");
  await world.pass(hourMs);
  const stranger = await world.api.user("asof-stranger");
  for (const [who, path] of [
    [world.api.anonymous, repository],
    [stranger, repository],
    [stranger, "admin/absent"],
  ] as const) {
    expect((await who.pullManifest(path, `v1?asof=${ago(0.5)}`)).status).toBe(401);
    expect((await who.pullManifest(path, `v1?asof=nonsense`)).status).toBe(401);
  }
  await world.api.grant("asof-stranger", repository, "read");
  const reader = world.api.client("asof-stranger", "correct-horse-battery");
  const pulled = await reader.pullManifest(repository, `v1?asof=${ago(0.5)}`);
  expect([pulled.status, pulled.headers.get("docker-content-digest")]).toEqual([200, image.descriptor.digest]);
});

describe("what was deleted by digest", () => {
  test("is there at the time before, with the images of an index", async () => {
    const repository = "admin/index";
    const child = await client.pushImage(repository, "amd64");
    const index = new TextEncoder().encode(
      JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [child.descriptor] }),
    );
    expect((await client.pushManifest(repository, "multi", index, mediaTypes.index)).status).toBe(201);
    await world.pass(hourMs);
    await remove(repository, child.descriptor.digest);
    await remove(repository, `sha256:${new Bun.CryptoHasher("sha256").update(index).digest("hex")}`);
    expect((await client.pullManifest(repository, child.descriptor.digest)).status).toBe(404);
    const then = await at(repository, "multi", ago(0.5));
    expect([then.status, then.headers.get("content-type")]).toEqual([200, mediaTypes.index]);
    await expectImage(repository, child, await at(repository, child.descriptor.digest, ago(0.5)));
    expect((await at(repository, child.descriptor.digest, ago(0))).status).toBe(404);
    expect((await at(repository, child.descriptor.digest, ago(5))).status).toBe(404);
  });

  test("is not half of it: once its blobs were deleted too, the answer says so", async () => {
    const repository = "admin/halves";
    const image = await client.pushImage(repository, "v1");
    await world.pass(hourMs);
    await remove(repository, image.descriptor.digest);
    const scope = `repository:${repository}:delete`;
    const deleted = await client.request(`/v2/${repository}/blobs/${image.config.digest}`, { method: "DELETE", scope });
    expect(deleted.status).toBe(202);
    const error = await errorOf(await at(repository, "v1", ago(0.5)));
    expect([error.status, error.code]).toEqual([404, "MANIFEST_UNKNOWN"]);
    expect(error.message).toMatch(/^blobs of what "v1" was .* have been deleted since$/);
  });
});

test("after the window nothing of it is left, nor of what was removed for good", async () => {
  const repository = "admin/window";
  await client.pushImage(repository, "kept");
  const old = await client.pushImage(repository, "v1");
  await client.pushImage(repository, "purged");
  await world.pass(hourMs);
  const [beforeV1, beforePurged] = [await at(repository, "v1", ago(0.5)), await at(repository, "purged", ago(0.5))];
  expect([beforeV1.status, beforePurged.status]).toEqual([200, 200]);
  const su = await world.api.as("admin");
  const expired = await su.post(`/repository/${repository}/tag/purged/expire`, {
    is_alive: true,
    include_submanifests: false,
  });
  expect(expired.status).toBe(200);
  expect((await at(repository, "purged", ago(0.5))).status).toBe(404);
  await remove(repository, "v1");
  await world.pass(windowMs - dayMs);
  await world.collect();
  const hours = (windowMs - dayMs) / hourMs + 0.5;
  await expectImage(repository, old, await at(repository, "v1", ago(hours)));
  await world.pass(2 * dayMs);
  await world.collect();
  expect((await at(repository, "v1", ago(hours + 48))).status).toBe(404);
  expect((await at(repository, "kept", ago(hours + 48))).status).toBe(200);
});

test("lists are of the same instant from page to page", async () => {
  const repository = "admin/lists";
  const image = await client.pushImage(repository, "a");
  const push = (tag: string) => client.pushManifest(repository, tag, image.manifest);
  for (const tag of ["b", "c", "d"]) expect((await push(tag)).status).toBe(201);
  await world.pass(hourMs);
  for (const tag of ["b", "d"]) await remove(repository, tag);
  expect((await push("aa")).status).toBe(201);
  await world.pass(hourMs);
  const names = async (query: string) => {
    const response = await client.listTags(repository, query);
    expect(response.status).toBe(200);
    return { tags: ((await response.json()) as { tags: string[] }).tags, link: response.headers.get("link") };
  };
  expect((await names("")).tags).toEqual(["a", "aa", "c"]);
  expect((await names(`?asof=${ago(1.5)}`)).tags).toEqual(["a", "b", "c", "d"]);
  expect((await names(`?asof=${ago(0.5)}`)).tags).toEqual(["a", "aa", "c"]);
  expect((await names(`?asof=${ago(9)}`)).tags).toEqual([]);
  expect((await names(`?asof=${ago(1.5)}&n=0`)).tags).toEqual([]);
  const page = await names(`?asof=${ago(1.5)}&n=3`);
  expect(page.tags).toEqual(["a", "b", "c"]);
  const next = new URL(/^<([^>]+)>/.exec(page.link ?? "")?.[1] ?? "", client.url);
  expect((await names(next.search)).tags).toEqual(["d"]);

  const su = await world.api.as("admin");
  const listed = async (query: string) =>
    (await su.get(`/repository/${repository}/tag/?asof=${ago(1.5)}${query}`)).body.tags.map(
      ({ name }: { name: string }) => name,
    );
  expect((await listed("")).sort()).toEqual(["a", "b", "c", "d"]);
  expect((await listed("&onlyActiveTags=true")).sort()).toEqual(["a", "c"]);
  expect(await listed("&specificTag=d")).toEqual(["d"]);
  expect(await listed("&filter_tag_name=like:B")).toEqual(["b"]);
  expect([...(await listed("&limit=3")), ...(await listed("&limit=3&page=2"))].sort()).toEqual(["a", "b", "c", "d"]);
});

test("a pull of what was counts for the manifest and not for the tag", async () => {
  const repository = "admin/counted";
  const image = await client.pushImage(repository, "v1");
  await world.pass(hourMs);
  expect((await at(repository, "v1", ago(0.5))).status).toBe(200);
  const { db } = world.api.app;
  const pulls = () =>
    db.sql<{ manifest_digest: string }>`/* test.pulls */
      select p.manifest_digest from manifest_pull p join repository r on r.id = p.repository_id
      where r.path = ${repository}`;
  const deadline = performance.now() + 20_000;
  while ((await pulls()).length === 0 && performance.now() < deadline) await Bun.sleep(50);
  expect((await pulls()).map((row) => row.manifest_digest)).toEqual([image.descriptor.digest]);
  const ofTags = await db.sql`/* test.tag_pulls */
    select p.tag_name from tag_pull p join repository r on r.id = p.repository_id where r.path = ${repository}`;
  expect(ofTags.length).toBe(0);
});
