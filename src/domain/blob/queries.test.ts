/** A blob that comes while the manifest that waits for it is being put, on every engine that TEST_DB names. */

import { expect, test } from "bun:test";
import { withDatabases } from "../../../test/support/database.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { parseDigest } from "../../oci/digest.ts";
import { findLinkedBlobs, insertMissingBlob, lockRepository } from "../manifest/queries.ts";
import { linkBlob } from "./queries.ts";

const digest = parseDigest(`sha256:${"a".repeat(64)}`);
const config = { FEATURE_SPARSE_MANIFEST: true, FEATURE_QUOTA_MANAGEMENT: true, QUOTA_INVALIDATE_TOTALS: true };

withDatabases("linking a blob", (databases) => {
  test("that was hidden joins it to the sparse image that is just being put there", async () => {
    const uri = await databases.address();
    const [db, other] = [await databases.open({ uri }), await databases.open({ uri })];
    await migrate(db, migrations);
    await db.sql`/* test.account */
      insert into account (id, uuid, username, kind, created_ms, tag_expiration_s) values (1, 'u', 'lab', 'organization', 0, 0)`;
    await db.sql`/* test.repository */
      insert into repository (id, namespace_id, name, path, visibility, created_ms) values (1, 1, 'app', 'lab/app', 'private', 0)`;
    await db.sql`/* test.manifest */
      insert into manifest (id, repository_id, digest, kind, media_type, annotations, size_bytes, layers_size_bytes, created_ms, content)
      values (1, 1, 'sha256:m', 'image', 'm', '{}', 2, 0, 0, ${new Uint8Array(2)})`;
    await db.sql`/* test.blob */ insert into blob (id, digest, size_bytes, created_ms) values (1, ${digest}, 10, 0)`;
    await db.sql`/* test.place */ insert into blob_placement (blob_id, location) values (1, 'here')`;
    await db.sql`/* test.link */
      insert into repository_blob (repository_id, blob_id, lease_until_ms, created_ms, deleted_ms) values (1, 1, 1, 0, 1)`;
    const link = { repositoryId: 1, blobId: 1, digest, leaseUntilMs: 2, nowMs: 1 };
    let linking: Promise<void> | undefined;
    await db.tx(async (tx) => {
      await lockRepository(tx, { id: 1, path: "lab/app" } as Parameters<typeof lockRepository>[1]);
      expect((await findLinkedBlobs(tx, 1, [digest])).size).toBe(0);
      linking = other.tx((more) => linkBlob(config, more, link));
      // Long enough for the other to be through or to wait.
      await Promise.race([linking, Bun.sleep(300)]);
      await insertMissingBlob(tx, { manifestId: 1, digest, repositoryId: 1 });
    });
    await linking;
    const named = await db.sql`/* test.named */ select blob_id from manifest_blob`;
    const missing = await db.sql`/* test.missing */ select digest from manifest_missing_blob`;
    expect([named.length, missing.length]).toEqual([1, 0]);
  });
});
