/**
 * What repositories and namespaces use, and what happens to pushes at the limit: over the wire, with figures that must equal
 * a full recount whatever was pushed, deleted and collected meanwhile.
 */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { backfill } from "../../src/domain/quota/backfill.ts";
import { noteNamespaces } from "../../src/domain/quota/due.ts";
import { findDrift, reconcile } from "../../src/domain/quota/reconcile.ts";
import { QuotaTally } from "../../src/domain/quota/tally.ts";
import type { ApiClient } from "../api/harness.ts";
import { makeRandom } from "../storage/random.ts";
import { mediaTypes } from "../support/registry-client.ts";
import { dayMs, type GcWorld, startGcWorld } from "./world.ts";

setDefaultTimeout(120_000);

const never = new AbortController().signal;
let world: GcWorld;
let su: ApiClient;

beforeAll(async () => {
  world = await startGcWorld({
    FEATURE_QUOTA_MANAGEMENT: true,
    FEATURE_SPARSE_MANIFEST: true,
    DEFAULT_TAG_EXPIRATION: "1d",
    PUSH_TEMP_TAG_EXPIRATION_SEC: 3600,
  });
  su = await world.api.as("admin");
}, 120_000);
afterAll(() => world?.stop());

test("a blob counts once for its repository, and once for its namespace", async () => {
  await organization("share");
  const [one, two] = [bytes("one", 1000), bytes("two", 500)];
  await push("share/a", "x", [one, two]);
  await push("share/a", "y", [one]);
  await push("share/b", "x", [one]);
  expect(await usage("share")).toEqual({
    namespace: 1500 + CONFIG.length,
    repositories: { "share/a": 1500 + CONFIG.length, "share/b": 1000 + CONFIG.length },
  });
  await checkTotals("share");
});

test("what left the time machine and was collected counts no more, what can be restored does", async () => {
  await organization("leave");
  const [one, two] = [bytes("leaving", 700), bytes("staying", 300)];
  await push("leave/a", "x", [one, two]);
  await push("leave/a", "y", [two]);
  await push("leave/b", "x", [one]);
  const before = await usage("leave");
  await deleteTag("leave/a", "x");
  await deleteTag("leave/b", "x");
  await world.collect();
  expect(await usage("leave")).toEqual(before);
  await world.pass(dayMs + 3600_000);
  await world.collect();
  expect(await usage("leave")).toEqual({
    namespace: 300 + CONFIG.length,
    repositories: { "leave/a": 300 + CONFIG.length },
  });
  await checkTotals("leave");
  expect((await su.delete("/repository/leave/a")).status).toBe(204);
  const { body } = await su.get("/organization/leave/deleted");
  expect(body.repositories).toMatchObject([{ name: "a", size_bytes: 300 + CONFIG.length }]);
});

test("a blob that a sparse image was waiting for counts when it comes", async () => {
  await organization("sparse");
  const late = bytes("late", 900);
  await push("sparse/a", "first", [bytes("first", 100)]);
  const config = new TextEncoder().encode("{}");
  await world.api.admin.pushBlob("sparse/a", config);
  await put("sparse/a", "x", imageOf(config, [late]));
  const before = await usage("sparse");
  expect((await world.api.admin.pushBlob("sparse/a", late)).status).toBe(201);
  expect((await usage("sparse")).namespace).toBe(before.namespace + 900);
  // Many at once wait for each other, and none for ever.
  const layers = Array.from({ length: 12 }, (_, n) => bytes(`late ${n}`, 100 + n));
  await put("sparse/a", "many", imageOf(config, layers));
  const pushed = await Promise.all(layers.map((layer) => world.api.admin.pushBlob("sparse/a", layer)));
  expect(pushed.map(({ status }) => status)).toEqual(layers.map(() => 201));
  await checkTotals("sparse");
});

test("of 50 pushes at once exactly those go through that fit", async () => {
  const id = await organization("race");
  const config = new TextEncoder().encode("{}");
  const fits = 17;
  await limit(id, fits * 1000 + config.length, [["Reject", 100]]);
  const pushes = Array.from({ length: 50 }, async (_, n) => {
    const repository = `race/r${n % 3}`;
    const layer = bytes(`layer ${n}`, 1000);
    // All bytes are there before the first manifest is, so that only manifests are refused.
    await world.api.admin.pushBlob(repository, config);
    expect((await world.api.admin.pushBlob(repository, layer)).status).toBe(201);
    return () => put(repository, `t${n}`, imageOf(config, [layer]));
  });
  const puts = await Promise.all(pushes);
  const statuses = await Promise.all(puts.map(async (go) => (await go()).status));
  expect(statuses.filter((status) => status === 201)).toHaveLength(fits);
  expect(statuses.filter((status) => status === 403)).toHaveLength(50 - fits);
  expect((await usage("race")).namespace).toBe(fits * 1000 + config.length);
  await checkTotals("race");
});

