/** What the sweeps of uploads take away and what they leave, on every engine that TEST_DB names. */

import { expect, test } from "bun:test";
import { readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { type TestDatabases, withDatabases } from "../../../test/support/database.ts";
import { makeTempDir } from "../../../test/support/temp-dir.ts";
import { loadConfig } from "../../config/load.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { RegistryError } from "../../errors.ts";
import { type Digest, parseDigest } from "../../oci/digest.ts";
import type { StorageDriver } from "../../storage/driver.ts";
import { openLocalStorage } from "../../storage/local.ts";
import { blobKey } from "../../storage/paths.ts";
import { createBlobStore } from "../../storage/placement.ts";
import { putBlob } from "../blob/queries.ts";
import { collect } from "../gc/round.ts";
import { Tally } from "../gc/tally.ts";
import { findUpload, insertUpload } from "./queries.ts";
import { cleanStores, sweepUploads } from "./sweep.ts";

const minuteMs = 60_000;

async function makeWorld(databases: TestDatabases, keys: Record<string, unknown> = {}) {
  const db = await databases.open();
  await migrate(db, migrations);
  const dir = makeTempDir("sweep");
  const drivers = new Map<string, StorageDriver>();
  for (const name of ["near", "far"]) {
    drivers.set(name, await openLocalStorage({ rootPath: join(dir.path, name) }));
  }
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: quiet, wants: () => false, flush: quiet };
  const override = {
    DISTRIBUTED_STORAGE_CONFIG: Object.fromEntries(
      [...drivers.keys()].map((name) => [name, ["LocalStorage", { storage_path: join(dir.path, name) }]]),
    ),
    DISTRIBUTED_STORAGE_PREFERENCE: [...drivers.keys()],
    BLOBUPLOAD_DELETION_DATE_THRESHOLD: 10,
    ...keys,
  };
  const { config } = loadConfig({ dataDir: dir.path, env: { QUAY_OVERRIDE_CONFIG: JSON.stringify(override) } });
  const storage = createBlobStore(drivers, { preference: ["near", "far"], log });
  const app = { config, db, storage, clock: { nowMs: () => Date.now() }, log, state: { draining: false } };
  await db.sql`/* test.account */
    insert into account (id, uuid, kind, username, tag_expiration_s, created_ms) values (1, 'u', 'user', 'a', 0, 0)`;
  await db.sql`/* test.repository */
    insert into repository (id, namespace_id, name, path, visibility, created_ms) values (1, 1, 'r', 'a/r', 'private', 0)`;
  return {
    app,
    drivers,
    files: (name: string) => readdirSync(join(dir.path, name, "uploads")).filter((file) => file !== ".check"),
    /** Bytes in the store, last touched so long ago. */
    async left(name: string, ageMs: number): Promise<{ id: string; state: string }> {
      const driver = storage.driver(name);
      const id = crypto.randomUUID();
      const writer = await driver.openUpload(id, await driver.createUpload(id), 0);
      await writer.write(new Uint8Array(1000));
      const state = await writer.flush();
      const touched = new Date(Date.now() - ageMs);
      utimesSync(join(dir.path, name, "uploads", id), touched, touched);
      return { id, state };
    },
    async session(
      location: string,
      expiresMs: number,
      kept: { id: string; state: string },
      blobDigest?: Digest,
    ): Promise<void> {
      await db.tx((tx) =>
        insertUpload(tx, {
          id: kept.id,
          repositoryId: 1,
          accountId: 1,
          principal: "a",
          location,
          storageState: kept.state,
          algorithm: "sha256",
          offsetBytes: 1000,
          digest: undefined,
          blobDigest,
          createdMs: 0,
          expiresMs,
          writer: undefined,
          writerUntilMs: undefined,
        }),
      );
    },
    done() {
      storage.close();
      dir.remove();
    },
  };
}

