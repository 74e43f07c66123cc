/** Seeding against the schema that the migrations make: a change there must show up here and not in a benchmark. */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import { migrate } from "../../src/db/migrate.ts";
import { migrations } from "../../src/db/migrations.ts";
import { openDatabase } from "../../src/db/open.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import { seedBlobs, seedRepositories, seedTags } from "./seed.ts";

test("tags, repositories and blobs grow to the number asked for, and a second call adds only what is missing", async () => {
  const dir = makeTempDir("seed");
  const path = join(dir.path, "berth.db");
  const made = await openDatabase({ uri: `sqlite:///${path}` });
  await migrate(made, migrations);
  await made.close();
  const db = new Database(path, { strict: true });
  try {
    db.run(
      "insert into account (uuid, kind, username, tag_expiration_s, created_ms) values ('u', 'user', 'admin', 1, 1)",
    );
    db.run(
      "insert into repository (namespace_id, name, path, visibility, created_ms) values (1, 'x', 'admin/x', 'private', 1)",
    );
    db.run(
      `insert into manifest (repository_id, digest, kind, media_type, size_bytes, layers_size_bytes, created_ms, content)
       values (1, 'sha256:aa', 'image', 'm', 1, 1, 1, x'00')`,
    );
    db.run("insert into blob (digest, size_bytes, created_ms) values ('sha256:bb', 1, 1)");
    db.run("insert into blob_placement (blob_id, location) values (1, 'default')");
    const count = (from: string) => db.query<{ n: number }, []>(`select count(*) as n from ${from}`).get()?.n;
    for (const total of [10, 50]) {
      seedTags(dir.path, "admin/x", total);
      seedRepositories(dir.path, "admin", total);
      expect(count("tag where manifest_id = 1")).toBe(total);
      expect(count("repository where path like 'admin/r%'")).toBe(total);
      expect(count("repository_word where word like 'r%'")).toBe(total);
    }
    seedBlobs(dir.path, "admin/x", 100);
    expect(count("blob b join blob_placement p on p.blob_id = b.id")).toBe(101);
    expect(count("repository_blob where repository_id = 1")).toBe(100);
    expect(() => seedTags(dir.path, "admin/none", 1)).toThrow(`"admin/none" has no manifest`);
  } finally {
    db.close();
    dir.remove();
  }
});
