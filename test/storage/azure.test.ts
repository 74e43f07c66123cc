/**
 * The Azure blob store against Azurite: the contract suite with the account's key and with a SAS alone, then what only Azure
 * can show. Needs Azurite, which the tests' set-up installs; when it is missing the tests fail and say so.
 */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { AzureStorageOptions } from "../../src/storage/azure/azure.ts";
import { encodeState } from "../../src/storage/azure/state.ts";
import type { StorageDriver } from "../../src/storage/driver.ts";
import { PartPool } from "../../src/storage/remote/part-pool.ts";
import { type Azurite, startAzurite } from "../support/azurite.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { byTurns } from "../support/thorough.ts";
import { type Container, makeContainer, silentLog, storagePath } from "./azure-store.ts";
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

const START_MS = 180_000;
/** Cases are many requests to an emulator, on a machine that does other things as well. */
setDefaultTimeout(120_000);
const mebibyte = 1024 * 1024;
const later = () => Date.now() + 3_600_000;
const prefix = storagePath.replace(/^\/+/, "");

let azurite: Azurite;

beforeAll(async () => {
  azurite = await startAzurite();
}, START_MS);
afterAll(() => azurite?.stop(), START_MS);

function contractOf(
  name: string,
  options: (container: Container) => Partial<AzureStorageOptions>,
  differs?: "credentials",
): void {
  const open = async () => {
    const container = await makeContainer(azurite);
    const again = () => container.open(options(container));
    return { driver: again(), reopen: async () => again(), cleanup: async () => {} };
  };
  storageContract(name, open, differs);
}

contractOf("Azure with the account's key", () => ({}));
contractOf("Azure with a SAS", (container) => ({ credential: container.sas() }), "credentials");

