/** Deletions that something comes between, on every engine that TEST_DB names. */

import { expect, test } from "bun:test";
import { withDatabases } from "../../../test/support/database.ts";
import { makeTempDir } from "../../../test/support/temp-dir.ts";
import type { Database } from "../../db/db.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { RegistryError } from "../../errors.ts";
import { type Digest, parseDigest } from "../../oci/digest.ts";
import type { StorageDriver } from "../../storage/driver.ts";
import { openLocalStorage } from "../../storage/local.ts";
import { blobKey } from "../../storage/paths.ts";
import { createBlobStore } from "../../storage/placement.ts";
import { reserveBlob } from "../blob/reserve.ts";
import { collectBlobs } from "./blobs.ts";
import { Tally } from "./tally.ts";

const BLOBS = 20;
const quiet = () => undefined;
const log = { debug: quiet, info: quiet, warn: quiet, error: quiet, wants: () => false, flush: quiet };

/** `BLOBS` blobs that nobody links, in stores on the disk with these names. */
async function startWorld(db: Database, locations: readonly string[]) {
  await migrate(db, migrations);
  const dir = makeTempDir("gc-blobs");
  const drivers = new Map<string, StorageDriver>();
  for (const location of locations) {
    drivers.set(location, await openLocalStorage({ rootPath: `${dir.path}/${location}` }));
  }
  const storage = createBlobStore(drivers, { preference: locations, log });
  const digests = Array.from({ length: BLOBS }, (_, n) => parseDigest(`sha256:${n.toString(16).padStart(64, "0")}`));
  for (const digest of digests) {
    for (const driver of drivers.values()) await store(driver, digest);
    await db.tx(async (tx) => {
      const [row] = await tx.sql<{ id: number }>`/* test.blob */
        insert into blob (digest, size_bytes, created_ms, lease_until_ms) values (${digest}, 10, 0, 1) returning id`;
      for (const location of locations) {
        await tx.sql`/* test.place */
          insert into blob_placement (blob_id, location) values (${Number(row?.id)}, ${location})`;
      }
    });
  }
  return {
    app: { db, storage, log },
    digests,
    driver: (location: string) => drivers.get(location) as StorageDriver,
    /** How many of the blobs a store has. */
    async count(location: string): Promise<number> {
      const found = await Promise.all(digests.map((digest) => drivers.get(location)?.find(blobKey(digest))));
      return found.filter((object) => object !== undefined).length;
    },
    async marked(): Promise<number> {
      const [row] = await db.sql<{ n: number }>`/* test.marked */
        select count(*) as n from blob where state = 'deleting' and lease_until_ms > ${db.dialect.nowMs}`;
      return Number(row?.n);
    },
    end(): void {
      storage.close();
      dir.remove();
    },
  };
}

async function store(driver: StorageDriver, digest: Digest): Promise<void> {
  const id = crypto.randomUUID();
  const writer = await driver.openUpload(id, await driver.createUpload(id), 0);
  await writer.write(new Uint8Array(10));
  await driver.commitUpload(id, await writer.flush(), blobKey(digest), 10);
}

/** As a process that is stopped in the middle of a deletion, and goes on after half a minute. */
async function standingStill(drivers: readonly StorageDriver[], work: () => Promise<unknown>): Promise<void> {
  const { now } = performance;
  for (const driver of drivers) {
    const remove = driver.delete.bind(driver);
    driver.delete = async (key) => {
      await remove(key);
      performance.now = () => now.call(performance) + 31_000;
    };
  }
  try {
    await work();
  } finally {
    performance.now = now;
  }
}

