/** The same on a bucket: what a store on another machine gives is read in ranges, and repaired and healed as on a disk. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Digest } from "../../src/oci/digest.ts";
import { blobKey } from "../../src/storage/paths.ts";
import { exitCodes } from "../cli/command.ts";
import { digestOf } from "../support/registry-client.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import { damages, folder, type OpenStore, patienceMs, type ScrubWorld, startScrubWorld, until } from "./world.ts";

setDefaultTimeout(3 * patienceMs);
const repository = "admin/bucket";
let server: S3Server;
let dir: TempDir;
let world: ScrubWorld;

beforeAll(async () => {
  server = await startS3();
  dir = makeTempDir("scrub-s3");
  world = await startScrubWorld({
    bucket: bucketStore(server, await server.createBucket()),
    disk: folder(dir.path, "disk"),
  });
});
afterAll(async () => {
  await world.stop();
  await server.stop();
  dir.remove();
});

function bucketStore(s3: S3Server, bucket: string): OpenStore {
  const at = (digest: string) => `/${bucket}/datastorage/registry/${blobKey(digest as Digest)}`;
  const send = async (method: string, digest: string, body?: Uint8Array) => {
    // The signature is over text: each byte is one character of it.
    const init = body === undefined ? {} : { body: new TextDecoder("latin1").decode(body) };
    const response = await s3.request(method, at(digest), init);
    if (!response.ok) throw new Error(`${method} ${digest}: ${response.status} ${await response.text()}`);
    return response;
  };
  return {
    engine: s3.engineConfig(bucket),
    read: async (digest) => (await send("GET", digest)).bytes(),
    write: async (digest, bytes) => void (await send("PUT", digest, bytes)),
    remove: async (digest) => void (await send("DELETE", digest)),
  };
}

/** Text, so that a test can write it with a signed request. Longer than what is read at once. */
function content(): Uint8Array {
  return new TextEncoder().encode(`${crypto.randomUUID()} `.repeat(160_000));
}

test.each(Object.entries(damages))("%s in a bucket is found and repaired from a disk", async (_, { kind, damage }) => {
  const bytes = content();
  const digest = digestOf(bytes);
  expect((await world.api.admin.pushBlob(repository, bytes)).status).toBe(201);
  await until("both stores have it", async () => (await world.places(digest)).good.length === 2);
  const bucket = world.stores.bucket;
  if (!bucket) throw new Error("there is no bucket");
  await damage(bucket, digest);
  const { code, stdout } = await world.scrub("--location", "bucket", "--bytes-per-second", "unlimited");
  expect(stdout).toContain(`${digest} in "bucket": bad (${kind}), out of service`);
  expect(code).toBe(exitCodes.failed);
  await until("both stores have it again", async () => (await world.places(digest)).good.length === 2);
  expect(digestOf(await bucket.read(digest).then((read) => read ?? new Uint8Array()))).toBe(digest);
  expect(await world.pull(repository, digest)).toBe(200);
  expect((await world.scrub("--bytes-per-second", "unlimited")).code).toBe(exitCodes.ok);
});

test("a push heals a bucket that has no other to be repaired from", async () => {
  const bytes = content();
  const digest = digestOf(bytes);
  expect((await world.api.admin.pushBlob(repository, bytes)).status).toBe(201);
  await until("both stores have it", async () => (await world.places(digest)).good.length === 2);
  for (const store of Object.values(world.stores)) await damages["a flipped bit"]?.damage(store, digest);
  expect((await world.scrub("--blob", digest)).code).toBe(exitCodes.failed);
  expect(await world.places(digest)).toEqual({ good: [], bad: ["bucket", "disk"] });
  await world.headBecomes(repository, digest, 404);
  expect((await world.api.admin.pushBlob(repository, bytes)).status).toBe(201);
  expect(await world.pull(repository, digest)).toBe(200);
  await until("both stores have it again", async () => (await world.places(digest)).good.length === 2);
  expect((await world.scrub("--bytes-per-second", "unlimited")).code).toBe(exitCodes.ok);
});