describe("an upload to Azure", () => {
  let container: Container;
  let driver: StorageDriver;
  const random = makeRandom("uploads to Azure");

  beforeAll(async () => {
    container = await makeContainer(azurite);
    driver = container.open();
  });
  const uploads = async () => (await container.names()).filter((name) => name.startsWith(`${prefix}uploads/`));

  test("lies where Quay would look for it and leaves nothing behind", async () => {
    const blob = blobOf(random.bytes(20 * mebibyte));
    await storeBlob(driver, blob);
    expect(await container.names()).toContain(`${prefix}${blob.key}`);
    expect(await uploads()).toEqual([]);
  });

  test("is not touched by a writer that hangs on another instance, whoever flushes first", async () => {
    for (const hangingIsFirst of [true, false]) {
      const blob = blobOf(random.bytes(10 * mebibyte));
      const first = await fillUpload(driver, blob.bytes.subarray(0, mebibyte));
      const hanging = await container.open().openUpload(first.id, first.state, mebibyte);
      await hanging.write(random.bytes(9 * mebibyte));
      const writer = await driver.openUpload(first.id, first.state, mebibyte);
      await writer.write(blob.bytes.slice(mebibyte, 9 * mebibyte));
      if (hangingIsFirst) await hanging.flush();
      await writer.write(blob.bytes.slice(9 * mebibyte));
      const state = await writer.flush();
      if (!hangingIsFirst) await hanging.flush();
      await container.open().commitUpload(first.id, state, blob.key, blob.bytes.byteLength);
      await expectStored(driver, blob);
      expect(await driver.cleanUploads(later(), 10)).toBe(1);
      expect(await uploads()).toEqual([]);
    }
  });

  test("that is short and last goes to its key in one step, from memory", async () => {
    const parts = new PartPool();
    const own = container.open({ parts });
    const blob = blobOf(random.bytes(300_000));
    const id = crypto.randomUUID();
    const created = await own.createUpload(id);
    const writer = await own.openUpload(id, created, 0, blob.key);
    await writer.write(blob.bytes);
    const state = await writer.flush();
    await expectAbsent(driver, blob.key);
    expect(await uploads()).toEqual([`${prefix}uploads/${id}`]);
    expect(parts.promisedBytes).toBeGreaterThan(0);
    // Another instance has only what was stored before, and may try again from there.
    await expectRefused(driver.commitUpload(id, state, blob.key, 300_000), "blob_upload_unknown");
    await own.commitUpload(id, state, blob.key, 300_000);
    expect(parts.promisedBytes).toBe(0);
    await expectStored(driver, blob);
    expect(await uploads()).toEqual([]);
  });

  test("that is long and last is committed under its key, and dropped without a trace", async () => {
    for (const isCommitted of [true, false]) {
      const blob = blobOf(random.bytes(20 * mebibyte));
      const first = await fillUpload(driver, blob.bytes.subarray(0, 100));
      const writer = await driver.openUpload(first.id, first.state, 100, blob.key);
      await writer.write(blob.bytes.slice(100));
      const state = await writer.flush();
      await expectAbsent(driver, blob.key);
      if (isCommitted) {
        await driver.commitUpload(first.id, state, blob.key, blob.bytes.byteLength);
        await expectStored(driver, blob);
      } else {
        await driver.deleteUpload(first.id, state);
        await expectAbsent(driver, blob.key);
      }
      expect(await uploads()).toEqual([]);
    }
  });

  test("of many short requests takes the last ones together", async () => {
    const blob = blobOf(random.bytes(300));
    const id = crypto.randomUUID();
    let state = await driver.createUpload(id);
    for (let at = 0; at < 300; at++) state = await appendTo(driver, id, state, at, blob.bytes.slice(at, at + 1));
    expect(state.split(",")).toHaveLength(256);
    const stored = await new Response(await driver.readUpload(id, state, 300)).bytes();
    expect(Buffer.compare(stored, blob.bytes)).toBe(0);
    await driver.commitUpload(id, state, blob.key, 300);
    await expectStored(driver, blob);
    expect(await driver.cleanUploads(later(), 10)).toBe(1);
    expect(await uploads()).toEqual([]);
  });

  test("that is large is put together by commits of several instances at once", async () => {
    const blob = blobOf(random.bytes(70 * mebibyte));
    const made = await Promise.all([0, 1, 2].map(() => fillUpload(container.open(), blob.bytes, () => mebibyte)));
    await Promise.all(made.map(({ id, state }) => container.open().commitUpload(id, state, blob.key, 70 * mebibyte)));
    await expectStored(driver, blob);
    expect(await uploads()).toEqual([]);
  });

  test("holds one part in memory when the budget is spent, and gives it back", async () => {
    const parts = new PartPool(1);
    const own = container.open({ parts });
    const id = crypto.randomUUID();
    const writer = await own.openUpload(id, await own.createUpload(id), 0);
    for (let count = 0; count < 40; count++) {
      await writer.write(random.bytes(mebibyte));
      expect(parts.promisedBytes).toBeLessThanOrEqual(8 * mebibyte);
    }
    await writer.abort();
    expect(parts.promisedBytes).toBe(0);
    await own.deleteUpload(id, "");
  });

  test("is cleaned when it is old, page by page and never another's", async () => {
    const young = await fillUpload(driver, random.bytes(10));
    expect(await driver.cleanUploads(Date.now() - 3_600_000, 10)).toBe(0);
    await driver.openUpload(young.id, young.state, 10).then((writer) => writer.abort());
    await Promise.all(Array.from({ length: 4 }, () => fillUpload(driver, random.bytes(10))));
    await container.client.putBlob(`${prefix}uploads/not-an-upload`, "x");
    expect(await driver.cleanUploads(later(), 3)).toBe(3);
    expect(await driver.cleanUploads(later(), 3)).toBe(2);
    expect(await driver.cleanUploads(later(), 3)).toBe(0);
    expect(await uploads()).toEqual([`${prefix}uploads/not-an-upload`]);
  });

  test("that names what it never wrote is unknown", async () => {
    const id = crypto.randomUUID();
    await driver.createUpload(id);
    const state = encodeState(id, { segments: [{ nonce: "0123456789ab", sizeBytes: 5 }] });
    await expectRefused(driver.commitUpload(id, state, blobOf(random.bytes(5)).key, 5), "blob_upload_unknown");
    const read = new Response(await driver.readUpload(id, state, 5)).bytes();
    await expectRefused(read, "blob_upload_unknown");
    await driver.deleteUpload(id, state);
  });
});

