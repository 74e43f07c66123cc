/** A process that dies between any two requests of a push to S3, at each request in turn: all or nothing, and nothing half. */

import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { PartPool } from "../../src/storage/remote/part-pool.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { byTurns } from "../support/thorough.ts";
import { appendTo, blobOf, expectStored } from "./contract.ts";
import { makeRandom } from "./random.ts";
import { Between } from "./s3-between.ts";
import { expectClean, failureOf, isWrite, once, type Session, shortParts, ways } from "./s3-pushes.ts";
import { type Bucket, makeBucket } from "./s3-store.ts";

setDefaultTimeout(300_000);

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

describe.each(ways)("a process that dies during a push %s", (name, way) => {
  const random = makeRandom(`dying while pushing to S3 ${name}`);
  const blob = blobOf(random.bytes(way.sizeBytes));

  test.each(byTurns(["lost", "torn", "unanswered"]))(
    "leaves all or nothing, whichever request is the last (%s)",
    async (_name, fateAt) => {
      let survived = 0;
      let continued = 0;
      let isDone = false;
      let last = 0;
      for (; !isDone; last++) {
        let writes = 0;
        between.decide = (request) => {
          if (!isWrite(request)) return writes > last ? "lost" : "pass";
          writes++;
          return writes <= last ? "pass" : writes === last + 1 ? fateAt(last) : "lost";
        };
        let session: Session | undefined;
        const driver = bucket.open(shortParts, { parts: new PartPool(0) }, once);
        const failure = await failureOf(
          way.push(driver, blob, (recorded) => {
            session = recorded;
          }),
        );
        isDone = failure === undefined && writes <= last;
        between.decide = () => "pass";
        if ((await bucket.open().find(blob.key)) === undefined) {
          expect(failure).toBeDefined();
          // Half of the time somebody comes back with what the row says.
          if (last % 2 === 0 && session) {
            await finish(session);
            continued++;
          }
        }
        if (await expectClean(bucket, blob)) survived++;
        await bucket.open().delete(blob.key);
      }
      expect(last).toBeGreaterThan(way.writesMin);
      expect(survived).toBeGreaterThan(continued);
      expect(between.of("AbortMultipartUpload").every(({ url }) => url.includes("uploadId="))).toBe(true);
    },
  );

  async function finish({ id, state, offsetBytes }: Session): Promise<void> {
    const driver = bucket.open(shortParts);
    const rest = blob.bytes.subarray(offsetBytes);
    const full = rest.byteLength === 0 ? state : await appendTo(driver, id, state, offsetBytes, rest);
    await driver.commitUpload(id, full, blob.key, blob.bytes.byteLength);
    await expectStored(driver, blob);
  }
});
