/**
 * The Swift blob store against a real Swift: the contract suite for each way of authentication and of making large objects,
 * then what only Swift can show. Needs Debian's Swift, memcached and Keystone; a missing one fails and says so.
 */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { StorageDriver } from "../../src/storage/driver.ts";
import { PartPool } from "../../src/storage/remote/part-pool.ts";
import type { SwiftAccount } from "../../src/storage/swift/auth.ts";
import { type Keystone, startKeystone } from "../support/keystone.ts";
import { type SwiftCluster, type SwiftProxy, startSwift } from "../support/swift.ts";
import {
  appendTo,
  blobOf,
  expectAbsent,
  expectRefused,
  expectStored,
  fillUpload,
  readSource,
  storageContract,
  storeBlob,
} from "./contract.ts";
import { makeRandom } from "./random.ts";
import { accountV1, accountV3, type Container, makeContainer } from "./swift-store.ts";

const START_MS = 300_000;
/** Cases are many requests to servers in Python, on a machine that does other things as well. */
setDefaultTimeout(120_000);
const mebibyte = 1024 * 1024;
const later = () => Date.now() + 3_600_000;

let cluster: SwiftCluster;
let keystone: Keystone;
/** One proxy for each way of speaking to the same Swift. */
let proxies: { plain: SwiftProxy; nested: SwiftProxy; dynamic: SwiftProxy; keystone: SwiftProxy };

beforeAll(async () => {
  const [swift, identity] = await Promise.allSettled([startSwift(), startKeystone()]);
  if (swift.status === "fulfilled") cluster = swift.value;
  if (identity.status === "fulfilled") keystone = identity.value;
  for (const result of [swift, identity]) if (result.status === "rejected") throw result.reason;
  const { url, servicePassword } = keystone;
  const [plain, nested, dynamic, withKeystone] = await Promise.all([
    cluster.startProxy(),
    cluster.startProxy({ segmentsMax: 2 }),
    cluster.startProxy({ slo: false }),
    cluster.startProxy({ keystone: { url, password: servicePassword } }),
  ]);
  await keystone.addSwift(withKeystone.url);
  proxies = { plain, nested, dynamic, keystone: withKeystone };
}, START_MS);
afterAll(async () => {
  await cluster?.stop();
  await keystone?.stop();
}, START_MS);

const accountAt = (proxy: SwiftProxy) => accountV1(cluster.authUrl(proxy));

function contractOf(name: string, account: () => SwiftAccount, differs?: "credentials"): void {
  const open = async () => {
    const container = await makeContainer(account());
    return { driver: container.open(), reopen: async () => container.open(), cleanup: async () => {} };
  };
  storageContract(name, open, differs);
}

contractOf("Swift", () => accountAt(proxies.plain));
contractOf("Swift without static large objects", () => accountAt(proxies.dynamic));
contractOf("Swift with Keystone", () => accountV3(keystone), "credentials");