test("a full namespace is refused with Quay's words where an upload begins, grows and ends, and its admins hear of it", async () => {
  const id = await organization("full");
  await push("full/a", "x", [bytes("full", 1000)]);
  await limit(id, 1500, [["Reject", 100]]);
  const { admin } = world.api;
  const grown = await admin.pushBlob("full/a", bytes("too much", 600), { shape: "patch" });
  expect([grown.status, await grown.json()]).toMatchObject([403, REFUSED]);
  const ended = await admin.pushBlob("full/a", bytes("too much", 600), { shape: "post-put" });
  expect([ended.status, await ended.json()]).toMatchObject([403, REFUSED]);
  const small = await admin.pushBlob("full/a", bytes("still fits", 300), { shape: "post-put" });
  expect(small.status).toBe(201);

  await limit(id, 900, [["Reject", 100]]);
  const begun = await admin.request("/v2/full/a/blobs/uploads/", {
    method: "POST",
    scope: "repository:full/a:pull,push",
  });
  expect([begun.status, await begun.json()]).toMatchObject([403, REFUSED]);
  // What is there already can still be pulled.
  expect((await admin.pullManifest("full/a", "x")).status).toBe(200);

  const notices = await su.get("/user/notifications");
  const own = notices.body.notifications.filter(
    (notice: { metadata: { namespace?: string } }) => notice.metadata.namespace === "full",
  );
  expect(own).toMatchObject([{ kind: "quota_error", metadata: { namespace: "full", severity: "Reject" } }]);
});

test("a warning lets the push through and tells the admins once, until they dismiss it", async () => {
  const id = await organization("warn");
  await limit(id, 1000, [
    ["Warning", 50],
    ["Reject", 100],
  ]);
  const layer = bytes("warn", 600);
  await push("warn/a", "x", [layer]);
  expect((await put("warn/a", "y", imageOf(CONFIG, [layer]))).status).toBe(201);
  const notices = async () => {
    const { body } = await su.get("/user/notifications?limit=100");
    return body.notifications.filter((notice: { metadata: { namespace?: string } }) => {
      return notice.metadata.namespace === "warn";
    });
  };
  const told = { kind: "quota_warning", metadata: { namespace: "warn", severity: "Warning" }, dismissed: false };
  const first = await notices();
  expect(first).toMatchObject([told]);
  expect((await su.put(`/user/notifications/${first[0].id}`, { dismissed: true })).status).toBe(200);
  expect(await notices()).toEqual([]);
  for (const tag of ["z1", "z2"]) expect((await put("warn/a", tag, imageOf(CONFIG, [layer]))).status).toBe(201);
  const second = await notices();
  expect(second).toMatchObject([told]);
  expect(second[0].id).not.toBe(first[0].id);
  expect((await su.get(`/user/notifications/${first[0].id}`)).status).toBe(404);
});

test("totals that are wrong are found, reported and counted again", async () => {
  const id = await organization("drift");
  await push("drift/a", "x", [bytes("drift", 400)]);
  await count();
  const right = await usage("drift");
  const { db } = world.api.app;
  for (const spoil of [
    () => db.sql`/* test.spoil */ update namespace_usage set size_bytes = size_bytes + 7 where namespace_id = ${id}`,
    () => db.sql`/* test.spoil */ update namespace_blob set repository_count = 9 where namespace_id = ${id}`,
    () => db.sql`/* test.spoil */ delete from namespace_blob where namespace_id = ${id}`,
    () => db.sql`/* test.spoil */
      update repository_usage set size_bytes = 1
      where repository_id in (select id from repository where namespace_id = ${id})`,
  ]) {
    await spoil();
    const tally = new QuotaTally();
    await reconcile(world.api.app, tally, never);
    expect(tally.drifted).toBe(1);
    await count();
    expect(await usage("drift")).toEqual(right);
  }
});