describe("a URL for clients", () => {
  let container: Container;
  let driver: StorageDriver;
  const random = makeRandom("URLs of Azure");
  const blob = blobOf(random.bytes(300_000));

  beforeAll(async () => {
    container = await makeContainer(azurite);
    driver = container.open();
    await storeBlob(driver, blob);
  });
  const urlFor = async (from = driver) => (await from.clientUrl?.(blob.key, { method: "GET" })) ?? "";

  test("gives the bytes, a range of them and their size, and tells a browser to save them", async () => {
    const whole = await fetch(await urlFor());
    expect(whole.status).toBe(200);
    expect(whole.headers.get("content-disposition")).toBe("attachment");
    expect(whole.headers.get("content-type")).toBe("application/octet-stream");
    expect(blobOf(await whole.bytes()).key).toBe(blob.key);
    const part = await fetch(await urlFor(), { headers: { range: "bytes=10-19" } });
    expect(part.status).toBe(206);
    expect(Buffer.compare(await part.bytes(), blob.bytes.subarray(10, 20))).toBe(0);
    const head = await fetch(await urlFor(), { method: "HEAD" });
    expect(head.status).toBe(200);
    expect(head.headers.get("content-length")).toBe("300000");
  });

  test("is good for its own blob, for reading and for a short while", async () => {
    const url = await urlFor();
    const other = blobOf(random.bytes(10));
    await storeBlob(driver, other);
    expect((await fetch(url.replace(blob.key, other.key))).status).toBe(403);
    expect((await fetch(url, { method: "DELETE" })).status).toBe(403);
    const old = container.open({ clock: { nowMs: () => Date.now() - 1_300_000 } });
    expect((await fetch(await urlFor(old))).status).toBe(403);
  });

  test("is not made from a token of the config, which may do more", async () => {
    const own = container.open({ credential: container.sas() });
    expect(own.clientUrl).toBeUndefined();
    await expectStored(own, blob);
  });
});

describe("a container that cannot be used", () => {
  test("is told by check, and is no blob that is gone", async () => {
    const container = await makeContainer(azurite);
    const key = blobOf(new Uint8Array(3)).key;
    const elsewhere = container.open({ container: "not-there" });
    await expectRefused(elsewhere.check(), "unavailable");
    await expect(elsewhere.find(key)).rejects.toThrow("Could not find container (not-there)");
    await expectRefused(elsewhere.delete(key), "unavailable");
    const stranger = container.open({ credential: { kind: "key", key: btoa("another key") } });
    await expect(stranger.check()).rejects.toThrow("azure_account_key");
    await expect(container.open({ credential: container.sas("r") }).check()).rejects.toThrow("sas_token");
  });
});

