/**
 * The S3 blob store when something fails: a server that throttles, connections that break before, in and after each request,
 * and answers that lie. What a process leaves that dies is in s3-dying.test.ts.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { RegistryError } from "../../src/errors.ts";
import type { StorageDriver } from "../../src/storage/driver.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { blobOf, expectAbsent, expectStored, fillUpload, readSource } from "./contract.ts";
import { makeRandom } from "./random.ts";
import { Between, type Fate, type Operation, type Seen } from "./s3-between.ts";
import { expectClean, failureOf, isWrite, later, once, pushAt, pushLast, shortParts, ways } from "./s3-pushes.ts";
import { type Bucket, makeBucket } from "./s3-store.ts";

setDefaultTimeout(300_000);
const mebibyte = 1024 * 1024;
let server: S3Server;
let between: Between;
let bucket: Bucket;

beforeAll(async () => {
  server = await startS3();
  between = await Between.start(server);
});
afterAll(async () => {
  between?.stop();
  await server?.stop();
});
beforeEach(async () => {
  between.reset();
  bucket = await makeBucket(server, between.server);
});

/** Holds a call to failing with one code. */
async function expectFailure(call: Promise<unknown>, code: string): Promise<RegistryError> {
  const failure = await failureOf(call);
  expect(failure).toBeInstanceOf(RegistryError);
  expect(failure).toMatchObject({ code });
  return failure as RegistryError;
}