for (const [kind, proxy] of [
  ["static", "plain"],
  ["nested static", "nested"],
  ["dynamic", "dynamic"],
] as const) {
  describe(`a large blob as a ${kind} large object`, () => {
    let container: Container;
    let driver: StorageDriver;
    const random = makeRandom(`a ${kind} large object`);

    const fresh = async () => {
      container = await makeContainer(accountAt(proxies[proxy]));
      driver = container.open();
    };

    test("keeps its bytes where they were written, and goes with all of them", async () => {
      await fresh();
      const blob = blobOf(random.bytes(35 * mebibyte));
      const { id, state } = await fillUpload(driver, blob.bytes, () => 500_000);
      const segments = (await container.names()).filter((name) => name.includes("/segments/"));
      expect(segments).toHaveLength(5);
      await driver.commitUpload(id, state, blob.key, blob.bytes.byteLength);
      expect(await container.names()).toEqual(expect.arrayContaining(segments));
      const head = await container.object("HEAD", `datastorage/registry/${blob.key}`);
      expect(head.headers.get("content-length")).toBe(String(blob.bytes.byteLength));
      expect(head.headers.has("x-object-manifest")).toBe(kind === "dynamic");
      expect(head.headers.has("x-static-large-object")).toBe(kind !== "dynamic");

      expect(await driver.cleanUploads(later(), 10)).toBe(1);
      expect(await driver.cleanUploads(later(), 10)).toBe(0);
      expect((await container.names()).filter((name) => name.includes("/uploads/"))).toEqual([]);
      await expectStored(driver, blob);
      const source = await driver.source(blob.key, blob.bytes.byteLength);
      if (!source) throw new Error("the blob has no source");
      const range = { start: 8 * mebibyte - 3, end: 16 * mebibyte + 3 };
      const middle = await readSource(source, range);
      expect(Buffer.compare(middle, blob.bytes.subarray(range.start, range.end + 1))).toBe(0);

      await driver.delete(blob.key);
      await expectAbsent(driver, blob.key);
      expect(await container.names()).toEqual([]);
    });

    test("pushed again leaves one set of segments after the clean-up", async () => {
      await fresh();
      const blob = blobOf(random.bytes(20 * mebibyte));
      await Promise.all([storeBlob(driver, blob), storeBlob(container.open(), blob)]);
      await storeBlob(driver, blob);
      await driver.cleanUploads(later(), 10);
      const names = await container.names();
      expect(new Set(names.filter((name) => name.includes("/segments/")).map((name) => name.split("/")[3])).size).toBe(
        1,
      );
      expect(names.filter((name) => name.includes("/uploads/"))).toEqual([]);
      await expectStored(driver, blob);
      await driver.delete(blob.key);
      expect(await container.names()).toEqual([]);
    });

    test("is put together from many requests without a segment for each of them", async () => {
      await fresh();
      const blob = blobOf(random.bytes(40 * mebibyte + 11));
      const id = crypto.randomUUID();
      let state = await driver.createUpload(id);
      for (let at = 0; at < blob.bytes.byteLength; at += mebibyte) {
        state = await appendTo(driver, id, state, at, blob.bytes.subarray(at, at + mebibyte));
      }
      await driver.commitUpload(id, state, blob.key, blob.bytes.byteLength);
      await expectStored(driver, blob);
      await driver.cleanUploads(later(), 10);
      const segments = (await container.names()).filter((name) => name.includes("/segments/"));
      expect(segments.length).toBeLessThan(25);
      await expectStored(driver, blob);
    });

    test("that is given up leaves nothing, whether its last request ended or not", async () => {
      await fresh();
      const { id, state } = await fillUpload(driver, random.bytes(20 * mebibyte));
      const writer = await driver.openUpload(id, state, 20 * mebibyte);
      await writer.write(random.bytes(20 * mebibyte));
      await writer.abort();
      await driver.deleteUpload(id, state);
      expect(await container.names()).toEqual([]);

      // The request of another instance hangs while the client gives the upload up, and ends after that.
      const lost = await fillUpload(driver, random.bytes(20 * mebibyte));
      const hanging = await container.open().openUpload(lost.id, lost.state, 20 * mebibyte);
      await hanging.write(random.bytes(20 * mebibyte));
      await driver.deleteUpload(lost.id, lost.state);
      await hanging.flush();
      expect(await container.names()).not.toEqual([]);
      expect(await driver.cleanUploads(Date.now() - 3_600_000, 10)).toBe(0);
      expect(await driver.cleanUploads(later(), 10)).toBe(1);
      expect(await container.names()).toEqual([]);
    });
  });
}

describe("a short blob", () => {
  let container: Container;
  let driver: StorageDriver;
  const random = makeRandom("short blobs in Swift");

  beforeAll(async () => {
    container = await makeContainer(accountAt(proxies.plain));
    driver = container.open();
  }, START_MS);

  test("is one object and leaves nothing beside it", async () => {
    for (const sizeBytes of [0, 1, 8 * mebibyte]) {
      const blob = blobOf(random.bytes(sizeBytes));
      await storeBlob(driver, blob);
      expect(await container.names()).toEqual([`datastorage/registry/${blob.key}`]);
      await driver.delete(blob.key);
    }
  });

  test("whose key is known waits in memory and is stored at once", async () => {
    const pool = new PartPool();
    const own = container.open({ parts: pool });
    const blob = blobOf(random.bytes(3 * mebibyte));
    const id = crypto.randomUUID();
    const created = await own.createUpload(id);
    const hold = async () => {
      const writer = await own.openUpload(id, created, 0, blob.key);
      await writer.write(blob.bytes);
      return writer.flush();
    };
    const held = await hold();
    expect(await container.names()).toEqual([`datastorage/registry/uploads/${id}`]);
    expect(blobOf(await new Response(await own.readUpload(id, held, blob.bytes.byteLength)).bytes()).key).toBe(
      blob.key,
    );
    await expectRefused(
      container.open().commitUpload(id, held, blob.key, blob.bytes.byteLength),
      "blob_upload_unknown",
    );
    // The upload's earlier state is good for a new try.
    const again = await hold();
    await own.commitUpload(id, again, blob.key, blob.bytes.byteLength);
    await expectStored(driver, blob);
    expect(await container.names()).toEqual([`datastorage/registry/${blob.key}`]);
    expect(pool.promisedBytes).toBe(0);
    await driver.delete(blob.key);
  });

  test("replaces a large one, whose segments the clean-up finds", async () => {
    const key = "archive/logs.txt";
    await storeBlob(driver, { key, bytes: random.bytes(20 * mebibyte) });
    await driver.cleanUploads(later(), 10);
    const bytes = random.bytes(100);
    await storeBlob(driver, { key, bytes });
    expect(await driver.cleanUploads(later(), 10)).toBe(1);
    expect(await container.names()).toEqual([`datastorage/registry/${key}`]);
    expect(await driver.find(key)).toEqual({ sizeBytes: 100 });
    await driver.delete(key);
  });
});

