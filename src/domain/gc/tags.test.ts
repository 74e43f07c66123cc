/** Tags that expire beside a push, on every engine that TEST_DB names. */

import { expect, test } from "bun:test";
import { withDatabases } from "../../../test/support/database.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { lockRepository } from "../manifest/queries.ts";
import { endExpiredTags } from "./tags.ts";

withDatabases("expired tags", (databases) => {
  test("are not held by the collection while somebody has their repository: the two would wait for each other", async () => {
    const uri = await databases.address();
    const [db, other] = [await databases.open({ uri }), await databases.open({ uri })];
    await migrate(db, migrations);
    await db.sql`/* test.account */
      insert into account (id, uuid, username, kind, created_ms, tag_expiration_s) values (1, 'u', 'lab', 'organization', 0, 0)`;
    for (const id of [1, 2]) {
      await db.sql`/* test.repository */
        insert into repository (id, namespace_id, name, path, visibility, created_ms)
        values (${id}, 1, ${`r${id}`}, ${`lab/r${id}`}, 'private', 0)`;
      await db.sql`/* test.manifest */
        insert into manifest (id, repository_id, digest, kind, media_type, annotations, size_bytes, layers_size_bytes, created_ms, content)
        values (${id}, ${id}, 'sha256:m', 'image', 'm', '{}', 2, 0, 0, ${new Uint8Array(2)})`;
      await db.sql`/* test.tag */
        insert into tag (repository_id, name, manifest_id, start_ms, expires_ms) values (${id}, 'v1', ${id}, 1, 2)`;
    }
    let ending: Promise<number> | undefined;
    await db.tx(async (tx) => {
      await lockRepository(tx, { id: 1, path: "lab/r1" } as Parameters<typeof lockRepository>[1]);
      ending = endExpiredTags(other);
      // Long enough for it to be through or to wait.
      await Promise.race([ending, Bun.sleep(1000)]);
      const free = await tx.sql`/* test.free */
        select id from tag where repository_id = 1 and end_ms is null ${tx.dialect.skipLocked}`;
      expect(free.length).toBe(1);
    });
    // SQLite has no locks of rows: there it waited, and found both.
    expect((await ending) ?? 0).toBe(databases.engine === "sqlite" ? 2 : 1);
    await endExpiredTags(other);
    expect(await db.sql`/* test.left */ select id from tag where end_ms is null`).toEqual([]);
    const due = await db.sql`/* test.due */ select repository_id from gc_repository order by repository_id`;
    expect(due.length).toBe(2);
  });
});
