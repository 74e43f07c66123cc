/** Labels of manifests: those that images bring, those that people add, and `quay.expires-after`; and the manifest's view. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { toNumber } from "../../src/db/decode.ts";
import { errorOf } from "../registry/harness.ts";
import {
  absentDigest,
  artifact,
  dockerTypes,
  fixedBytes,
  type Image,
  image,
  index,
  publish,
} from "../support/content.ts";
import { describeContent, digestOf, mediaTypes, type RegistryClient, toBytes } from "../support/registry-client.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const LABEL = "quay.expires-after";
let api: Api;
let alice: RegistryClient;
let owner: ApiClient;

beforeAll(async () => {
  api = await startApi({
    LABEL_KEY_RESERVED_PREFIXES: ["com.example.private."],
    RESET_CHILD_MANIFEST_EXPIRATION: true,
  });
  alice = await api.user("alice");
  owner = await api.as("alice");
}, 60_000);
afterAll(() => api.stop());

/** An image with this config document. */
function imageOf(name: string, config: unknown, fields: Record<string, unknown> = {}, docker = false): Image {
  const types = docker ? dockerTypes : mediaTypes;
  const configBytes = toBytes(config as object);
  const layer = fixedBytes(64, name.length);
  const manifest = toBytes({
    schemaVersion: 2,
    mediaType: types.manifest,
    config: describeContent(configBytes, types.config),
    layers: [describeContent(layer, types.layer)],
    ...fields,
  }) as Uint8Array<ArrayBuffer>;
  const descriptor = { mediaType: types.manifest, digest: digestOf(manifest), size: manifest.length };
  return { manifest, digest: descriptor.digest, mediaType: types.manifest, descriptor, blobs: [configBytes, layer] };
}
const labelled = (name: string, labels: Record<string, unknown>, docker = false) =>
  imageOf(name, { architecture: "amd64", os: "linux", name, config: { Labels: labels } }, {}, docker);

let repositories = 0;
async function repositoryWith(...pushes: [tag: string | undefined, content: Image][]): Promise<string> {
  const path = `alice/labels-${++repositories}`;
  for (const [tag, content] of pushes) await publish(alice, path, content, tag);
  return path;
}

const labelPath = (path: string, digest: string) => `/repository/${path}/manifest/${digest}/labels`;
async function labelsOf(path: string, digest: string, filter = ""): Promise<Record<string, string>[]> {
  const answer = await owner.get(`${labelPath(path, digest)}${filter}`);
  expect(answer.status, answer.text).toBe(200);
  return answer.body.labels;
}
const pairs = (labels: Record<string, string>[]) => labels.map(({ key, value }) => [key, value]);

/** Milliseconds that the tag's present lifetime has; undefined without an end. */
async function lifetimeOf(path: string, tag: string): Promise<number | undefined> {
  const { startMs, expiresMs } = await rowOf(path, tag);
  return expiresMs === undefined ? undefined : expiresMs - startMs;
}

async function rowOf(path: string, tag: string): Promise<{ startMs: number; expiresMs: number | undefined }> {
  const { id } = await api.repository(path);
  const [row] = await api.app.db.sql<{ start_ms: unknown; expires_ms: unknown }>`/* test.tag */
    select start_ms, expires_ms from tag where repository_id = ${id} and name = ${tag} and end_ms is null`;
  if (!row) throw new Error(`no tag ${tag} in ${path}`);
  return { startMs: toNumber(row.start_ms), expiresMs: row.expires_ms === null ? undefined : toNumber(row.expires_ms) };
}