withDatabases("sweeping uploads", (databases) => {
  test("sessions end with their bytes when their time is over, and others stay", async () => {
    const world = await makeWorld(databases);
    const over = await world.left("near", 0);
    const lives = await world.left("near", 0);
    await world.session("near", Date.now() - 1, over);
    await world.session("near", Date.now() + minuteMs, lives);
    expect(await sweepUploads(world.app)).toBe(1);
    expect(await sweepUploads(world.app)).toBe(0);
    expect(world.files("near")).toEqual([lives.id]);
    expect(await findUpload(world.app.db, over.id)).toBeUndefined();
    expect(await findUpload(world.app.db, lives.id)).toMatchObject({ offsetBytes: 1000 });
    world.done();
  }, 30_000);

  test("a blob that a dead request had stored gets its row, and is then collected", async () => {
    const world = await makeWorld(databases);
    const { app } = world;
    const digests = ["1", "2", "3"].map((digit) => parseDigest(`sha256:${digit.repeat(64)}`));
    for (const digest of digests) {
      const { id, state } = await world.left("near", 0);
      await app.storage.driver("near").commitUpload(id, state, blobKey(digest), 1000);
    }
    const [stored, noted, acknowledged] = digests;
    if (!stored || !noted || !acknowledged) throw new Error("three digests");
    await app.db.tx(async (tx) => {
      const blobId = await putBlob(tx, { digest: acknowledged, sizeBytes: 1000, location: "near", nowMs: 0 });
      await tx.sql`/* test.link */
        insert into repository_blob (repository_id, blob_id, lease_until_ms, created_ms) values (1, ${blobId}, 0, 0)`;
    });
    const gone = () => ({ id: crypto.randomUUID(), state: "1000" });
    await world.session("near", Date.now() - 1, gone());
    await app.db.sql`/* test.stored */ update upload_session set digest = ${stored}`;
    await world.session("near", Date.now() - 1, gone(), noted);
    await world.session("near", Date.now() - 1, gone(), acknowledged);
    expect(await sweepUploads(app)).toBe(3);
    const leases = () => app.db.sql<{ digest: string; left: number }>`/* test.leases */
      select b.digest, b.lease_until_ms - ${app.db.dialect.nowMs} as left from blob b
      join blob_placement p on p.blob_id = b.id where p.location = 'near' order by b.digest`;
    // Whoever pushes the same digest at this moment has its time, too.
    const rows = await leases();
    expect(rows.map(({ digest }) => digest)).toEqual([stored, noted, acknowledged]);
    for (const { left } of rows) expect(Number(left)).toBeGreaterThan(30_000);

    await collect(app, new Tally());
    expect(await leases()).toHaveLength(3);
    await app.db.sql`/* test.later */ update blob set lease_until_ms = 1`;
    await collect(app, new Tally());
    expect((await leases()).map(({ digest }) => digest)).toEqual([acknowledged]);
    const found = await Promise.all(digests.map((digest) => app.storage.driver("near").find(blobKey(digest))));
    expect(found).toEqual([undefined, undefined, { sizeBytes: 1000 }]);
    world.done();
  }, 30_000);

  test("a store that cannot remove anything keeps no other's sessions waiting", async () => {
    const world = await makeWorld(databases);
    for (let n = 0; n < 120; n++) {
      await world.session("near", Date.now() - 2 * minuteMs, { id: crypto.randomUUID(), state: "{}" });
    }
    const over = await world.left("far", 0);
    await world.session("far", Date.now() - 1, over);
    const near = world.drivers.get("near");
    if (!near) throw new Error("there is no near store");
    near.deleteUpload = () => Promise.reject(new RegistryError("unavailable", { message: "away" }));
    expect(await sweepUploads(world.app)).toBe(1);
    expect(await findUpload(world.app.db, over.id)).toBeUndefined();
    world.done();
  }, 30_000);

  test("what no session can tell of any more is cleaned from every store, once among the instances", async () => {
    const world = await makeWorld(databases);
    const [old, young] = [await world.left("near", 200 * minuteMs), await world.left("near", 20 * minuteMs)];
    await world.left("far", 200 * minuteMs);
    await cleanStores(world.app);
    expect([world.files("near"), world.files("far")]).toEqual([[young.id], []]);
    expect(old.id).not.toBe(young.id);
    await world.left("near", 200 * minuteMs);
    await cleanStores(world.app);
    expect(world.files("near")).toHaveLength(2);
    await world.app.db.sql`/* test.later */
      update setting set value = cast(cast(value as bigint) - ${3600_000} as text) where key = 'uploads_cleaned'`;
    await cleanStores(world.app);
    expect(world.files("near")).toEqual([young.id]);
    world.done();
  }, 30_000);

  test("nothing is cleaned with CLEAN_BLOB_UPLOAD_FOLDER off", async () => {
    const world = await makeWorld(databases, { CLEAN_BLOB_UPLOAD_FOLDER: false });
    await world.left("near", 200 * minuteMs);
    await cleanStores(world.app);
    expect(world.files("near")).toHaveLength(1);
    world.done();
  }, 30_000);
});
