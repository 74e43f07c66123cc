/**
 * The S3 blob store against real servers: the contract suite, then what only S3 can show. Needs versitygw (which Go brings)
 * and Debian's Ceph; a missing one fails and says so.
 */

import { afterAll, beforeAll, setDefaultTimeout } from "bun:test";
import { type S3Server, startS3 } from "../support/s3.ts";
import { storageContract } from "./contract.ts";
import { makeBucket } from "./s3-store.ts";

const startMs = 300_000;
setDefaultTimeout(120_000);

let versitygw: S3Server;
let ceph: S3Server;
beforeAll(async () => {
  [versitygw, ceph] = await Promise.all([startS3("versitygw"), startS3("ceph")]);
}, startMs);
afterAll(async () => {
  await versitygw?.stop();
  await ceph?.stop();
}, startMs);

// Google's own store cannot be had here: what its engine does otherwise is held to the same contract.
storageContract("S3 as Google has it, at versitygw", async () => {
  const bucket = await makeBucket(versitygw);
  return { driver: bucket.openGoogle(), reopen: async () => bucket.openGoogle(), cleanup: async () => {} };
});

for (const [name, server] of [
  ["versitygw", () => versitygw],
  ["Ceph", () => ceph],
] as const) {
  storageContract(`S3 at ${name}`, async () => {
    const bucket = await makeBucket(server());
    return { driver: bucket.open(), reopen: async () => bucket.open(), cleanup: async () => {} };
  });
}
