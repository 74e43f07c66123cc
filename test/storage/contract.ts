/**
 * The suite that every storage driver passes: what `src/storage/driver.ts` promises, as cases over opaque keys and bytes.
 * It assumes neither a disk nor a server; what only one engine can show is in that engine's own test file.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseDigest } from "../../src/oci/digest.ts";
import type { ObjectSource, StorageDriver } from "../../src/storage/driver.ts";
import { blobKey, fileKey } from "../../src/storage/paths.ts";
import { isThorough } from "../support/thorough.ts";
import { makeRandom, type Random } from "./random.ts";

export interface OpenedStore {
  readonly driver: StorageDriver;
  cleanup(): Promise<void>;
  /** A second driver over the same bytes, as another instance or a restarted one would open it. */
  reopen?(): Promise<StorageDriver>;
}

interface Blob {
  readonly key: string;
  readonly bytes: Uint8Array;
}

const mebibyte = 1024 * 1024;

/** The blob with these bytes. */
export function blobOf(bytes: Uint8Array): Blob {
  const hex = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  return { key: blobKey(parseDigest(`sha256:${hex}`)), bytes };
}

/** Pushes `bytes` in one request, without the commit. */
export async function fillUpload(
  driver: StorageDriver,
  bytes: Uint8Array,
  chunkSize: () => number = () => 64 * 1024,
): Promise<{ id: string; state: string }> {
  const id = crypto.randomUUID();
  const state = await appendTo(driver, id, await driver.createUpload(id), 0, bytes, chunkSize);
  return { id, state };
}