describe("labels that came with an image", () => {
  test("are its config's and its annotations, with the source and media type of each", async () => {
    const content = imageOf(
      "both",
      { config: { Labels: { maintainer: "Ops", "com.example.json": '{"a":1}', UPPER_case: "kept" } } },
      { annotations: { "org.opencontainers.image.version": "1.2.3", maintainer: "Release" } },
    );
    const path = await repositoryWith(["v", content]);
    const labels = await labelsOf(path, content.digest);
    expect(labels.map(({ id, ...label }) => label)).toEqual([
      { key: "maintainer", value: "Release", source_type: "manifest", media_type: "text/plain" },
      { key: "com.example.json", value: '{"a":1}', source_type: "manifest", media_type: "application/json" },
      { key: "UPPER_case", value: "kept", source_type: "manifest", media_type: "text/plain" },
      { key: "org.opencontainers.image.version", value: "1.2.3", source_type: "manifest", media_type: "text/plain" },
    ]);
    expect(pairs(await labelsOf(path, content.digest, "?filter=org."))).toEqual([
      ["org.opencontainers.image.version", "1.2.3"],
    ]);
    expect(await labelsOf(path, content.digest, "?filter=%25")).toEqual([]);
    const one = await owner.get(`${labelPath(path, content.digest)}/${labels[0]?.id}`);
    expect(one.body).toEqual(labels[0]);
    const deleted = await owner.delete(`${labelPath(path, content.digest)}/${labels[0]?.id}`);
    expect([deleted.status, envelopeOf(deleted).detail]).toEqual([400, "Cannot delete immutable label"]);
  });
  test("are read from docker images and artifacts too, once for each manifest", async () => {
    const docker = labelled("docker", { from: "docker" }, true);
    const bundle = artifact("application/vnd.example.bundle", { annotations: { kind: "bundle" } });
    const path = await repositoryWith(["d", docker], ["d2", docker], ["a", bundle]);
    expect(pairs(await labelsOf(path, docker.digest))).toEqual([["from", "docker"]]);
    expect(pairs(await labelsOf(path, bundle.digest))).toEqual([["kind", "bundle"]]);
  });
  test("that cannot be kept are left out, and the push is taken", async () => {
    const odd = [
      labelled("odd-1", { number: 5, list: [], "": "empty", nul: "a\u0000b", "nul\u0000key": "x", ok: "kept" }),
      labelled("odd-2", { ["k".repeat(256)]: "long key", huge: "x".repeat(70_000), ok: "kept" }),
      labelled("odd-3", { __proto__x: "p", constructor: "c", ["__proto__"]: "q", ok: "kept" }),
      labelled("odd-4", { lone: "\ud800", ok: "kept" }),
      labelled("odd-5", Object.fromEntries([["ok", "kept"], ...Array.from({ length: 600 }, (_, i) => [`k${i}`, "v"])])),
    ];
    for (const [position, content] of odd.entries()) {
      const path = await repositoryWith(["v", content]);
      const labels = await labelsOf(path, content.digest);
      expect([position, pairs(labels).find(([key]) => key === "ok")]).toEqual([position, ["ok", "kept"]]);
      expect(labels.length).toBeLessThanOrEqual(500);
      expect(labels.some(({ key, value }) => `${key}${value}`.includes("\u0000"))).toBe(false);
    }
  });
  test("of a config that is none never fail a push", async () => {
    const configs = [
      "null",
      "[]",
      "not json",
      '{"config":null}',
      '{"config":{"Labels":[]}}',
      '{"config":{"Labels":"x"}}',
    ];
    for (const config of configs) {
      const content = imageOf(`broken-${config}`, config);
      const path = await repositoryWith(["v", content]);
      expect(await labelsOf(path, content.digest)).toEqual([]);
    }
    const large = imageOf("large", { config: { Labels: { [LABEL]: "2h" } }, pad: "x".repeat(4 * 1024 * 1024) });
    const path = await repositoryWith(["v", large]);
    expect(await lifetimeOf(path, "v")).toBeUndefined();
  });
});