describe("a server in trouble", () => {
  const random = makeRandom("S3 in trouble");
  const blobs = new Map(ways.map(([name, way]) => [name, blobOf(random.bytes(way.sizeBytes))]));

  const passing: [string, Fate][] = [
    ["503 SlowDown", { status: 503, code: "SlowDown" }],
    ["503 without a word, from a balancer", { status: 503 }],
    ["500 InternalError", { status: 500, code: "InternalError" }],
    ["429", { status: 429 }],
    ["400 RequestTimeout", { status: 400, code: "RequestTimeout" }],
    ["a reset before a byte is taken", "lost"],
    ["a reset in the middle of the request", "torn"],
    ["an answer that is lost", "unanswered"],
  ];
  test.each(passing)("%s at the first try of every request: the blob is stored whole", async (_name, fate) => {
    for (const [name, way] of ways) {
      const blob = blobs.get(name) ?? blobOf(new Uint8Array());
      const tried = new Set<string>();
      between.decide = ({ method, url }) => {
        const line = `${method} ${url}`;
        if (tried.has(line)) return "pass";
        tried.add(line);
        return fate;
      };
      await way.push(bucket.open(shortParts), blob, () => {});
      between.reset();
      expect(await expectClean(bucket, blob)).toBe(true);
      await bucket.open().delete(blob.key);
    }
  });

  test("one that stays busy is asked five times and then told of", async () => {
    between.decide = (request) => (isWrite(request) ? { status: 503, code: "SlowDown" } : "pass");
    const blob = blobOf(random.bytes(1000));
    const failure = await expectFailure(
      pushAt(bucket.open(), blob, [], () => {}),
      "unavailable",
    );
    expect(failure.message).toContain("503 SlowDown");
    expect(between.of("PutObject")).toHaveLength(5);
    between.reset();
    expect(await expectClean(bucket, blob)).toBe(false);
  });

  test("what it asks to wait is waited", async () => {
    let isFirst = true;
    let tookMs = performance.now();
    between.decide = (request) => {
      if (!isWrite(request) || !isFirst) return "pass";
      isFirst = false;
      tookMs = performance.now();
      return { status: 503, code: "SlowDown", headers: { "retry-after": "1" } };
    };
    const blob = blobOf(random.bytes(1000));
    await pushLast(bucket.open(), blob, () => {});
    expect(performance.now() - tookMs).toBeGreaterThanOrEqual(1000);
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("one that never answers is given up after half a minute, and asked again", async () => {
    let isFirst = true;
    between.decide = (request) => {
      if (!isWrite(request) || !isFirst) return "pass";
      isFirst = false;
      return "silent";
    };
    const blob = blobOf(random.bytes(1000));
    await pushLast(bucket.open(), blob, () => {});
    expect(between.of("PutObject")).toHaveLength(2);
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("a full store is told as such, and is no reason to call it away", async () => {
    between.decide = (request) => (isWrite(request) ? { status: 403, code: "QuotaExceeded" } : "pass");
    const driver = bucket.open();
    await expectFailure(
      pushLast(driver, blobOf(random.bytes(1000)), () => {}),
      "storage_full",
    );
    expect(between.of("PutObject")).toHaveLength(1);
    await driver.check();
  });

  test("a clock that is an hour away is noticed, by a check too, and the server's own is used", async () => {
    for (const awayMs of [-3_600_000, 3_600_000]) {
      const clock = { nowMs: () => Date.now() + awayMs };
      await bucket.open({}, { clock }).check();
      const driver = bucket.open({}, { clock });
      const blob = blobOf(random.bytes(1000));
      await pushLast(driver, blob, () => {});
      await expectStored(driver, blob);
      const url = await driver.clientUrl?.(blob.key, { method: "GET" });
      expect((await fetch(url ?? "")).status).toBe(200);
    }
  });
});

describe("a Complete", () => {
  const random = makeRandom("S3's Complete");
  const blob = blobOf(random.bytes(12 * mebibyte));
  /** Lets these fates come over the tries of Complete, one after the other. */
  const fates = (...each: Fate[]) => {
    between.decide = ({ operation }) => (operation === "CompleteMultipartUpload" ? (each.shift() ?? "pass") : "pass");
  };

  test("whose answer is lost is found to have been done", async () => {
    fates("unanswered");
    await pushLast(bucket.open(shortParts), blob, () => {});
    expect(between.of("CompleteMultipartUpload")).toHaveLength(2);
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("whose answer ends in the middle is asked again", async () => {
    fates({ cutAfter: 60 });
    await pushLast(bucket.open(shortParts), blob, () => {});
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("that says 200 and means an error that passes is asked again", async () => {
    fates({ status: 200, code: "InternalError" }, { status: 200, code: "SlowDown" });
    await pushLast(bucket.open(shortParts), blob, () => {});
    expect(between.of("CompleteMultipartUpload")).toHaveLength(3);
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("that says 200 and means no stores nothing", async () => {
    const each: Fate[] = [
      { status: 200, code: "InvalidPart" },
      { status: 400, code: "InvalidPart" },
    ];
    for (const fate of each) {
      fates(fate);
      const driver = bucket.open(shortParts);
      await expectFailure(
        pushLast(driver, blob, () => {}),
        "unavailable",
      );
      await expectAbsent(driver, blob.key);
      expect(await expectClean(bucket, blob)).toBe(false);
    }
  });

  test("that never succeeds leaves nothing that can be seen, and the next try stores the blob", async () => {
    fates(...Array<Fate>(5).fill({ status: 200, code: "InternalError" }));
    const driver = bucket.open(shortParts);
    await expectFailure(
      pushLast(driver, blob, () => {}),
      "unavailable",
    );
    await expectAbsent(driver, blob.key);
    await pushLast(driver, blob, () => {});
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("of an upload that somebody else dropped is no success, whatever is under the key", async () => {
    const driver = bucket.open(shortParts);
    fates({ status: 404, code: "NoSuchUpload" });
    await expectFailure(
      pushLast(driver, blob, () => {}),
      "unavailable",
    );
    await expectAbsent(driver, blob.key);
  });
});

describe("a copy", () => {
  const random = makeRandom("S3's copies");
  const kinds: Operation[] = ["CopyObject", "UploadPartCopy"];

  test.each(kinds)("%s that says 200 and means an error is made again", async (kind) => {
    const blob = blobOf(random.bytes(12 * mebibyte));
    let left = 2;
    between.decide = ({ operation }) =>
      operation === kind && left-- > 0 ? { status: 200, code: "InternalError" } : "pass";
    const bounds = kind === "CopyObject" ? {} : { copyBytesMax: 11 * mebibyte };
    await pushAt(bucket.open(shortParts, {}, bounds), blob, [], () => {});
    expect(left).toBeLessThan(0);
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test.each(kinds)("%s that the server does not have goes through us", async (kind) => {
    const blob = blobOf(random.bytes(12 * mebibyte));
    between.decide = ({ operation }) => (operation === kind ? { status: 501, code: "NotImplemented" } : "pass");
    const bounds = kind === "CopyObject" ? {} : { copyBytesMax: 11 * mebibyte };
    await pushAt(bucket.open(shortParts, {}, bounds), blob, [], () => {});
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("of an upload whose bytes are gone makes the upload unknown", async () => {
    const driver = bucket.open();
    const blob = blobOf(random.bytes(1000));
    const { id, state } = await fillUpload(driver, blob.bytes);
    while ((await bucket.open().cleanUploads(later(), 100)) > 0);
    await expectFailure(driver.commitUpload(id, state, blob.key, 1000), "blob_upload_unknown");
    await expectAbsent(driver, blob.key);
  });

  test("that failed can be tried again, here and elsewhere", async () => {
    for (const fate of ["lost", "unanswered"] as const) {
      const blob = blobOf(random.bytes(2 * mebibyte));
      const driver = bucket.open({}, {}, once);
      const { id, state } = await fillUpload(driver, blob.bytes);
      between.decide = ({ operation }) => (operation === "CopyObject" ? fate : "pass");
      await expectFailure(driver.commitUpload(id, state, blob.key, blob.bytes.byteLength), "unavailable");
      between.reset();
      await bucket.open().commitUpload(id, state, blob.key, blob.bytes.byteLength);
      await expectStored(driver, blob);
      await driver.delete(blob.key);
    }
    expect(await bucket.keys()).toEqual([]);
  });
});

describe("a read", () => {
  const random = makeRandom("S3's reads");
  const blob = blobOf(random.bytes(5 * mebibyte + 77));
  const stored = async () => {
    const driver = bucket.open();
    await pushLast(driver, blob, () => {});
    between.reset();
    return driver;
  };
  const sourceOf = async (driver: StorageDriver) => {
    const source = await driver.source(blob.key, blob.bytes.byteLength);
    if (!source) throw new Error("the blob has no source");
    return source;
  };

  test("whose connection breaks goes on where it broke", async () => {
    const driver = await stored();
    let reads = 0;
    between.decide = ({ method }) => (method === "GET" && ++reads <= 3 ? { cutAfter: 1_000_000 } : "pass");
    expect(blobOf(await readSource(await sourceOf(driver))).key).toBe(blob.key);
    const ranges = between.of("GetObject").map(({ headers }) => String(headers.range));
    expect(ranges).toHaveLength(4);
    const starts = ranges.map((range) => Number(/^bytes=(\d+)-5242956$/.exec(range)?.[1]));
    expect(starts[0]).toBe(0);
    // Never from the beginning again, and never past what came.
    for (const [index, start] of starts.slice(1).entries()) {
      expect(start).toBeGreaterThan(starts[index] ?? 0);
      expect(start).toBeLessThanOrEqual((index + 1) * 1_000_000);
    }
  });

  test("of a range whose connection breaks stays inside it", async () => {
    const driver = await stored();
    let reads = 0;
    between.decide = ({ method }) => (method === "GET" && ++reads <= 2 ? { cutAfter: 1000 } : "pass");
    const range = { start: 100_000, end: 199_999 };
    const bytes = await readSource(await sourceOf(driver), range);
    expect(Buffer.compare(bytes, blob.bytes.subarray(100_000, 200_000))).toBe(0);
  });

  test("that gets nothing fails, and does not just end", async () => {
    const driver = await stored();
    between.decide = ({ method }) => (method === "GET" ? { cutAfter: 0 } : "pass");
    const source = await sourceOf(driver);
    await expectFailure(readSource(source), "unavailable");
  });

  test("of what is not there is told before the first byte", async () => {
    const driver = bucket.open();
    await expectFailure(readSource(await sourceOf(driver)), "blob_unknown");
  });

  test("that is given up ends, and harms no other", async () => {
    const driver = await stored();
    const source = await sourceOf(driver);
    if (source.kind !== "stream") throw new Error("not a stream");
    const reader = (await source.open()).getReader();
    expect((await reader.read()).done).toBe(false);
    await reader.cancel();
    expect((await reader.read()).done).toBe(true);
    await expectStored(driver, blob);
  });
});

describe("the requests of a push", () => {
  const random = makeRandom("requests to S3");

  test("parts are equally long but for the last", async () => {
    const blob = blobOf(random.bytes(23 * mebibyte + 1));
    await pushLast(bucket.open(shortParts), blob, () => {});
    const sizes = between.of("UploadPart").map(({ sizeBytes, url }) => [partOf(url), sizeBytes] as const);
    sizes.sort(([a], [b]) => a - b);
    expect(sizes.map(([, sizeBytes]) => sizeBytes)).toEqual([...Array(4).fill(5 * mebibyte), 3 * mebibyte + 1]);
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("parts are so long that the largest layer has no more than 10,000", async () => {
    const layerBytesMax = 100 * 1024 ** 3;
    const blob = blobOf(random.bytes(30 * mebibyte));
    await pushLast(bucket.open({}, { layerBytesMax }), blob, () => {});
    const [first, second] = between.of("UploadPart").map(({ sizeBytes }) => sizeBytes);
    expect(first).toBe(second);
    expect((first ?? 0) * 10_000).toBeGreaterThan(layerBytesMax);
    expect(first).toBeLessThan(16 * mebibyte);
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("no copy is longer than one may be, and all together are the blob", async () => {
    const copyBytesMax = 11 * mebibyte;
    const blob = blobOf(random.bytes(33 * mebibyte + 5));
    await pushAt(bucket.open(shortParts, {}, { copyBytesMax }), blob, [14 * mebibyte, 20 * mebibyte], () => {});
    expect(between.of("CopyObject")).toEqual([]);
    const lengths = between.of("UploadPartCopy").map(({ headers }) => {
      const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(String(headers["x-amz-copy-source-range"])) ?? [];
      return Number(end) - Number(start) + 1;
    });
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(blob.bytes.byteLength);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(copyBytesMax);
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("at Google's store no range is copied: one segment as a whole, more of them through us", async () => {
    const one = blobOf(random.bytes(12 * mebibyte));
    await pushAt(bucket.openGoogle(shortParts), one, [], () => {});
    expect(between.of("CopyObject")).toHaveLength(1);
    expect(await expectClean(bucket, one)).toBe(true);
    await bucket.open().delete(one.key);
    between.reset();
    const two = blobOf(random.bytes(13 * mebibyte));
    await pushAt(bucket.openGoogle(shortParts), two, [7 * mebibyte], () => {});
    expect(between.of("CopyObject", "UploadPartCopy")).toEqual([]);
    expect(await expectClean(bucket, two)).toBe(true);
  });

  test("bytes are hashed for the signature where no TLS protects them", async () => {
    const blob = blobOf(random.bytes(12 * mebibyte));
    await pushLast(bucket.open(shortParts), blob, () => {});
    for (const { headers } of between.of("UploadPart")) {
      expect(headers["x-amz-content-sha256"]).toMatch(/^[0-9a-f]{64}$/);
    }
    expect(await expectClean(bucket, blob)).toBe(true);
  });

  test("each that makes an object says how it is encrypted, and no other does", async () => {
    const headersOf = ({ headers }: Seen) => headers["x-amz-server-side-encryption"];
    const makers = ["PutObject", "CreateMultipartUpload", "CopyObject"] as const;
    const pushAll = async (driver: StorageDriver) => {
      for (const [, way] of ways) await way.push(driver, blobOf(random.bytes(way.sizeBytes)), () => {});
    };
    await pushAll(bucket.open({ ...shortParts, server_side_encryption: "AES256" }));
    for (const maker of makers) {
      const made = between.of(maker).map(headersOf);
      expect(made.length).toBeGreaterThan(0);
      expect(new Set(made)).toEqual(new Set(["AES256"]));
    }
    expect(between.of("UploadPart", "UploadPartCopy", "CompleteMultipartUpload").map(headersOf)).not.toContain(
      "AES256",
    );
    between.reset();
    await pushAll(bucket.open(shortParts));
    expect(between.seen.map(headersOf)).not.toContain("AES256");
  });
});

function partOf(url: string): number {
  return Number(new URL(url, "http://server").searchParams.get("partNumber"));
}
