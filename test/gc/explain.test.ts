/**
 * What `berth gc --dry-run` says is what happens: in a random registry everything is explained, time passes, and what was
 * said to go has gone, what was said to be kept is there.
 */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { explainKept } from "../../src/domain/gc/explain.ts";
import { findReclaimable } from "../../src/domain/gc/reclaimable.ts";
import { makeRandom } from "../storage/random.ts";
import { mediaTypes, type RegistryClient } from "../support/registry-client.ts";
import { dayMs, type GcWorld, startGcWorld } from "./world.ts";

setDefaultTimeout(120_000);

const hourMs = 3600 * 1000;
const minuteMs = 60_000;
const ROUNDS = Number(process.env.TEST_GC_ROUNDS ?? 12);
/** What is due so close to the moment of collection is not judged. */
const MARGIN_MS = 10_000;

let world: GcWorld;
let client: RegistryClient;
beforeAll(async () => {
  world = await startGcWorld({ DEFAULT_TAG_EXPIRATION: "1d", TAG_EXPIRATION_OPTIONS: ["0s", "1d", "2w"] });
  client = world.api.admin;
}, 120_000);
afterAll(() => world?.stop());

async function deleteReference(repository: string, reference: string): Promise<void> {
  const options = { method: "DELETE", scope: `repository:${repository}:delete` };
  expect((await client.request(`/v2/${repository}/manifests/${reference}`, options)).status).toBe(202);
}

async function pushIndex(repository: string, tag: string | undefined, ...children: readonly object[]): Promise<string> {
  const index = bytesOf({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: children });
  const response = await client.pushManifest(repository, tag ?? digestOf(index), index, mediaTypes.index);
  expect(response.status).toBe(201);
  return digestOf(index);
}

const explain = (target: string) => explainKept(world.api.app, target);