describe("a bucket that Quay filled", () => {
  let container: Container;
  let driver: StorageDriver;
  const random = makeRandom("a bucket of Quay's");
  const root = "datastorage/registry";

  /** A blob as Quay stores each one: segments with nine digits, and a manifest whose prefix ends without a slash. */
  async function storeAsQuay(bytes: Uint8Array, segmentBytes: number): Promise<string> {
    const { key } = blobOf(bytes);
    const prefix = `${root}/segments/${crypto.randomUUID()}`;
    for (let at = 0, index = 0; at < bytes.byteLength; at += segmentBytes, index++) {
      const body = bytes.slice(at, at + segmentBytes);
      await container.object("PUT", `${prefix}/${String(index).padStart(9, "0")}`, { body });
    }
    const headers = { "x-object-manifest": `${container.name}/${prefix}` };
    const made = await container.object("PUT", `${root}/${key}`, { headers, body: "" });
    expect(made.status).toBe(201);
    return key;
  }

  beforeAll(async () => {
    container = await makeContainer(accountAt(proxies.plain));
    driver = container.open();
  }, START_MS);

  test("is read, survives the clean-up, and loses a blob with its segments", async () => {
    const bytes = random.bytes(3 * mebibyte);
    const key = await storeAsQuay(bytes, mebibyte);
    await driver.cleanUploads(later(), 10);
    await expectStored(driver, { key, bytes });
    await driver.delete(key);
    expect(await container.names()).toEqual([]);
  });

  test("takes the same blob again, and the clean-up finds the earlier segments", async () => {
    const bytes = random.bytes(20 * mebibyte);
    const key = await storeAsQuay(bytes, 10 * mebibyte);
    const before = await container.names();
    await storeBlob(driver, { key, bytes });
    await driver.cleanUploads(later(), 10);
    const after = await container.names();
    expect(after.filter((name) => name.includes("/segments/") && before.includes(name))).toEqual([]);
    await expectStored(driver, { key, bytes });
    await driver.delete(key);
    expect(await container.names()).toEqual([]);
  });
});

describe("a URL for clients", () => {
  const key = "a key of the account";
  let container: Container;
  let driver: StorageDriver;
  const random = makeRandom("TempURLs");
  const blobs = [100, 20 * mebibyte].map((sizeBytes) => blobOf(random.bytes(sizeBytes)));

  beforeAll(async () => {
    container = await makeContainer(accountAt(proxies.plain));
    driver = container.open({ tempUrlKey: key });
    const set = await container.request("POST", "", { headers: { "x-account-meta-temp-url-key": key } });
    expect(set.status).toBe(204);
    for (const blob of blobs) await storeBlob(driver, blob);
  }, START_MS);

  const urlFor = async (blobKey: string, method: "GET" | "HEAD", from = driver) =>
    (await from.clientUrl?.(blobKey, { method })) ?? "";

  test("gives the bytes, a range of them and their size, without a token", async () => {
    for (const blob of blobs) {
      const whole = await fetch(await urlFor(blob.key, "GET"));
      expect(whole.status).toBe(200);
      expect(blobOf(await whole.bytes()).key).toBe(blob.key);
      const part = await fetch(await urlFor(blob.key, "GET"), { headers: { range: "bytes=10-19" } });
      expect(part.status).toBe(206);
      expect(Buffer.compare(await part.bytes(), blob.bytes.subarray(10, 20))).toBe(0);
      const head = await fetch(await urlFor(blob.key, "HEAD"), { method: "HEAD" });
      expect(head.status).toBe(200);
      expect(head.headers.get("content-length")).toBe(String(blob.bytes.byteLength));
    }
  });

  test("is good for its own object, its own method and a short while", async () => {
    const [first, second] = blobs;
    if (!first || !second) throw new Error("no blobs");
    const url = await urlFor(first.key, "HEAD");
    expect((await fetch(url)).status).toBe(401);
    expect((await fetch(url.replace(first.key, second.key), { method: "HEAD" })).status).toBe(401);
    const old = container.open({ tempUrlKey: key, clock: { nowMs: () => Date.now() - 600_000 } });
    expect((await fetch(await urlFor(first.key, "GET", old))).status).toBe(401);
    const wrong = container.open({ tempUrlKey: "another key" });
    expect((await fetch(await urlFor(first.key, "GET", wrong))).status).toBe(401);
  });

  test("does not exist without a key", () => {
    expect(container.open().clientUrl).toBeUndefined();
  });
});
