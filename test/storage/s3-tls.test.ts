/** The S3 blob store over TLS, with a certificate of the operator's own authority, which the system does not know. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { createAuthorities } from "../../src/lib/authorities.ts";
import { runProcess } from "../support/process.ts";
import { type S3Server, s3At, startOwnS3 } from "../support/s3.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { requireTool } from "../support/tools.ts";
import { blobOf, expectStored, readSource, storeBlob } from "./contract.ts";
import { makeRandom } from "./random.ts";
import { failureOf, pushLast } from "./s3-pushes.ts";
import { type Bucket, makeBucket } from "./s3-store.ts";

setDefaultTimeout(120_000);
const mebibyte = 1024 * 1024;
const random = makeRandom("S3 over TLS");
const dir = makeTempDir("s3-tls");
const certFile = join(dir.path, "s3.crt");
const keyFile = join(dir.path, "s3.key");

let secure: S3Server;
let bucket: Bucket;
/** As boot makes them of the files in extra_ca_certs. */
const trusted = { authorities: createAuthorities([certFile]) };

beforeAll(async () => {
  await runProcess({
    command: requireTool("openssl"),
    args: [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
      ...["-subj", "/CN=s3.example", "-addext", "subjectAltName=DNS:localhost,DNS:*.localhost"],
      ...["-keyout", keyFile, "-out", certFile],
    ],
  });
  // The bucket is made before: what makes it trusts no authority of ours.
  const dataDir = join(dir.path, "buckets");
  const open = await startOwnS3("versitygw", { dataDir });
  const name = await open.createBucket();
  await open.stop();
  secure = await startOwnS3("versitygw", { dataDir, tls: { certFile, keyFile } });
  const named = s3At(secure, secure.endpoint.replace("127.0.0.1", "localhost"));
  bucket = await makeBucket({ ...named, createBucket: async () => name });
});
afterAll(async () => {
  await secure?.stop();
  dir.remove();
});

test("blobs are stored and read back, in one request and in parts", async () => {
  const driver = bucket.open({ part_size_mib: 5 }, trusted);
  await driver.check();
  for (const sizeBytes of [1000, 300_000, 12 * mebibyte]) {
    const blob = blobOf(random.bytes(sizeBytes));
    await pushLast(driver, blob, () => {});
    await expectStored(driver, blob);
    const again = blobOf(random.bytes(sizeBytes));
    await storeBlob(driver, again);
    await expectStored(driver, again);
    const source = await driver.source(again.key, sizeBytes);
    if (!source) throw new Error("the blob has no source");
    const middle = await readSource(source, { start: 100, end: 899 });
    expect(Buffer.compare(middle, again.bytes.subarray(100, 900))).toBe(0);
  }
});

test("clients are sent to an https address", async () => {
  const driver = bucket.open({}, trusted);
  const blob = blobOf(random.bytes(1000));
  await pushLast(driver, blob, () => {});
  const url = (await driver.clientUrl?.(blob.key, { method: "GET" })) ?? "";
  expect(url).toStartWith("https://localhost:");
  const response = await fetch(url, { tls: { ca: await Bun.file(certFile).text() } });
  expect(blobOf(await response.bytes()).key).toBe(blob.key);
});

test("a certificate that nobody vouches for, or of another name, is refused and named", async () => {
  const [stranger, address] = await Promise.all([
    failureOf(bucket.open().check()),
    failureOf(bucket.open({ host: "127.0.0.1" }, trusted).check()),
  ]);
  expect(stranger).toMatchObject({ code: "unavailable" });
  expect(String(stranger)).toContain("SELF_SIGNED_CERT");
  expect(address).toMatchObject({ code: "unavailable" });
  expect(String(address)).toContain("ERR_TLS_CERT_ALTNAME_INVALID");
});