describe("what keeps a thing is named", () => {
  test("a tag, and for the window after its end the same", async () => {
    const image = await client.pushImage("admin/a", "v1");
    const layer = image.layers[0]?.digest ?? "";
    expect(await explain("admin/a:v1")).toMatchObject({
      kind: "tag",
      state: "kept",
      reasons: [{ kind: "tag", name: "v1", untilMs: undefined }],
      content: {
        kind: "manifest",
        name: image.descriptor.digest,
        state: "kept",
        reasons: [{ kind: "tag", name: "v1" }],
      },
    });
    expect(await explain(layer)).toMatchObject({
      kind: "blob",
      name: layer,
      state: "kept",
      sizeBytes: 1024,
      reasons: [
        { kind: "repository", name: "admin/a", because: [{ kind: "manifest" }, { kind: "lease" }] },
        { kind: "reservation" },
      ],
    });
    await deleteReference("admin/a", "v1");
    const endedMs = Date.now();
    for (const target of ["admin/a:v1", `admin/a@${image.descriptor.digest}`, layer, `admin/a@${layer}`]) {
      const { state, goesMs } = await explain(target);
      expect({ target, state }).toEqual({ target, state: "waits" });
      expect(Math.abs((goesMs ?? 0) - endedMs - dayMs)).toBeLessThan(MARGIN_MS);
    }
    expect((await explain(`admin/a@${image.descriptor.digest}`)).reasons).toMatchObject([
      { kind: "ended-tag", name: "v1" },
    ]);
    await world.pass(dayMs + minuteMs);
    expect(await explain("admin/a:v1")).toMatchObject({
      state: "due",
      reasons: [],
      content: { state: "due", reasons: [] },
    });
    expect(await explain(layer)).toMatchObject({ state: "due", reasons: [] });
    await world.collect();
    for (const target of ["admin/a:v1", `admin/a@${image.descriptor.digest}`, layer]) {
      expect(explain(target)).rejects.toMatchObject({ code: "not_found" });
    }
  });

  test("an index and what keeps that, a subject, a lease, another repository", async () => {
    const child = await client.pushImage("admin/b", "child");
    const index = await pushIndex("admin/b", "multi", child.descriptor);
    await deleteReference("admin/b", "child");
    expect(await explain(`admin/b@${child.descriptor.digest}`)).toMatchObject({
      state: "kept",
      reasons: [
        { kind: "index", name: index, untilMs: undefined, because: [{ kind: "tag", name: "multi" }] },
        { kind: "ended-tag", name: "child" },
      ],
    });
    const referrer = await client.pushImage("admin/b", "signature", {
      manifest: { subject: { ...child.descriptor, mediaType: mediaTypes.manifest } },
    });
    await deleteReference("admin/b", "signature");
    expect((await explain(`admin/b@${referrer.descriptor.digest}`)).reasons).toMatchObject([
      { kind: "subject", name: child.descriptor.digest, because: [{ kind: "index" }, { kind: "ended-tag" }] },
      { kind: "ended-tag", name: "signature" },
    ]);
    const layer = child.layers[0]?.digest ?? "";
    const mounted = await client.request(`/v2/admin/c/blobs/uploads/?mount=${layer}&from=admin/b`, {
      method: "POST",
      scope: "repository:admin/c:pull,push repository:admin/b:pull",
    });
    expect(mounted.status).toBe(201);
    const { reasons } = await explain(layer);
    expect(reasons).toMatchObject([
      { kind: "repository", name: "admin/b" },
      { kind: "repository", name: "admin/c", because: [{ kind: "lease" }] },
      { kind: "reservation" },
    ]);
    const untagged = await pushIndex("admin/b", undefined, referrer.descriptor);
    expect(await explain(`admin/b@${untagged}`)).toMatchObject({ state: "waits", reasons: [{ kind: "lease" }] });
  });

  test("what is being deleted says so, and names that are none are refused", async () => {
    const image = await client.pushImage("admin/d", "v1");
    const { db } = world.api.app;
    const digest = image.config.digest;
    await db.sql`/* test.mark */ update blob set state = 'deleting' where digest = ${digest}`;
    expect(await explain(digest)).toMatchObject({ state: "deleting", reasons: [{ kind: "deletion" }] });
    await db.sql`/* test.unmark */ update blob set state = 'live' where digest = ${digest}`;
    expect(await explain("admin/d")).toMatchObject({ kind: "repository", state: "kept" });
    const gone = await client.pushImage("admin/e", "v1");
    expect((await (await world.api.as("admin")).delete("/repository/admin/e")).status).toBe(204);
    expect(await explain("admin/e")).toMatchObject({
      kind: "repository",
      state: "waits",
      reasons: [{ kind: "undelete" }],
    });
    const ofLayer = await explain(gone.layers[0]?.digest ?? "");
    expect(ofLayer).toMatchObject({
      state: "waits",
      reasons: [
        {
          kind: "repository",
          name: "admin/e (deleted)",
          because: [{ kind: "manifest", because: [{ kind: "deleted-repository" }] }, { kind: "lease" }],
        },
        { kind: "reservation" },
      ],
    });
    expect(Math.abs((ofLayer.goesMs ?? 0) - Date.now() - dayMs)).toBeLessThan(MARGIN_MS);
    const refused: [string, string][] = [
      ["admin/none", "not_found"],
      ["admin/d:none", "not_found"],
      ["admin/none:v1", "not_found"],
      [`sha256:${"0".repeat(64)}`, "not_found"],
      [`admin/d@sha256:${"0".repeat(64)}`, "not_found"],
      ["sha256:beef", "digest_invalid"],
      ["admin/d@latest", "digest_invalid"],
      ["admin/D", "name_invalid"],
      ["admin/d:-", "tag_invalid"],
    ];
    for (const [target, code] of refused) expect(explain(target)).rejects.toMatchObject({ code });
  });
});