withDatabases("deleting blobs", (databases) => {
  test("a worker that stood still for longer than its lease deletes nothing more", async () => {
    const world = await startWorld(await databases.open(), ["here"]);
    await standingStill([world.driver("here")], () => collectBlobs(world.app, new Tally()));
    const count = await world.count("here");
    // One deletion may have begun in each lane; what is left waits for the next worker under its mark.
    expect(count).toBeGreaterThanOrEqual(BLOBS - 2);
    expect(await world.marked()).toBe(count);
    world.end();
  }, 30_000);

  test("nor in another store what it was deleting", async () => {
    const world = await startWorld(await databases.open(), ["near", "far"]);
    await standingStill(["near", "far"].map(world.driver), () => collectBlobs(world.app, new Tally()));
    // As above, and the same blob in the other store is not begun either.
    expect((await world.count("near")) + (await world.count("far"))).toBeGreaterThanOrEqual(2 * BLOBS - 2);
    expect(await world.marked()).toBe(BLOBS);
    world.end();
  }, 30_000);

  test("a mark that another worker has taken over is not ended: it is still deleting", async () => {
    const db = await databases.open();
    const world = await startWorld(db, ["here"]);
    const driver = world.driver("here");
    const remove = driver.delete.bind(driver);
    let taken = false;
    driver.delete = async (key) => {
      await remove(key);
      if (taken) return;
      taken = true;
      await db.sql`/* test.take_over */ update blob set lease_until_ms = ${db.dialect.nowMs} + 90000`;
    };
    const tally = new Tally();
    await collectBlobs(world.app, tally);
    expect([tally.blobs, tally.bytes, await world.marked()]).toEqual([0, 0, BLOBS]);
    const [digest] = world.digests;
    const [row] = await db.sql`/* test.row */ select id from blob where digest = ${digest ?? ""}`;
    expect(row).toBeDefined();
    world.end();
  }, 30_000);

  test("what lies in a store that is away, or unknown here, is left to pushes until that is back", async () => {
    const db = await databases.open();
    const world = await startWorld(db, ["here", "away"]);
    const { storage } = world.app;
    const only = { ...storage, locations: ["here"], isUp: (location: string) => location === "here" };
    const down = { ...storage, isUp: (location: string) => location === "here" };
    for (const seen of [only, down]) {
      await db.sql`/* test.due */ update blob set lease_until_ms = 1`;
      expect(await collectBlobs({ ...world.app, storage: seen }, new Tally())).toBe(BLOBS);
      expect(await collectBlobs({ ...world.app, storage: seen }, new Tally())).toBe(0);
      expect([await world.marked(), await world.count("here"), await world.count("away")]).toEqual([0, BLOBS, BLOBS]);
    }
    for (const digest of world.digests.slice(0, 2)) await reserveBlob(db, digest);
    await db.sql`/* test.due */ update blob set lease_until_ms = 1`;
    const tally = new Tally();
    await collectBlobs(world.app, tally);
    expect([tally.blobs, await world.count("here"), await world.count("away")]).toEqual([BLOBS, 0, 0]);
    world.end();
  }, 30_000);

  test("a store that goes away in the middle is asked once, and again soon after it is back", async () => {
    const db = await databases.open();
    const world = await startWorld(db, ["here", "far"]);
    const far = world.driver("far");
    const remove = far.delete.bind(far);
    let asked = 0;
    let isAway = true;
    far.delete = async (key) => {
      if (!isAway) return remove(key);
      asked++;
      throw new RegistryError("unavailable", { message: "far away" });
    };
    const check = far.check.bind(far);
    far.check = () => (isAway ? Promise.reject(new RegistryError("unavailable")) : check());
    await collectBlobs(world.app, new Tally());
    // One for each lane, at most.
    expect(asked).toBeLessThanOrEqual(2);
    expect([await world.marked(), await world.count("here"), await world.count("far")]).toEqual([BLOBS, 0, BLOBS]);
    const [soon] = await db.sql`/* test.soon */
      select max(lease_until_ms) - ${db.dialect.nowMs} as ms from blob where state = 'deleting'`;
    expect(Number(soon?.ms)).toBeLessThanOrEqual(15_000);
    isAway = false;
    await world.app.storage.driver("far").check();
    await db.sql`/* test.due */ update blob set lease_until_ms = 1`;
    const tally = new Tally();
    await collectBlobs(world.app, tally);
    expect([tally.blobs, await world.count("far")]).toEqual([BLOBS, 0]);
    world.end();
  }, 30_000);

  test("a copy that somebody is at is waited for, and one that was given up or left is not", async () => {
    const db = await databases.open();
    const world = await startWorld(db, ["here", "there"]);
    const { nowMs } = db.dialect;
    await db.sql`/* test.unplaced */ delete from blob_placement where location = 'there'`;
    await db.sql`/* test.copies */
      insert into blob_copy (blob_id, location, upload_id, updated_ms) select id, 'there', 'some', 0 from blob`;
    // By id: one that runs, one that waits, one that was given up, and others whose job is gone.
    await db.sql`/* test.jobs */
      insert into job (queue, lane, dedupe_key, payload, due_ms, attempts_left, created_ms, lease_until_ms)
      select 'imagestoragereplication', 'there', 'there/' || cast(id as text), '{}', 0, case id when 3 then 0 else 3 end, 0,
             case id when 1 then ${nowMs} + 60000 end
      from blob where id <= 3`;
    const tally = new Tally();
    await collectBlobs(world.app, tally);
    expect([tally.blobs, await world.count("here"), await world.count("there")]).toEqual([BLOBS - 1, 1, 1]);
    const left = await db.sql<{ blob_id: number }>`/* test.left */ select blob_id from blob_copy order by blob_id`;
    expect(left.map((row) => Number(row.blob_id))).toEqual([1, 2]);
    // The one that was given up is told of no more: there is nothing left to copy.
    const jobs = await db.sql<{
      dedupe_key: string;
    }>`/* test.jobs_left */ select dedupe_key from job order by dedupe_key`;
    expect(jobs.map((row) => row.dedupe_key)).toEqual(["there/1", "there/2"]);
    world.end();
  }, 30_000);
});
