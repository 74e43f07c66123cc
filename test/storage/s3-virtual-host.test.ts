/** The S3 blob store where the bucket is named by the host and not by the path, as AWS wants it. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type S3Server, startOwnS3 } from "../support/s3.ts";
import { blobOf, expectAbsent, expectStored } from "./contract.ts";
import { makeRandom } from "./random.ts";
import { expectClean, later, pushAt, pushLast, shortParts } from "./s3-pushes.ts";
import { type Bucket, makeBucket } from "./s3-store.ts";

setDefaultTimeout(120_000);
const mebibyte = 1024 * 1024;
const byName = { ...shortParts, host: "localhost", addressing_style: "virtual" };

let server: S3Server;
let bucket: Bucket;
beforeAll(async () => {
  server = await startOwnS3("versitygw", { virtualDomain: "localhost" });
  bucket = await makeBucket(server);
});
afterAll(() => server?.stop());

test("blobs are stored, copied from their segments, read, listed and removed", async () => {
  const random = makeRandom("buckets by name");
  const driver = bucket.open(byName);
  await driver.check();
  for (const [sizeBytes, offsets] of [
    [1000, []],
    [17 * mebibyte, [11 * mebibyte]],
  ] as const) {
    const blob = blobOf(random.bytes(sizeBytes));
    await pushAt(driver, blob, offsets, () => {});
    await expectStored(driver, blob);
    expect(await expectClean(bucket, blob)).toBe(true);
    await driver.delete(blob.key);
    await expectAbsent(driver, blob.key);
  }
  const id = crypto.randomUUID();
  const writer = await driver.openUpload(id, await driver.createUpload(id), 0);
  await writer.write(random.bytes(1000));
  await writer.flush();
  expect(await driver.cleanUploads(later(), 10)).toBe(1);
  expect(await bucket.keys()).toEqual([]);
});

test("clients are sent to the bucket's own name", async () => {
  const driver = bucket.open(byName);
  const blob = blobOf(makeRandom("clients of a bucket by name").bytes(1000));
  await pushLast(driver, blob, () => {});
  const url = (await driver.clientUrl?.(blob.key, { method: "GET" })) ?? "";
  expect(url).toStartWith(`http://${bucket.name}.localhost:${server.port}/datastorage/`);
  expect(blobOf(await (await fetch(url)).bytes()).key).toBe(blob.key);
  const headUrl = (await driver.clientUrl?.(blob.key, { method: "HEAD" })) ?? "";
  const head = await fetch(headUrl, { method: "HEAD" });
  expect([head.status, head.headers.get("content-length")]).toEqual([200, "1000"]);
});