/** Continues an upload with `bytes` and gives its new state; aborts the writer when that fails. */
export async function appendTo(
  driver: StorageDriver,
  id: string,
  state: string,
  offsetBytes: number,
  bytes: Uint8Array,
  chunkSize: () => number = () => 64 * 1024,
  lastKey?: string,
): Promise<string> {
  const writer = await driver.openUpload(id, state, offsetBytes, lastKey);
  try {
    for (let at = 0; at < bytes.byteLength; ) {
      const chunk = bytes.slice(at, at + chunkSize());
      at += chunk.byteLength;
      await writer.write(chunk);
      // The writer had its chance to copy: what it kept without copying would now be wrong.
      chunk.fill(0xee);
    }
    return await writer.flush();
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

export async function storeBlob(driver: StorageDriver, blob: Blob, chunkSize?: () => number): Promise<void> {
  const { id, state } = await fillUpload(driver, blob.bytes, chunkSize);
  await driver.commitUpload(id, state, blob.key, blob.bytes.byteLength);
}

/** Reads an object the way a client is served; `range` is inclusive. */
export async function readSource(source: ObjectSource, range?: { start: number; end: number }): Promise<Uint8Array> {
  if (source.kind === "file") {
    const file = Bun.file(source.path);
    return range ? file.slice(range.start, range.end + 1).bytes() : file.bytes();
  }
  return new Response(await source.open(range)).bytes();
}

export async function expectStored(driver: StorageDriver, blob: Blob): Promise<void> {
  expect(await driver.find(blob.key)).toEqual({ sizeBytes: blob.bytes.byteLength });
  const source = await driver.source(blob.key);
  if (!source) throw new Error(`"${blob.key}" has no source`);
  expect(source.sizeBytes).toBe(blob.bytes.byteLength);
  expect(blobOf(await readSource(source)).key).toBe(blob.key);
}

export async function expectAbsent(driver: StorageDriver, key: string): Promise<void> {
  expect(await driver.find(key)).toBeUndefined();
  expect(await driver.source(key)).toBeUndefined();
}

/**
 * Declares the suite. `open` is called once, before the first case; cases do not see each other's keys. A store that differs
 * from one that passes all of it in its credentials alone repeats what is not about keys, ids and offsets.
 */
export function storageContract(name: string, open: () => Promise<OpenedStore>, differs?: "credentials"): void {
  describe(`storage contract: ${name}`, () => {
    let opened: OpenedStore;
    let driver: StorageDriver;
    const random = makeRandom(`storage contract of ${name}`);

    beforeAll(async () => {
      opened = await open();
      driver = opened.driver;
    });
    afterAll(() => opened.cleanup());

    const another = () => opened.reopen?.() ?? Promise.resolve(driver);
    const randomBlob = (sizeBytes: number) => blobOf(random.bytes(sizeBytes));

    describe("storing", () => storingCases(() => driver, random));
    if (differs === undefined || isThorough) {
      describe("resuming", () => resumingCases(() => driver, another, random));
      describe("last bytes", () => lastBytesCases(() => driver, another, random));
      describe("refusing", () => refusingCases(() => driver, random));
    }

    test("delete removes an object, and removing it again is no error", async () => {
      const blob = randomBlob(1000);
      await storeBlob(driver, blob);
      await driver.delete(blob.key);
      await expectAbsent(driver, blob.key);
      await driver.delete(blob.key);
      await storeBlob(driver, blob);
      await expectStored(driver, blob);
    });

    test("a named file is stored beside the blobs, replaced by other bytes and removed", async () => {
      const key = fileKey("archive/2024/", "1-5000-logs.txt.gz");
      expect(key).toBe("archive/2024/1-5000-logs.txt.gz");
      await expectAbsent(driver, key);
      for (const sizeBytes of [70_000, 3, 5 * mebibyte + 1]) {
        const bytes = random.bytes(sizeBytes);
        await storeBlob(driver, { key, bytes });
        const source = await driver.source(key);
        if (!source) throw new Error("the file has no source");
        expect(source.sizeBytes).toBe(sizeBytes);
        expect(Buffer.compare(await readSource(source), bytes)).toBe(0);
      }
      await driver.delete(key);
      await driver.delete(key);
      await expectAbsent(driver, key);
    });

    test("a source gives the middle of an object", async () => {
      const blob = randomBlob(300_000);
      await storeBlob(driver, blob);
      const ranges: [number, number][] = [
        [0, 0],
        [1, 1],
        [65_535, 65_536],
        [100_000, 299_999],
        [299_999, 299_999],
      ];
      for (const [start, end] of ranges) {
        const source = await driver.source(blob.key);
        if (!source) throw new Error("the object has no source");
        const bytes = await readSource(source, { start, end });
        expect(Buffer.compare(bytes, blob.bytes.subarray(start, end + 1))).toBe(0);
      }
    });

    test("check passes on a store that works, also many times at once", async () => {
      await Promise.all(Array.from({ length: 20 }, () => driver.check()));
    });

    test("what nobody finished is cleaned away by its age, and blobs stay", async () => {
      const blob = randomBlob(50_000);
      await storeBlob(driver, blob);
      const left = await fillUpload(driver, random.bytes(300_000));
      const dayMs = 24 * 60 * 60_000;
      expect(await driver.cleanUploads(Date.now() - dayMs, 100)).toBe(0);
      const kept = await new Response(await driver.readUpload(left.id, left.state, 300_000)).bytes();
      expect(kept.byteLength).toBe(300_000);
      // As an instance sees it that did not make them.
      const cleaner = await another();
      let removed = 0;
      for (let step = 1; step > 0; removed += step) step = await cleaner.cleanUploads(Date.now() + dayMs, 1);
      expect(removed).toBeGreaterThan(0);
      await expect(cleaner.commitUpload(left.id, left.state, randomBlob(1).key, 300_000)).rejects.toMatchObject({
        code: "blob_upload_unknown",
      });
      await expectStored(driver, blob);
    });

    test("space is undefined or sensible", async () => {
      const space = await driver.space();
      if (!space) return;
      expect(space.totalBytes).toBeGreaterThan(0);
      expect(space.freeBytes).toBeGreaterThanOrEqual(0);
      expect(space.freeBytes).toBeLessThanOrEqual(space.totalBytes);
    });
  });
}

function storingCases(driver: () => StorageDriver, random: Random): void {
  const cases: [string, number, () => number][] = [
    ["one byte", 1, () => 1],
    ["a chunk as the server delivers it", 65_536, () => 65_536],
    ["5 MiB and one byte", 5 * mebibyte + 1, () => 65_536],
    ["5 MiB and one byte in one chunk", 5 * mebibyte + 1, () => 6 * mebibyte],
    ["20,000 chunks of 7 bytes", 140_000, () => 7],
    ["17 MiB, longer than three parts of an object store", 17 * mebibyte, () => 262_144],
    ["chunks of odd sizes", 3 * mebibyte + 12_345, () => random.integer(1, 90_000)],
    ["chunks of very odd sizes", 9 * mebibyte, () => random.integer(1, random.integer(1, 2) === 1 ? 50 : 2_000_000)],
  ];
  test.each(cases)("%s is stored and read back", async (_name, sizeBytes, chunkSize) => {
    const blob = blobOf(random.bytes(sizeBytes));
    await storeBlob(driver(), blob, chunkSize);
    await expectStored(driver(), blob);
  });

  test("an empty object is stored, whether or not a writer was opened", async () => {
    const blob = blobOf(new Uint8Array(0));
    await storeBlob(driver(), blob);
    await expectStored(driver(), blob);
    await driver().delete(blob.key);
    const id = crypto.randomUUID();
    await driver().commitUpload(id, await driver().createUpload(id), blob.key, 0);
    await expectStored(driver(), blob);
  });

  test("an empty chunk changes nothing", async () => {
    const blob = blobOf(random.bytes(10));
    const id = crypto.randomUUID();
    const writer = await driver().openUpload(id, await driver().createUpload(id), 0);
    await writer.write(new Uint8Array(0));
    await writer.write(blob.bytes);
    await writer.write(new Uint8Array(0));
    await driver().commitUpload(id, await writer.flush(), blob.key, 10);
    await expectStored(driver(), blob);
  });

  test("an object is not there before its commit, and its upload is gone after it", async () => {
    const blob = blobOf(random.bytes(1000));
    const { id, state } = await fillUpload(driver(), blob.bytes);
    await expectAbsent(driver(), blob.key);
    await driver().commitUpload(id, state, blob.key, 1000);
    await expectStored(driver(), blob);
    await expectRefused(driver().openUpload(id, state, 1000), "blob_upload_unknown");
    await expectRefused(driver().readUpload(id, state, 1000), "blob_upload_unknown");
    // That the object exists does not make a second commit of the upload right.
    await expectRefused(driver().commitUpload(id, state, blob.key, 1000), "blob_upload_unknown");
    await expectStored(driver(), blob);
  });

  test("eight commits of one key at once all succeed", async () => {
    const blob = blobOf(random.bytes(200_000));
    const uploads = await Promise.all(Array.from({ length: 8 }, () => fillUpload(driver(), blob.bytes)));
    await Promise.all(uploads.map(({ id, state }) => driver().commitUpload(id, state, blob.key, 200_000)));
    await expectStored(driver(), blob);
  });

  test("an object that is there is replaced while a reader has it", async () => {
    const blob = blobOf(random.bytes(500_000));
    await storeBlob(driver(), blob);
    const source = await driver().source(blob.key);
    await storeBlob(driver(), blob);
    if (!source) throw new Error("the object has no source");
    expect(blobOf(await readSource(source)).key).toBe(blob.key);
    await expectStored(driver(), blob);
  });

  test("sixteen uploads at once do not mix", async () => {
    const blobs = Array.from({ length: 16 }, () => blobOf(random.bytes(random.integer(1, 700_000))));
    await Promise.all(blobs.map((blob) => storeBlob(driver(), blob, () => random.integer(1, 40_000))));
    for (const blob of blobs) await expectStored(driver(), blob);
  });

  test("a sha512 key works as well", async () => {
    const bytes = random.bytes(1234);
    const hex = new Bun.CryptoHasher("sha512").update(bytes).digest("hex");
    const key = blobKey(parseDigest(`sha512:${hex}`));
    await storeBlob(driver(), { key, bytes });
    expect(await driver().find(key)).toEqual({ sizeBytes: 1234 });
  });
}

function resumingCases(driver: () => StorageDriver, another: () => Promise<StorageDriver>, random: Random): void {
  test("an upload is continued by another instance, request by request", async () => {
    const blob = blobOf(random.bytes(6 * mebibyte + 77));
    const id = crypto.randomUUID();
    let state = await driver().createUpload(id);
    for (let at = 0; at < blob.bytes.byteLength; ) {
      const part = blob.bytes.subarray(at, at + random.integer(1, 2 * mebibyte));
      state = await appendTo(await another(), id, state, at, part, () => random.integer(1, 100_000));
      at += part.byteLength;
    }
    const last = await another();
    const stored = await new Response(await last.readUpload(id, state, blob.bytes.byteLength)).bytes();
    expect(blobOf(stored).key).toBe(blob.key);
    await last.commitUpload(id, state, blob.key, blob.bytes.byteLength);
    await expectStored(driver(), blob);
  });

  test("an upload is read back in part, and reading may stop early", async () => {
    const bytes = random.bytes(3 * mebibyte);
    const { id, state } = await fillUpload(driver(), bytes);
    for (const sizeBytes of [0, 1, 70_000, 3 * mebibyte]) {
      const read = await new Response(await driver().readUpload(id, state, sizeBytes)).bytes();
      expect(Buffer.compare(read, bytes.subarray(0, sizeBytes))).toBe(0);
    }
    const reader = (await driver().readUpload(id, state, 3 * mebibyte)).getReader();
    await reader.read();
    await reader.cancel();
    await driver().deleteUpload(id, state);
  });

  test("abort goes back to the last flushed offset", async () => {
    const blob = blobOf(random.bytes(900_000));
    const first = await fillUpload(driver(), blob.bytes.subarray(0, 400_000));
    const writer = await driver().openUpload(first.id, first.state, 400_000);
    await writer.write(random.bytes(800_000));
    await writer.abort();
    await writer.abort();
    const state = await appendTo(driver(), first.id, first.state, 400_000, blob.bytes.subarray(400_000));
    await driver().commitUpload(first.id, state, blob.key, 900_000);
    await expectStored(driver(), blob);
  });

  test("abort after a flush keeps what was flushed", async () => {
    const blob = blobOf(random.bytes(100_000));
    const id = crypto.randomUUID();
    const writer = await driver().openUpload(id, await driver().createUpload(id), 0);
    await writer.write(blob.bytes);
    const state = await writer.flush();
    await writer.abort();
    await driver().commitUpload(id, state, blob.key, 100_000);
    await expectStored(driver(), blob);
  });

  test("bytes past the offset, left by an instance that died, are dropped", async () => {
    const blob = blobOf(random.bytes(600_000));
    const first = await fillUpload(driver(), blob.bytes.subarray(0, 250_000));
    // This flush was never recorded: the row still has the state and the offset of the first request.
    await appendTo(await another(), first.id, first.state, 250_000, random.bytes(500_000));
    const state = await appendTo(driver(), first.id, first.state, 250_000, blob.bytes.subarray(250_000));
    await driver().commitUpload(first.id, state, blob.key, 600_000);
    await expectStored(driver(), blob);
  });

  test("bytes past the offset are dropped by a commit as well", async () => {
    const blob = blobOf(random.bytes(250_000));
    const first = await fillUpload(driver(), blob.bytes);
    await appendTo(await another(), first.id, first.state, 250_000, random.bytes(500_000));
    await driver().commitUpload(first.id, first.state, blob.key, 250_000);
    await expectStored(driver(), blob);
  });

  test("an upload deleted in the middle of a write leaves nothing", async () => {
    const id = crypto.randomUUID();
    const state = await driver().createUpload(id);
    const writer = await driver().openUpload(id, state, 0);
    await writer.write(random.bytes(mebibyte));
    await driver().deleteUpload(id, state);
    await driver().deleteUpload(id, state);
    try {
      await writer.write(random.bytes(mebibyte));
      await writer.flush();
    } catch (error) {
      expect(error).toMatchObject({ name: "RegistryError" });
      await writer.abort();
    }
    const empty = blobOf(new Uint8Array(0));
    await driver().delete(empty.key);
    await expectRefused(driver().commitUpload(id, state, empty.key, 0), "blob_upload_unknown");
    await expectRefused(driver().openUpload(id, state, 0), "blob_upload_unknown");
    await expectAbsent(driver(), empty.key);
  });
}

function lastBytesCases(driver: () => StorageDriver, another: () => Promise<StorageDriver>, random: Random): void {
  const chunkSize = () => 256 * 1024;
  const sizes = [0, 1, 300_000, 9 * mebibyte + 5];

  for (const before of [0, 200_000, 6 * mebibyte]) {
    test(`after ${before} bytes become the object with the commit`, async () => {
      for (const last of sizes) {
        const blob = blobOf(random.bytes(before + last));
        const id = crypto.randomUUID();
        let state = await driver().createUpload(id);
        if (before > 0) state = await appendTo(await another(), id, state, 0, blob.bytes.slice(0, before), chunkSize);
        const flushed = await appendTo(driver(), id, state, before, blob.bytes.slice(before), chunkSize, blob.key);
        await expectAbsent(driver(), blob.key);
        await driver().commitUpload(id, flushed, blob.key, before + last);
        await expectStored(driver(), blob);
        await expect(driver().commitUpload(id, flushed, blob.key, before + last)).rejects.toMatchObject({
          code: "blob_upload_unknown",
        });
      }
    });

    test(`after ${before} bytes that are not committed can be sent again, from the state before`, async () => {
      for (const last of sizes) {
        const blob = blobOf(random.bytes(before + last));
        const id = crypto.randomUUID();
        let state = await driver().createUpload(id);
        if (before > 0) state = await appendTo(driver(), id, state, 0, blob.bytes.slice(0, before), chunkSize);
        await appendTo(driver(), id, state, before, random.bytes(last + 1000), chunkSize, blob.key);
        const again = await appendTo(driver(), id, state, before, blob.bytes.slice(before), chunkSize, blob.key);
        await driver().commitUpload(id, again, blob.key, before + last);
        await expectStored(driver(), blob);
      }
    });
  }

  test("are gone with the upload when their digest does not hold", async () => {
    for (const last of sizes) {
      // Not so short that another test has stored the same.
      const blob = blobOf(random.bytes(last + 40));
      const id = crypto.randomUUID();
      const created = await driver().createUpload(id);
      const state = await appendTo(driver(), id, created, 0, blob.bytes.slice(), chunkSize, blob.key);
      await driver().deleteUpload(id, state);
      await expectAbsent(driver(), blob.key);
      await expect(driver().commitUpload(id, state, blob.key, last + 40)).rejects.toMatchObject({
        code: "blob_upload_unknown",
      });
    }
  });

  test("that are cut off leave the upload as it was", async () => {
    const blob = blobOf(random.bytes(400_000));
    const first = await fillUpload(driver(), blob.bytes.slice(0, 100_000));
    const writer = await driver().openUpload(first.id, first.state, 100_000, blob.key);
    await writer.write(random.bytes(9 * mebibyte));
    await writer.abort();
    await expectAbsent(driver(), blob.key);
    const state = await appendTo(await another(), first.id, first.state, 100_000, blob.bytes.slice(100_000));
    await (await another()).commitUpload(first.id, state, blob.key, 400_000);
    await expectStored(driver(), blob);
  });
}

function refusingCases(driver: () => StorageDriver, random: Random): void {
  test("what was never stored has neither size nor source", async () => {
    await expectAbsent(driver(), blobOf(random.bytes(32)).key);
  });

  test("an upload that was never started is unknown to every call but deleteUpload", async () => {
    const known = crypto.randomUUID();
    const state = await driver().createUpload(known);
    const id = crypto.randomUUID();
    const empty = blobOf(new Uint8Array(0));
    await driver().deleteUpload(known, state);
    await driver().deleteUpload(id, state);
    await expectRefused(driver().openUpload(id, state, 0), "blob_upload_unknown");
    await expectRefused(driver().readUpload(id, state, 0), "blob_upload_unknown");
    await expectRefused(driver().commitUpload(id, state, empty.key, 0), "blob_upload_unknown");
  });

  test("an offset past what is stored makes the upload unknown", async () => {
    const { id, state } = await fillUpload(driver(), random.bytes(1000));
    await expectRefused(driver().openUpload(id, state, 1001), "blob_upload_unknown");
    await expectRefused(driver().readUpload(id, state, 1001), "blob_upload_unknown");
    await driver().deleteUpload(id, state);
  });

  test("a commit with the wrong size stores nothing and leaves the upload as it was", async () => {
    const blob = blobOf(random.bytes(70_000));
    const { id, state } = await fillUpload(driver(), blob.bytes);
    for (const sizeBytes of [0, 1, 69_999, 70_001, 700_000]) {
      await expectRefused(driver().commitUpload(id, state, blob.key, sizeBytes), "size_invalid");
      await expectAbsent(driver(), blob.key);
    }
    await driver().commitUpload(id, state, blob.key, 70_000);
    await expectStored(driver(), blob);
  });

  const hex = "ab".repeat(32);
  const hostileKeys = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../sha256/ab/abc",
    `sha256/ab/../ab/${hex}`,
    `sha256/../sha256/ab/${hex}`,
    `sha256//ab/${hex}`,
    `sha256/ab/${hex}/`,
    `sha256/ab/${hex}\n`,
    `sha256/ab/${hex}\0`,
    `sha256/ab/${hex.slice(1)}`,
    `sha256/ab/${hex}ab`,
    `sha256/cd/${hex}`,
    `sha256/AB/${hex.toUpperCase()}`,
    `sha512/ab/${hex}`,
    `md5/ab/${hex}`,
    `SHA256/ab/${hex}`,
    `sha256\\ab\\${hex}`,
    `sha256/%2e%2e/${hex}`,
    `uploads/${crypto.randomUUID()}`,
    `x${"a".repeat(5000)}`,
    "file-without-folder",
    "archive/../x",
    "archive/..",
    "archive//x",
    "/archive/x",
    "archive/x/",
    "archive/x\0y",
    "archive/x y",
    "Uploads/x",
    `archive/${"a".repeat(200)}`,
  ];
  test.each(hostileKeys.map((key) => [JSON.stringify(key).slice(0, 60), key]))(
    "the key %s is refused",
    async (_, key) => {
      const { id, state } = await fillUpload(driver(), random.bytes(10));
      await expectRefused(driver().find(key), "invalid_request");
      await expectRefused(driver().source(key), "invalid_request");
      await expectRefused(driver().delete(key), "invalid_request");
      await expectRefused(driver().commitUpload(id, state, key, 10), "invalid_request");
      await driver().deleteUpload(id, state);
    },
  );

  const uuid = "01234567-89ab-4cde-8f01-23456789abcd";
  const hostileIds = [
    "",
    ".",
    "..",
    "../x",
    `../uploads/${uuid}`,
    `${uuid}/`,
    `${uuid}\0`,
    `${uuid}\n`,
    uuid.toUpperCase(),
  ];
  test.each(hostileIds.map((id) => [JSON.stringify(id), id]))("the upload id %s is refused", async (_, id) => {
    const own = crypto.randomUUID();
    const state = await driver().createUpload(own);
    const empty = blobOf(new Uint8Array(0));
    await expectRefused(driver().createUpload(id), "blob_upload_unknown");
    await expectRefused(driver().openUpload(id, state, 0), "blob_upload_unknown");
    await expectRefused(driver().readUpload(id, state, 0), "blob_upload_unknown");
    await expectRefused(driver().commitUpload(id, state, empty.key, 0), "blob_upload_unknown");
    await expectRefused(driver().deleteUpload(id, state), "blob_upload_unknown");
    await driver().deleteUpload(own, state);
  });
}

/** Holds a call to failing with one code. A plain message of a foreign error would reach clients as 500. */
export async function expectRefused(call: Promise<unknown>, code: string): Promise<void> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ name: "RegistryError", code });
}
