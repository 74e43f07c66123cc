/** Two stores, of which one loses bytes: repaired from the other, whether or not anything replicates, or out of service. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { renameSync } from "node:fs";
import { listCopiesOf } from "../../src/domain/scrub/copies.ts";
import { examineCopy } from "../../src/domain/scrub/examine.ts";
import type { Digest } from "../../src/oci/digest.ts";
import { exitCodes } from "../cli/command.ts";
import { digestOf } from "../support/registry-client.ts";
import { damages, flip, patienceMs, startDiskWorld, until, watching } from "./world.ts";

setDefaultTimeout(2 * patienceMs);
const repository = "admin/repair";
let world: Awaited<ReturnType<typeof startDiskWorld>>;

beforeAll(async () => {
  world = await startDiskWorld(["near", "far"]);
});
afterAll(() => world.stop());

/** Pushes a blob and waits until both stores have it. */
async function push(sizeBytes: number): Promise<{ digest: string; content: Uint8Array }> {
  const content = crypto.getRandomValues(new Uint8Array(sizeBytes));
  const response = await world.api.admin.pushBlob(repository, content);
  if (response.status !== 201) throw new Error(`push: ${response.status}`);
  const digest = digestOf(content);
  await until("both stores have it", async () => (await world.places(digest)).good.length === 2);
  return { digest, content };
}

async function expectBoth(digest: string): Promise<void> {
  expect(await world.places(digest)).toEqual({ good: ["far", "near"], bad: [] });
  for (const store of Object.values(world.stores)) {
    expect(digestOf((await store.read(digest)) ?? new Uint8Array())).toBe(digest);
  }
  expect(await world.pull(repository, digest)).toBe(200);
}

test.each(Object.entries(damages))("%s in one store is repaired from the other", async (_, { kind, damage }) => {
  const { digest } = await push(70_000);
  await world.pull(repository, digest);
  for (const name of ["near", "far"]) {
    const store = world.stores[name];
    if (!store) throw new Error(`there is no store "${name}"`);
    await damage(store, digest);
    const { code, stdout } = await world.scrub();
    expect(stdout).toContain(`${digest} in "${name}": bad (${kind}), out of service`);
    // The server's own worker may have the job; the copy is in service either way before long.
    await until("both stores have it again", async () => (await world.places(digest)).good.length === 2);
    expect(code).toBe(exitCodes.failed);
    await expectBoth(digest);
    expect((await world.logged("blob_copy_repaired"))[0]).toMatchObject({ digest, location: name, how: "copied" });
  }
  expect((await world.scrub()).code).toBe(exitCodes.ok);
});

test("pulls go to the other store as long as one is out of service", async () => {
  const { digest } = await push(30_000);
  expect(await world.pull(repository, digest)).toBe(200);
  await flip(world.stores.near, digest);
  const far = world.folders.far?.path ?? "";
  // Nothing to repair it from for now.
  renameSync(far, `${far}.away`);
  try {
    const [copy] = (await listCopiesOf(world.api.app.db, digest as Digest)).filter(
      ({ location }) => location === "near",
    );
    if (!copy) throw new Error("there is no copy");
    expect(await examineCopy(world.api.app, copy, watching())).toBe("bad");
  } finally {
    renameSync(`${far}.away`, far);
  }
  expect(await world.places(digest)).toEqual({ good: ["far"], bad: ["near"] });
  // Both had it in memory: from now on it comes from the store that is right.
  await until("the server reads the right store", async () => {
    try {
      return (await world.pull(repository, digest)) === 200;
    } catch {
      return false;
    }
  });
  await world.scrub("--blob", digest);
  await until("both stores have it again", async () => (await world.places(digest)).good.length === 2);
  await expectBoth(digest);
});

test("with no right copy left it is out of service everywhere, and one push heals all", async () => {
  const { digest, content } = await push(20_000);
  await flip(world.stores.near, digest);
  await world.stores.far?.write(digest, content.slice(0, 19_000));
  const { code } = await world.scrub();
  expect(code).toBe(exitCodes.failed);
  expect(await world.places(digest)).toEqual({ good: [], bad: ["far", "near"] });
  await world.headBecomes(repository, digest, 404);
  expect((await world.status()).bad_copies).toHaveLength(2);
  expect((await world.api.admin.pushBlob(repository, content)).status).toBe(201);
  await until("both stores have it again", async () => (await world.places(digest)).good.length === 2);
  await expectBoth(digest);
  expect((await world.status()).bad_copies).toEqual([]);
});

test("repairs also where nothing replicates", async () => {
  const { digest, content } = await push(40_000);
  await world.stop();
  world = await startDiskWorld(["near", "far"], { FEATURE_STORAGE_REPLICATION: false });
  expect((await world.api.admin.pushBlob(repository, content)).status).toBe(201);
  // As `berth storage copy` leaves it.
  await world.stores.far?.write(digest, content).catch(async () => {
    await Bun.write(`${world.folders.far?.path}/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`, content);
  });
  await world.api.app.db.tx(async (tx) => {
    await tx.sql`/* test.place */
      insert into blob_placement (blob_id, location) select id, 'far' from blob where digest = ${digest}`;
  });
  await flip(world.stores.near, digest);
  const { code, stdout } = await world.scrub("--location", "near");
  expect(stdout).toContain(`${digest} in "near": bad (digest), out of service`);
  expect(stdout).toContain(`${digest} in "near": repaired, in service`);
  expect(stdout).not.toContain("far:");
  expect(code).toBe(exitCodes.failed);
  await expectBoth(digest);
  expect((await world.scrub()).code).toBe(exitCodes.ok);
});