test("what was there before is counted beside pushes, deletions and other counters, to the byte", async () => {
  const id = await organization("before");
  const random = makeRandom("backfill of quota");
  const layers = Array.from({ length: 30 }, (_, n) => bytes(`layer of before ${n}`, 100 + n));
  const pick = () => layers[random.integer(0, layers.length - 1)] ?? new Uint8Array();
  for (let n = 0; n < 12; n++) await push(`before/r${n % 4}`, `t${n}`, [pick(), pick(), pick()]);
  const { db } = world.api.app;
  for (let round = 0; round < 4; round++) {
    // As the feature leaves it when it is off: nothing counts until somebody counts.
    await db.sql`/* test.drop */
      update namespace_usage set generation = generation + 1, size_bytes = 0, backfill_state = 'dropped'
      where namespace_id = ${id}`;
    await Promise.all([
      count(),
      count(),
      (async () => {
        for (let n = 0; n < 8; n++) await push(`before/r${(n + round) % 5}`, `t${round}-${n}`, [pick(), pick()]);
      })(),
      (async () => {
        for (let n = 0; n < 3; n++) {
          await deleteTag(`before/r${n % 4}`, `t${(round * 3 + n) % 12}`);
          await world.pass(dayMs + 7200_000);
          await world.collect();
        }
      })(),
    ]);
    await count();
    await checkTotals("before");
  }
});

test("a push while the feature is off drops the totals, and they are counted when it is on again", async () => {
  const off = await startGcWorld({ FEATURE_QUOTA_MANAGEMENT: false, DEFAULT_SYSTEM_REJECT_QUOTA_BYTES: 10 });
  try {
    const { admin, app } = off.api;
    await admin.pushImage("admin/a", "x");
    const counted = async () => {
      const tally = new QuotaTally();
      while (await noteNamespaces(app));
      await backfill(app, 100, tally, never);
      const [row] = await app.db.sql<{
        size_bytes: number;
        namespace_id: number;
        backfill_state: string;
      }>`/* test.usage */
        select namespace_id, size_bytes, backfill_state from namespace_usage`;
      return { id: Number(row?.namespace_id), bytes: Number(row?.size_bytes), state: row?.backfill_state };
    };
    const first = await counted();
    expect(first).toMatchObject({ state: "complete", bytes: 1024 + (await configBytes(off)) });
    await admin.pushImage("admin/a", "y");
    const [dropped] = await app.db.sql`/* test.state */ select backfill_state, size_bytes from namespace_usage`;
    expect(dropped).toMatchObject({ backfill_state: "dropped" });
    expect(await findDrift(app.db, first.id, never)).toBeUndefined();
    const second = await counted();
    expect(second).toMatchObject({ state: "complete", bytes: 2 * 1024 + (await configBytes(off)) });
    expect(await findDrift(app.db, first.id, never)).toBeUndefined();
  } finally {
    await off.stop();
  }
});

test("a namespace that was deleted when the feature came on is counted once it is restored", async () => {
  const off = await startGcWorld({ FEATURE_QUOTA_MANAGEMENT: false });
  try {
    const { app, admin } = off.api;
    const su = await off.api.as("admin");
    await su.post("/organization/", { name: "late", email: "late@example.com" });
    await admin.pushImage("late/a", "x");
    expect((await su.delete("/organization/late")).status).toBe(204);
    while (await noteNamespaces(app));
    const [{ uuid }] = (await su.get("/superuser/deleted")).body.namespaces;
    expect((await su.post(`/superuser/deleted/${uuid}/restore`, {})).status).toBe(200);
    expect(await noteNamespaces(app)).toBe(false);
    expect(await backfill(app, 100, new QuotaTally(), never)).toBeGreaterThan(0);
    const rows = await app.db.sql<{ size_bytes: number; backfill_state: string }>`/* test.usage */
      select u.size_bytes, u.backfill_state from namespace_usage u join account a on a.id = u.namespace_id
      where a.username = 'late'`;
    expect(rows.map((row) => ({ bytes: Number(row.size_bytes), state: row.backfill_state }))).toEqual([
      { bytes: 1024 + (await configBytes(off)), state: "complete" },
    ]);
  } finally {
    await off.stop();
  }
});

test("a namespace without a quota of its own may use what the registry gives to all", async () => {
  const small = await startGcWorld({ FEATURE_QUOTA_MANAGEMENT: true, DEFAULT_SYSTEM_REJECT_QUOTA_BYTES: 3000 });
  try {
    const { admin } = small.api;
    await admin.pushImage("admin/a", "x");
    const { response } = await admin.pushImage("admin/a", "y", { layers: 1, layerBytes: 1000 });
    expect(response.status).toBe(201);
    await expect(admin.pushImage("admin/a", "z", { layers: 1, layerBytes: 1000 })).rejects.toThrow(
      "Quota has been exceeded on namespace",
    );
  } finally {
    await small.stop();
  }
});

const REFUSED = { errors: [{ code: "DENIED", message: "Quota has been exceeded on namespace" }] };