describe("between Azure and us", () => {
  let proxy: FaultProxy;
  let container: Container;
  const random = makeRandom("faults of Azure");
  const sleep = async () => {};

  beforeAll(async () => {
    proxy = await startFaultProxy({ host: "127.0.0.1", port: azurite.port, http: true });
    container = await makeContainer(azurite);
  });
  afterAll(() => proxy?.stop());

  const through = (options: Partial<AzureStorageOptions> = {}) =>
    container.open({ accountUrl: `http://127.0.0.1:${proxy.port}/${azurite.account}`, retry: { sleep }, ...options });
  const busy = { "x-ms-error-code": "ServerBusy", "retry-after": "0" };
  const struck = () => Object.values(proxy.http.struck()).reduce((sum, count) => sum + count, 0);

  type Does = FaultProxy["http"]["faults"][number]["does"];
  const statuses = [503, 500, 429, 408];
  const faults = {
    "a status that may pass": (push: number): Does => ({
      kind: "status",
      // Each position twice: by turns only every second one is of this kind.
      status: statuses[Math.floor(push / 2) % statuses.length] ?? 503,
      headers: busy,
    }),
    "a lost answer": (): Does => ({ kind: "lost" }),
  };
  const runs = byTurns(["a status that may pass", "a lost answer"]);
  test.each(runs)("%s at any request of a push is overcome, and nothing is left", async (_name, faultAt) => {
    const driver = through();
    const bytes = random.bytes(18 * mebibyte);
    const blob = blobOf(bytes);
    // The fault moves on by one request for each push, until a push met none.
    let pushes = 0;
    for (let isOver = false; !isOver; pushes++) {
      const before = struck();
      proxy.http.faults.splice(0, proxy.http.faults.length, {
        after: pushes,
        times: 1,
        does: faults[faultAt(pushes)](pushes),
      });
      const first = await fillUpload(driver, bytes.subarray(0, 100_000));
      const state = await appendTo(driver, first.id, first.state, 100_000, bytes.subarray(100_000), () => mebibyte);
      await driver.commitUpload(first.id, state, blob.key, bytes.byteLength);
      isOver = struck() === before;
      proxy.http.faults.length = 0;
      await expectStored(driver, blob);
      await driver.delete(blob.key);
      await driver.cleanUploads(later(), 10);
      expect((await container.names()).filter((name) => !name.endsWith("/.check"))).toEqual([]);
    }
    expect(pushes).toBeGreaterThan(10);
  });

  test("an answer that breaks in the middle of a pull goes on where it broke", async () => {
    const driver = through();
    const blob = blobOf(random.bytes(6 * mebibyte));
    await storeBlob(driver, blob);
    const before = struck();
    proxy.http.faults.push({ method: "GET", times: 2, does: { kind: "cut", bytes: 2 * mebibyte } });
    const source = await driver.source(blob.key, blob.bytes.byteLength);
    if (!source) throw new Error("the blob has no source");
    expect(blobOf(await readSource(source)).key).toBe(blob.key);
    expect(struck()).toBe(before + 2);
    proxy.http.faults.length = 0;
  });

  test("a store that stays away fails the push, shows no blob, and takes the same bytes later", async () => {
    const driver = through();
    const blob = blobOf(random.bytes(9 * mebibyte));
    const { id, state } = await fillUpload(driver, blob.bytes);
    proxy.http.faults.push({ method: "PUT", path: /comp=blocklist/, does: { kind: "status", status: 503 } });
    await expect(driver.commitUpload(id, state, blob.key, blob.bytes.byteLength)).rejects.toMatchObject({
      code: "unavailable",
    });
    proxy.http.faults.length = 0;
    await expectAbsent(driver, blob.key);
    await driver.commitUpload(id, state, blob.key, blob.bytes.byteLength);
    await expectStored(driver, blob);
  });

  test("a store that copies nothing by itself gets the bytes once more, and is not asked for each", async () => {
    // A firewall's answer, to requests that stage blocks without bytes: those have no other mark in their address.
    const warnings: string[] = [];
    const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
    const parts = new PartPool();
    const driver = through({ log, parts });
    const blobs = [blobOf(random.bytes(100)), blobOf(random.bytes(20 * mebibyte))];
    for (const blob of blobs) {
      const { id, state } = await fillUpload(driver, blob.bytes);
      if (warnings.length === 0) {
        const headers = { "x-ms-error-code": "CannotVerifyCopySource" };
        proxy.http.faults.push({ path: /comp=block&/, times: 1, does: { kind: "status", status: 403, headers } });
      }
      await driver.commitUpload(id, state, blob.key, blob.bytes.byteLength);
      await expectStored(driver, blob);
    }
    expect(warnings).toHaveLength(1);
    expect(parts.promisedBytes).toBe(0);
    proxy.http.faults.length = 0;
  });
});