test(`in ${ROUNDS} random rounds what is said to go goes, and what is said to be kept stays`, async () => {
  const random = makeRandom("explanations of garbage collection");
  const { db } = world.api.app;
  const pick = <T>(all: readonly T[]): T | undefined => all[random.integer(0, all.length - 1)];
  const repositories = ["admin/r1", "admin/r2"];
  const tags = ["a", "b", "c"];
  const contents = Array.from({ length: 8 }, (_, n) => bytesOf({ layer: n }));

  const manifests = async (path: string) =>
    await db.sql<{ digest: string; deleted: number }>`/* test.manifests */
      select m.digest, case when m.deleted_ms is null then 0 else 1 end as deleted
      from manifest m join repository r on r.id = m.repository_id where r.path = ${path} order by m.id`;
  const alive = async (path: string) =>
    (
      await db.sql<{ name: string }>`/* test.alive */
        select t.name from tag t join repository r on r.id = t.repository_id
        where r.path = ${path} and t.end_ms is null and t.expires_ms is null order by t.id`
    ).map(({ name }) => name);
  const push = async (path: string, tag: string | undefined, subject: object | undefined): Promise<void> => {
    const own = [pick(contents) ?? bytesOf(0), pick(contents) ?? bytesOf(0), bytesOf({ n: random.integer(0, 1e9) })];
    for (const content of own) expect((await client.pushBlob(path, content)).status).toBe(201);
    const [config, ...layers] = own.map((content) => ({ digest: digestOf(content), size: content.length }));
    const body = {
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: { ...config, mediaType: mediaTypes.config },
      layers: layers.map((layer) => ({ ...layer, mediaType: mediaTypes.layer })),
      ...(subject ? { subject } : {}),
    };
    expect((await client.pushManifest(path, tag ?? digestOf(bytesOf(body)), bytesOf(body))).status).toBe(201);
  };
  const living = async (path: string) => pick((await manifests(path)).filter(({ deleted }) => Number(deleted) === 0));
  const su = await world.api.as("admin");

  const actions: ((path: string) => Promise<void>)[] = [
    (path) => push(path, pick(tags), undefined),
    (path) => push(path, pick(tags), undefined),
    (path) => push(path, undefined, undefined),
    async (path) => {
      const about = await living(path);
      if (about) await push(path, undefined, { mediaType: mediaTypes.manifest, size: 10, digest: about.digest });
    },
    async (path) => {
      const child = await living(path);
      if (!child) return;
      const descriptor = { mediaType: mediaTypes.manifest, size: 10, digest: child.digest };
      await pushIndex(path, random.integer(0, 1) ? pick(tags) : undefined, descriptor);
    },
    async (path) => {
      const tag = pick(await alive(path));
      if (tag) await deleteReference(path, tag);
    },
    async (path) => {
      const manifest = await living(path);
      if (manifest && random.integer(0, 2) === 0) await deleteReference(path, manifest.digest);
    },
    async (path) => {
      const tag = pick(await alive(path));
      const expiration = Math.floor((Date.now() + (pick([hourMs, 5 * hourMs, 3 * dayMs]) ?? hourMs)) / 1000);
      if (tag) expect((await su.put(`/repository/${path}/tag/${tag}`, { expiration })).status).toBe(201);
    },
    async (path) => {
      if (random.integer(0, 6) > 0 || (await manifests(path)).length === 0) return;
      expect((await su.delete(`/repository/${path}`)).status).toBe(204);
    },
    async () => {
      if (random.integer(0, 4) > 0) return;
      const tag_expiration_s = pick([0, 86_400, 14 * 86_400]);
      expect((await su.put("/user/", { tag_expiration_s })).status).toBe(200);
    },
  ];

  /** Names of everything that can be asked for. */
  const all = async (): Promise<string[]> => {
    const named: string[] = [];
    for (const path of repositories) {
      named.push(...(await manifests(path)).map(({ digest }) => `${path}@${digest}`));
      const names = await db.sql<{ name: string }>`/* test.names */
        select distinct t.name from tag t join repository r on r.id = t.repository_id where r.path = ${path}`;
      named.push(...names.map(({ name }) => `${path}:${name}`));
    }
    return [...named, ...(await world.known())];
  };

  const seen = { gone: 0, kept: 0, unjudged: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    for (let n = 0; n < 14; n++) await pick(actions)?.(pick(repositories) ?? "admin/r1");
    const said = new Map<string, number>();
    for (const target of await all()) {
      const { state, goesMs, reasons, isCut } = await explain(target);
      expect({ target, state, isExplained: reasons.length > 0, isCut }).toEqual({
        target,
        state,
        isExplained: state === "kept" || state === "waits",
        isCut: false,
      });
      said.set(target, state === "kept" ? Number.POSITIVE_INFINITY : (goesMs ?? 0));
    }
    const passedMs =
      (pick([2 * minuteMs, hourMs, 6 * hourMs, dayMs, 3 * dayMs, 15 * dayMs]) ?? 0) + random.integer(0, hourMs);
    const promised = await findReclaimable(db, Date.now() + passedMs);
    await world.pass(passedMs);
    const collectedMs = Date.now() + passedMs;
    const tally = await world.collect();
    const left = new Set(await all());
    const unjudged = seen.unjudged;
    for (const [target, goesMs] of said) {
      if (Math.abs(goesMs - collectedMs) < MARGIN_MS) {
        seen.unjudged++;
        continue;
      }
      const isKept = goesMs > collectedMs;
      expect({ round, target, goesMs, passedMs, isThere: left.has(target) }).toEqual({
        round,
        target,
        goesMs,
        passedMs,
        isThere: isKept,
      });
      seen[isKept ? "kept" : "gone"]++;
    }
    if (seen.unjudged > unjudged) continue;
    expect({ round, isExact: promised.isExact, ...promised.buckets[0] }).toEqual({
      round,
      isExact: true,
      when: "now",
      blobs: tally.blobs,
      bytes: tally.bytes,
    });
  }
  console.log("explained", seen);
  expect(seen.gone).toBeGreaterThan(ROUNDS);
  expect(seen.kept).toBeGreaterThan(ROUNDS);
});

function bytesOf(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}`;
}
