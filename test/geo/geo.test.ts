/**
 * Two sites with a store each on one database: what is pushed at one is pulled at the other before and after it was copied,
 * one store is lost and comes back, and nothing that was acknowledged is missing in the end.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { digestOf, pushScope, uploadLocation } from "../support/registry-client.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import { blobsOf, patienceMs, pullAll, pushPatiently, type Site, type Sites, startSites, until } from "./sites.ts";
import { type Loss, localStore, type RemoteStore, type RemoteStores, startRemoteStores } from "./stores.ts";

setDefaultTimeout(4 * patienceMs);
let remote: RemoteStores;
let dir: TempDir;
let sites: Sites | undefined;

beforeAll(async () => {
  dir = makeTempDir("geo-stores");
  remote = await startRemoteStores();
}, 2 * patienceMs);
afterEach(async () => {
  await sites?.stop();
  sites = undefined;
});
afterAll(async () => {
  await remote?.stop();
  dir?.remove();
}, patienceMs);

const repository = "admin/app";

async function metric({ berth }: Site, name: string, location: string): Promise<number | undefined> {
  const text = await (await fetch(`${berth.metricsUrl}/metrics`)).text();
  const line = text.split("\n").find((each) => each.startsWith(`${name}{location="${location}"`));
  return line === undefined ? undefined : Number(line.split(" ").at(-1));
}

async function storageHealth({ berth }: Site): Promise<{ status: number; storage: unknown }> {
  const response = await fetch(`${berth.url}/health/endtoend`);
  const body = (await response.json()) as { data: { services: Record<string, unknown> } };
  return { status: response.status, storage: body.data.services.storage };
}

test("mixed engines: a pull at the other site comes from the first store, and from its own once it is copied", async () => {
  const eu = await remote.make();
  sites = await startSites({ us: await localStore(dir.path, "mixed"), eu });
  // Nothing can be written at the second site as long as this is there.
  eu.proxy.http.faults.push({ method: "PUT", does: { kind: "status", status: 503 } });
  const image = await pushPatiently(sites.us, repository, "v1", { layers: 3, layerBytes: 200_000 });
  expect(new Set(await pullAll(sites.eu, repository, "v1", image))).toEqual(new Set([sites.eu.berth.url]));
  for (const digest of blobsOf(image)) expect(await sites.placesOf(digest)).toEqual(["us"]);
  const lag = await metric(sites.us, "berth_replication_lag_seconds", "eu");
  expect(lag).toBeGreaterThan(0);
  expect(await metric(sites.us, "berth_replication_waiting", "eu")).toBe(blobsOf(image).length);

  eu.proxy.http.faults.length = 0;
  await sites.replicated(blobsOf(image));
  await until("pulls at the second site go to its own store", async () => {
    const from = sites && (await pullAll(sites.eu, repository, "v1", image));
    return from?.every((origin) => origin === eu.url) === true;
  });
  expect(new Set(await pullAll(sites.us, repository, "v1", image))).toEqual(new Set([sites.us.berth.url]));
  await sites.verify(blobsOf(image));
  await until("nothing waits any more", async () => {
    return sites !== undefined && (await metric(sites.us, "berth_replication_waiting", "eu")) === 0;
  });
});

describe.each<Loss>(["refused", "silent"])("a store whose connections are %s", (how) => {
  test("is passed over by pushes and pulls, and healed when it is back", async () => {
    const [us, eu] = [await remote.make(), await remote.make()] as [RemoteStore, RemoteStore];
    sites = await startSites({ us, eu });
    const before = await pushPatiently(sites.us, repository, "before", { layers: 2, layerBytes: 100_000 });
    await sites.replicated(blobsOf(before));
    const { client } = sites.us;
    const scope = pushScope(repository);
    const content = randomBytes(150_000);
    const begun = await client.request(`/v2/${repository}/blobs/uploads/`, { method: "POST", scope });
    const body = new Uint8Array(content.subarray(0, 100_000));
    const half = await client.request(uploadLocation(begun), { method: "PATCH", body, scope });
    expect(half.status).toBe(202);

    us.lose(how);
    await until("the site knows that its store is away", async () => {
      const health = sites && (await storageHealth(sites.us));
      return health?.status === 503 && health.storage === false;
    });
    expect(await storageHealth(sites.eu)).toMatchObject({ status: 200 });
    expect(new Set(await pullAll(sites.us, repository, "before", before))).toEqual(new Set([eu.url]));
    // An upload that began there cannot go on; one that begins now goes elsewhere.
    const rest = new Uint8Array(content.subarray(100_000));
    const stuck = await client.request(uploadLocation(half), { method: "PATCH", body: rest, scope });
    expect({ status: stuck.status, retry: stuck.headers.has("retry-after") }).toEqual({ status: 503, retry: true });
    const during = await pushPatiently(sites.us, repository, "during", { layers: 2, layerBytes: 100_000 });
    for (const digest of blobsOf(during)) expect(await sites.placesOf(digest)).toEqual(["eu"]);
    const other = await pushPatiently(sites.eu, repository, "other", { layers: 2, layerBytes: 100_000 });
    await pullAll(sites.us, repository, "during", during);
    await pullAll(sites.us, repository, "other", other);
    expect(await metric(sites.us, "berth_storage_up", "us")).toBe(0);
    expect(await metric(sites.us, "berth_storage_up", "eu")).toBe(1);

    us.mend();
    const all = [before, during, other].flatMap(blobsOf);
    await sites.replicated(all);
    await sites.verify(all);
    await until("the site is well", async () => sites !== undefined && (await storageHealth(sites.us)).status === 200);
    const after = await pushPatiently(sites.us, repository, "after");
    await sites.replicated(blobsOf(after));
    await until("pulls go to the site's own store again", async () => {
      const from = sites && (await pullAll(sites.us, repository, "during", during));
      return from?.every((origin) => origin === us.url) === true;
    });
  });
});

test("a pull goes on from the other store when the first breaks in the middle of a blob", async () => {
  const [us, eu] = [await remote.make(), await remote.make()] as [RemoteStore, RemoteStore];
  sites = await startSites({ us, eu }, { FEATURE_PROXY_STORAGE: true });
  const image = await pushPatiently(sites.us, repository, "v1", { layers: 1, layerBytes: 3_000_000 });
  await sites.replicated(blobsOf(image));
  us.proxy.http.faults.push({ method: "GET", path: /sha256/, does: { kind: "cut", bytes: 1_000_000 }, times: 1 });
  us.proxy.http.faults.push({ method: "GET", path: /sha256/, does: { kind: "status", status: 503 } });
  await pullAll(sites.us, repository, "v1", image);
  expect(us.proxy.http.struck().cut).toBe(1);
  expect(us.proxy.http.struck().status).toBeGreaterThan(0);
});

test("a worker that is killed in the middle of a large copy is followed by one that goes on", async () => {
  const us = await remote.make();
  sites = await startSites({ us, eu: await localStore(dir.path, "resumed") });
  const blob = randomBytes(150 * 1024 * 1024);
  const segmentBytes = 64 * 1024 * 1024;
  // More than one segment comes, and then nothing, whoever asks.
  us.proxy.http.faults.push(
    { method: "GET", path: /sha256/, does: { kind: "cut", bytes: segmentBytes + 10_000_000 }, times: 1 },
    { method: "GET", path: /sha256/, does: { kind: "silent" } },
  );
  const pushed = await sites.us.client.pushBlob(repository, blob);
  expect(pushed.status).toBe(201);
  const digest = digestOf(blob);
  const { db } = sites.app;
  await until("a segment is copied", async () => {
    const rows = await db.sql<{ offset_bytes: number }>`/* test.copy */ select offset_bytes from blob_copy`;
    return rows.some((row) => Number(row.offset_bytes) === segmentBytes);
  });
  const { us: first, eu: second } = sites;
  await Promise.all([first.berth.kill(), second.berth.kill()]);
  expect(await sites.placesOf(digest)).toEqual(["us"]);
  us.proxy.http.faults.length = 0;
  await second.berth.restart();
  await sites.replicated([digest]);
  await sites.verify([digest]);
  expect(second.berth.logs()).toContain(`"msg":"goes on with the copy of a blob","digest":"${digest}"`);
  expect(second.berth.logs()).toContain(`"offsetBytes":${segmentBytes}`);
  expect(await db.sql`/* test.left */ select blob_id from blob_copy`).toEqual([]);
  const left = await db.sql`/* test.jobs */ select id from job where queue = 'imagestoragereplication'`;
  expect(left).toEqual([]);
});

test("bytes that are wrong in one store are told of and not spread", async () => {
  const eu = await remote.make();
  const us = await localStore(dir.path, "corrupt");
  sites = await startSites({ us, eu });
  eu.proxy.http.faults.push({ method: "PUT", does: { kind: "status", status: 503 } });
  const content = randomBytes(100_000);
  const digest = digestOf(content);
  expect((await sites.us.client.pushBlob(repository, content)).status).toBe(201);
  const path = `${us.engine[1].storage_path}/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`;
  await Bun.write(path, content.toReversed());
  eu.proxy.http.faults.length = 0;
  const counted = async (site: Site) => (await metric(site, "berth_replication_wrong_total", "us")) ?? 0;
  await until("the wrong bytes are counted", async () => {
    return sites !== undefined && (await counted(sites.us)) + (await counted(sites.eu)) > 0;
  });
  expect(await sites.placesOf(digest)).toEqual(["us"]);
  expect(await eu.driver.find(`sha256/${digest.slice(7, 9)}/${digest.slice(7)}`)).toBeUndefined();
  expect(sites.us.berth.logs() + sites.eu.berth.logs()).toContain("are not copied from there");
});