describe("labels that people add", () => {
  const content = image("added");

  test("are made, shown and deleted, each with its entry in the log", async () => {
    const path = await repositoryWith(["v", content]);
    const body = { key: "team", value: "blue", media_type: "text/plain" };
    const made = await owner.post(labelPath(path, content.digest), body);
    expect(made.status).toBe(201);
    const { id, ...label } = made.body.label;
    expect(label).toEqual({ ...body, source_type: "api" });
    const location = made.headers.get("location") ?? "";
    expect(location).toBe(`${api.berth.url}/api/v1${labelPath(path, content.digest)}/${id}`);
    expect((await owner.get(location.split("/api/v1")[1] ?? "")).body).toEqual(made.body.label);
    expect((await owner.delete(`${labelPath(path, content.digest)}/${id}`)).status).toBe(204);
    expect((await owner.delete(`${labelPath(path, content.digest)}/${id}`)).status).toBe(404);
    expect((await owner.get(`${labelPath(path, content.digest)}/${id}`)).status).toBe(404);
    const repository = await api.repository(path);
    const rows = await api.app.db.sql<{ kind: string; metadata: string }>`/* test.logs */
      select kind, metadata from action_log where repository_id = ${repository.id} and kind like 'manifest_label%'
      order by id`;
    const metadata = {
      id,
      key: "team",
      value: "blue",
      manifest_digest: content.digest,
      namespace: "alice",
      repo: path.slice(6),
    };
    expect(rows.map((row) => [row.kind, JSON.parse(row.metadata)])).toEqual([
      ["manifest_label_add", metadata],
      ["manifest_label_delete", metadata],
    ]);
  });
  test("have a media type that is guessed when it is null", async () => {
    const path = await repositoryWith(["v", content]);
    const cases = [
      ['{"a":[1]}', "application/json"],
      [" [1]", "application/json"],
      ["{broken", "text/plain"],
      ["17", "text/plain"],
      ["", "text/plain"],
    ];
    for (const [value, mediaType] of cases) {
      const made = await owner.post(labelPath(path, content.digest), { key: "guess", value, media_type: null });
      expect([value, made.status, made.body.label?.media_type]).toEqual([value, 201, mediaType]);
    }
  });
  test("are refused when key, value or media type cannot be", async () => {
    const path = await repositoryWith(["v", content]);
    const reserved = ["com.docker.x", "io.quay", "quay.other", "internal-x", "com.example.private.x", "quay"];
    for (const key of reserved) {
      const answer = await owner.post(labelPath(path, content.digest), { key, value: "x", media_type: null });
      expect([key, answer.status, envelopeOf(answer).detail]).toEqual([key, 400, "Label has a reserved prefix"]);
    }
    const invalid = ["", "A", "a b", "-a", "a-", "a--b", "a.-b", "a_b", "ä", "a\n", "a".repeat(256)];
    for (const key of invalid) {
      const answer = await owner.post(labelPath(path, content.digest), { key, value: "x", media_type: null });
      expect([key, answer.status]).toEqual([key, 400]);
      expect(envelopeOf(answer).detail).toStartWith("Label key is invalid: Key `");
    }
    const bodies = [
      { key: "k", value: "x".repeat(65_537), media_type: null },
      { key: "k", value: "a\u0000b", media_type: null },
      { key: "k", value: "x", media_type: "text/html" },
      { key: "k", value: 5, media_type: null },
      { key: "k", media_type: null },
      { value: "x", media_type: null },
    ];
    for (const body of bodies) expect((await owner.post(labelPath(path, content.digest), body)).status).toBe(400);
    expect((await labelsOf(path, content.digest)).filter(({ source_type }) => source_type === "api")).toEqual([]);
  });
  test("belong to one manifest of one repository", async () => {
    const path = await repositoryWith(["v", content]);
    const other = await repositoryWith(["v", content], ["w", image("other")]);
    const body = { key: "team", value: "blue", media_type: null };
    const { id } = (await owner.post(labelPath(path, content.digest), body)).body.label;
    for (const elsewhere of [labelPath(other, content.digest), labelPath(other, image("other").digest)]) {
      expect((await owner.get(`${elsewhere}/${id}`)).status).toBe(404);
      expect((await owner.delete(`${elsewhere}/${id}`)).status).toBe(404);
    }
    expect((await owner.post(labelPath(path, absentDigest), body)).status).toBe(404);
    expect((await owner.get(labelPath(path, image("other").digest))).status).toBe(404);
    expect((await owner.get(labelPath(path, "latest"))).status).toBe(400);
    expect((await owner.get(`${labelPath(path, content.digest)}/${id}'--`)).status).toBe(404);
    expect((await owner.get(`${labelPath(path, content.digest)}/${id}`)).status).toBe(200);
  });
  test("stop at a thousand", async () => {
    const path = await repositoryWith(["v", content]);
    const { id } = await api.repository(path);
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.many */
        insert into label (uuid, repository_id, manifest_id, key, value, media_type, source_type)
        with recursive n (i) as (select 1 union all select i + 1 from n where i < 999)
        select 'many-' || cast(n.i as text), m.repository_id, m.id, 'k', 'v', 'text/plain', 'api'
        from n, manifest m where m.repository_id = ${id}`;
    });
    const answer = await owner.post(labelPath(path, content.digest), { key: "k", value: "v", media_type: null });
    expect([answer.status, envelopeOf(answer).detail]).toEqual([
      400,
      "The manifest has 1000 labels, which is the most",
    ]);
  });
});

describe("quay.expires-after", () => {
  test("of an image gives each tag that is pushed its end, within the config's bounds", async () => {
    const cases: [value: string, lifetimeMs: number | undefined][] = [
      ["2h", 2 * HOUR],
      ["3d", 72 * HOUR],
      ["1s", HOUR],
      ["0s", HOUR],
      ["5000w", 104 * 7 * 24 * HOUR],
      ["soon", undefined],
      ["", undefined],
      ["-5h", undefined],
      ["2h ", undefined],
      ["99999999999999999999w", undefined],
    ];
    for (const [value, lifetimeMs] of cases) {
      const path = await repositoryWith(["v", labelled("bounds", { [LABEL]: value })]);
      expect([value, await lifetimeOf(path, "v")]).toEqual([value, lifetimeMs]);
    }
  });
  test("works as an annotation, and for docker images", async () => {
    const annotated = image("annotated", { fields: { annotations: { [LABEL]: "6h" } } });
    const path = await repositoryWith(["a", annotated], ["d", labelled("docker-expiry", { [LABEL]: "7h" }, true)]);
    expect([await lifetimeOf(path, "a"), await lifetimeOf(path, "d")]).toEqual([6 * HOUR, 7 * HOUR]);
    const [tag] = (await owner.get(`/repository/${path}/tag/?specificTag=a`)).body.tags;
    expect(tag.end_ts - tag.start_ts).toBeGreaterThanOrEqual(6 * 3600 - 1);
  });
  test("begins anew with each push of the same image", async () => {
    const content = labelled("renewed", { [LABEL]: "2h" });
    const path = await repositoryWith(["v", content]);
    const before = await rowOf(path, "v");
    await Bun.sleep(20);
    await publish(alice, path, content, "v");
    const after = await rowOf(path, "v");
    expect(after.expiresMs as number).toBeGreaterThanOrEqual((before.expiresMs as number) + 20);
    expect(await lifetimeOf(path, "v")).toBe(2 * HOUR);
    expect((await alice.pullManifest(path, "v")).status).toBe(200);
  });
  test("an image without it leaves a tag that expires as it is when nothing changes, and for ever when it moves", async () => {
    const [plain, other] = [image("plain"), image("plain-2")];
    const path = await repositoryWith(["v", plain]);
    const week = Math.floor(Date.now() / 1000) + 7 * 24 * 3600;
    await owner.put(`/repository/${path}/tag/v`, { expiration: week });
    await publish(alice, path, plain, "v");
    expect((await rowOf(path, "v")).expiresMs).toBe(week * 1000);
    await publish(alice, path, other, "v");
    expect((await rowOf(path, "v")).expiresMs).toBeUndefined();
  });
  test("also counts for tags that are pointed at the image through the API, unless they come with an expiration", async () => {
    const content = labelled("pointed", { [LABEL]: "2h" });
    const path = await repositoryWith([undefined, content]);
    await owner.put(`/repository/${path}/tag/a`, { manifest_digest: content.digest });
    await owner.put(`/repository/${path}/tag/b`, { manifest_digest: content.digest, expiration: null });
    expect([await lifetimeOf(path, "a"), await lifetimeOf(path, "b")]).toEqual([2 * HOUR, undefined]);
  });
  test("of a list counts only when all its images say the same", async () => {
    const [a, b, c] = [
      labelled("child-a", { [LABEL]: "3h" }),
      labelled("child-b", { [LABEL]: "3h" }),
      labelled("child-c", { [LABEL]: "4h" }),
    ];
    const plain = image("child-plain");
    const annotated = { annotations: { [LABEL]: "9h" } };
    const cases: [children: Image[], fields: Record<string, unknown>, lifetimeMs: number | undefined][] = [
      [[a, b], {}, 3 * HOUR],
      [[a], {}, 3 * HOUR],
      [[a, c], {}, undefined],
      [[a, plain], {}, undefined],
      [[plain], annotated, undefined],
      [[a, b], annotated, 3 * HOUR],
      [[], annotated, 9 * HOUR],
    ];
    for (const [position, [children, fields, lifetimeMs]] of cases.entries()) {
      const path = await repositoryWith(...children.map((child): [undefined, Image] => [undefined, child]));
      const list = index(
        children.map((child) => child.descriptor),
        fields,
      );
      await publish(alice, path, list, "list");
      expect([position, await lifetimeOf(path, "list")]).toEqual([position, lifetimeMs]);
    }
    const sparse = await repositoryWith([undefined, a]);
    await publish(alice, sparse, index([a.descriptor, c.descriptor]), "list");
    expect(await lifetimeOf(sparse, "list")).toBeUndefined();
  });
  test("added later ends the living tags of the manifest, and those pushed after", async () => {
    const content = image("later");
    const path = await repositoryWith(["v", content], ["w", content], ["gone", content], ["other", image("later-2")]);
    await owner.delete(`/repository/${path}/tag/gone`);
    expect((await alice.pullManifest(path, "v")).status).toBe(200);
    const body = { key: LABEL, value: "5h", media_type: null };
    expect((await owner.post(labelPath(path, content.digest), body)).status).toBe(201);
    expect([await lifetimeOf(path, "v"), await lifetimeOf(path, "w")]).toEqual([5 * HOUR, 5 * HOUR]);
    expect(await lifetimeOf(path, "other")).toBeUndefined();
    await publish(alice, path, content, "x");
    expect(await lifetimeOf(path, "x")).toBe(5 * HOUR);
    await owner.post(labelPath(path, content.digest), { ...body, value: "never" });
    expect(await lifetimeOf(path, "v")).toBe(5 * HOUR);
  });
  test("added to an old image by mistake leaves an hour to notice", async () => {
    const content = image("old");
    const path = await repositoryWith(["v", content]);
    const { id } = await api.repository(path);
    const longAgo = Date.now() - 1000 * HOUR;
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.age */ update tag set start_ms = ${longAgo} where repository_id = ${id}`;
    });
    await owner.post(labelPath(path, content.digest), { key: LABEL, value: "2h", media_type: null });
    const left = ((await rowOf(path, "v")).expiresMs as number) - Date.now();
    expect(left).toBeGreaterThan(HOUR - MINUTE);
    expect(left).toBeLessThanOrEqual(HOUR);
  });
});

