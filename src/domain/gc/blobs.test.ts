/** A deletion whose worker stood still, on every engine that TEST_DB names. */

import { expect, test } from "bun:test";
import { withDatabases } from "../../../test/support/database.ts";
import { makeTempDir } from "../../../test/support/temp-dir.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { parseDigest } from "../../oci/digest.ts";
import { openLocalStorage } from "../../storage/local.ts";
import { blobKey } from "../../storage/paths.ts";
import { createBlobStore } from "../../storage/placement.ts";
import { collectBlobs } from "./blobs.ts";
import { Tally } from "./tally.ts";

const BLOBS = 20;

withDatabases("deleting blobs", (databases) => {
  test("a worker that stood still for longer than its lease deletes nothing more", async () => {
    const db = await databases.open();
    await migrate(db, migrations);
    const dir = makeTempDir("gc-blobs");
    const driver = await openLocalStorage({ rootPath: dir.path });
    const quiet = () => undefined;
    const log = { debug: quiet, info: quiet, warn: quiet, error: quiet, wants: () => false, flush: quiet };
    const storage = createBlobStore(new Map([["here", driver]]), { preference: ["here"], log });
    const keys: string[] = [];
    for (let n = 0; n < BLOBS; n++) {
      const digest = parseDigest(`sha256:${n.toString(16).padStart(64, "0")}`);
      const id = crypto.randomUUID();
      const writer = await driver.openUpload(id, await driver.createUpload(id), 0);
      await writer.write(new Uint8Array(10));
      await driver.commitUpload(id, await writer.flush(), blobKey(digest), 10);
      keys.push(blobKey(digest));
      await db.tx(async (tx) => {
        const [row] = await tx.sql<{ id: number }>`/* test.blob */
          insert into blob (digest, size_bytes, created_ms, lease_until_ms) values (${digest}, 10, 0, 1) returning id`;
        await tx.sql`/* test.place */
          insert into blob_placement (blob_id, location) values (${Number(row?.id)}, 'here')`;
      });
    }
    const { now } = performance;
    const remove = driver.delete.bind(driver);
    driver.delete = (key) => {
      // As a process that is stopped in the middle and goes on after half a minute.
      performance.now = () => now.call(performance) + 31_000;
      return remove(key);
    };
    try {
      await collectBlobs({ db, storage, log }, new Tally());
    } finally {
      performance.now = now;
    }
    const left = await Promise.all(keys.map((key) => driver.find(key)));
    const [row] = await db.sql<{ n: number }>`/* test.marked */
      select count(*) as n from blob where state = 'deleting' and lease_until_ms > ${db.dialect.nowMs}`;
    const count = left.filter((found) => found !== undefined).length;
    // One deletion may have begun in each lane; what is left waits for the next worker under its mark.
    expect(count).toBeGreaterThanOrEqual(BLOBS - 2);
    expect(Number(row?.n)).toBe(count);
    storage.close();
    dir.remove();
  }, 30_000);
});