async function organization(name: string): Promise<number> {
  const answer = await su.post("/organization/", { name, email: `${name}@example.com` });
  expect(answer.status).toBe(201);
  const [row] = await world.api.app.db.sql<{
    id: number;
  }>`/* test.id */ select id from account where username = ${name}`;
  return Number(row?.id);
}

async function limit(id: number, bytes: number, limits: [string, number][]): Promise<void> {
  await world.api.app.db.tx(async (tx) => {
    await tx.sql`/* test.no_limits */
      delete from namespace_quota_limit where quota_id in (select id from namespace_quota where namespace_id = ${id})`;
    await tx.sql`/* test.no_quota */ delete from namespace_quota where namespace_id = ${id}`;
    const [quota] = await tx.sql<{ id: number }>`/* test.quota */
      insert into namespace_quota (namespace_id, limit_bytes) values (${id}, ${bytes}) returning id`;
    for (const [type, percent] of limits) {
      await tx.sql`/* test.limit */
        insert into namespace_quota_limit (quota_id, type, threshold_percent)
        values (${Number(quota?.id)}, ${type}, ${percent})`;
    }
  });
}

function bytes(text: string, length: number): Uint8Array {
  return new TextEncoder().encode(text.padEnd(length, "."));
}

function imageOf(config: Uint8Array, layers: readonly Uint8Array[]): object {
  const describe = (mediaType: string, content: Uint8Array) => ({
    mediaType,
    size: content.length,
    digest: digestOf(content),
  });
  return {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: describe(mediaTypes.config, config),
    layers: layers.map((layer) => describe(mediaTypes.layer, layer)),
  };
}

/** What `push` brings beside the layers. */
const CONFIG = new TextEncoder().encode(`{"architecture":"amd64"}`);

async function push(repository: string, tag: string, layers: readonly Uint8Array[]): Promise<void> {
  for (const content of [CONFIG, ...layers]) {
    const response = await world.api.admin.pushBlob(repository, content);
    if (response.status !== 201) throw new Error(`blob: ${response.status} ${await response.text()}`);
  }
  const response = await put(repository, tag, imageOf(CONFIG, layers));
  if (response.status !== 201) throw new Error(`manifest: ${response.status} ${await response.text()}`);
}

function put(repository: string, tag: string, manifest: object): Promise<Response> {
  return world.api.admin.pushManifest(repository, tag, manifest);
}

async function deleteTag(repository: string, tag: string): Promise<void> {
  await world.api.admin.request(`/v2/${repository}/manifests/${tag}`, {
    method: "DELETE",
    scope: `repository:${repository}:delete`,
  });
}

async function usage(namespace: string): Promise<{ namespace: number; repositories: Record<string, number> }> {
  const { db } = world.api.app;
  const [total] = await db.sql<{ size_bytes: number }>`/* test.total */
    select u.size_bytes from namespace_usage u join account a on a.id = u.namespace_id where a.username = ${namespace}`;
  const rows = await db.sql<{ path: string; size_bytes: number }>`/* test.repositories */
    select r.path, u.size_bytes from repository_usage u join repository r on r.id = u.repository_id
    join account a on a.id = r.namespace_id where a.username = ${namespace} and u.size_bytes > 0 order by r.path`;
  return {
    namespace: Number(total?.size_bytes),
    repositories: Object.fromEntries(rows.map((row) => [row.path, Number(row.size_bytes)])),
  };
}

/** Counts what is unfinished, as the worker does. */
async function count(): Promise<void> {
  while (await noteNamespaces(world.api.app));
  while ((await backfill(world.api.app, 100, new QuotaTally(), never)) > 0);
}

/** What was kept equals a full recount, once everything is counted. */
async function checkTotals(namespace: string): Promise<void> {
  const before = await usage(namespace);
  await count();
  expect(await usage(namespace)).toEqual(before);
  const { db } = world.api.app;
  const [row] = await db.sql<{ id: number; state: string }>`/* test.state */
    select a.id, u.backfill_state as state from account a join namespace_usage u on u.namespace_id = a.id
    where a.username = ${namespace}`;
  expect(row?.state).toBe("complete");
  expect(await findDrift(db, Number(row?.id), never)).toBeUndefined();
}

/** Bytes of the image configs that are there. */
async function configBytes({ api }: GcWorld): Promise<number> {
  const [row] = await api.app.db.sql<{ n: number }>`/* test.configs */
    select cast(sum(size_bytes) as bigint) as n from blob where size_bytes <> 1024`;
  return Number(row?.n);
}

function digestOf(content: Uint8Array): string {
  return `sha256:${new Bun.CryptoHasher("sha256").update(content).digest("hex")}`;
}