test("RESET_CHILD_MANIFEST_EXPIRATION ends the protection of a list's images with its push", async () => {
  const [a, b] = [image("reset-a"), image("reset-b")];
  const path = await repositoryWith([undefined, a], [undefined, b]);
  await publish(alice, path, index([a.descriptor]), "list");
  const { id } = await api.repository(path);
  const rows = await api.app.db.sql<{ digest: string }>`/* test.leases */
    select digest from manifest where repository_id = ${id} and kind = 'image' and lease_until_ms is not null`;
  expect(rows.map((row) => row.digest)).toEqual([b.digest]);
});

describe("a manifest's view", () => {
  const history = [
    { created: "2024-01-09T12:00:00Z", created_by: "/bin/sh -c #(nop) ADD file:abc in / ", comment: "base" },
    { created: "2024-01-09T12:00:01Z", created_by: "ENV A=1", empty_layer: true, author: "Ops" },
  ];

  test("tells the layers with the commands that made them, and steps without a layer as docker's empty one", async () => {
    const content = imageOf("view", { created: "2024-01-09T12:00:05Z", history });
    const path = await repositoryWith(["v", content]);
    const answer = await owner.get(`/repository/${path}/manifest/${content.digest}`);
    expect(answer.body).toEqual({
      digest: content.digest,
      is_manifest_list: false,
      manifest_data: new TextDecoder().decode(content.manifest),
      config_media_type: mediaTypes.config,
      layers: [
        {
          index: 0,
          compressed_size: 64,
          is_remote: false,
          urls: null,
          command: ["/bin/sh -c #(nop) ADD file:abc in / "],
          comment: "base",
          author: null,
          blob_digest: digestOf(content.blobs[1] as Uint8Array),
          created_datetime: "Tue, 09 Jan 2024 12:00:00 -0000",
        },
        {
          index: 1,
          compressed_size: 32,
          is_remote: false,
          urls: null,
          command: ["ENV A=1"],
          comment: null,
          author: "Ops",
          blob_digest: "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4",
          created_datetime: "Tue, 09 Jan 2024 12:00:01 -0000",
        },
      ],
    });
  });
  test("falls back on the manifest alone when the config tells less or nonsense", async () => {
    const configs = [
      {},
      { history: "x" },
      { history: [null, 5] },
      { history: [...history, ...history] },
      { history: [{ created: 7, created_by: {}, author: [], comment: 1 }] },
      "not json",
    ];
    for (const [position, config] of configs.entries()) {
      const content = imageOf(`odd-${position}`, config);
      const path = await repositoryWith(["v", content]);
      const { layers } = (await owner.get(`/repository/${path}/manifest/${content.digest}`)).body;
      expect([position, layers.length, layers[0].command, layers[0].created_datetime]).toEqual([
        position,
        1,
        null,
        null,
      ]);
    }
  });
  test("has words for commands that are lists, and urls for layers that are elsewhere", async () => {
    const remote = {
      mediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
      digest: absentDigest,
      size: 5,
      urls: ["https://example.com/layer"],
    };
    const config = { history: [{ created_by: '["/bin/sh","-c","x"]' }] };
    const content = imageOf("remote", config, { layers: [remote] }, true);
    const path = await repositoryWith(["v", content]);
    const [layer] = (await owner.get(`/repository/${path}/manifest/${content.digest}`)).body.layers;
    expect(layer).toMatchObject({ is_remote: true, urls: remote.urls, command: ["/bin/sh", "-c", "x"] });
  });
  test("of lists has no layers, of artifacts theirs", async () => {
    const child = image("view-child");
    const bundle = artifact("application/vnd.example.bundle");
    const path = await repositoryWith([undefined, child], ["a", bundle]);
    const list = index([child.descriptor]);
    await publish(alice, path, list, "list");
    const view = (await owner.get(`/repository/${path}/manifest/${list.digest}`)).body;
    expect([view.is_manifest_list, view.layers, view.config_media_type]).toEqual([true, null, null]);
    expect((await owner.get(`/repository/${path}/manifest/${bundle.digest}`)).body.layers).toHaveLength(1);
  });
  test("of another repository or a deleted manifest is 404", async () => {
    const content = image("view-gone");
    const path = await repositoryWith(["v", content]);
    const other = await repositoryWith(["v", image("view-other")]);
    expect((await owner.get(`/repository/${other}/manifest/${content.digest}`)).status).toBe(404);
    const scope = `repository:${path}:pull,push,delete`;
    await alice.request(`/v2/${path}/manifests/${content.digest}`, { method: "DELETE", scope });
    expect((await errorOf(await alice.pullManifest(path, content.digest))).code).toBe("MANIFEST_UNKNOWN");
    expect((await owner.get(`/repository/${path}/manifest/${content.digest}`)).status).toBe(404);
    expect((await owner.get(labelPath(path, content.digest))).status).toBe(404);
  });
});
