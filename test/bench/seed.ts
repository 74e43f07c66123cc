/**
 * Fills the SQLite database of a stopped Berth with as many rows as a large registry has, in seconds instead of hours of
 * pushing. Rows are written straight against `sql/`; blobs seeded here have no bytes behind them.
 */
import { Database } from "bun:sqlite";
import { join } from "node:path";

/** Makes the repository's tags (all on its first manifest) `count` in number, named t000001 onwards. */
export function seedTags(dataDir: string, repositoryPath: string, count: number): void {
  withDatabase(dataDir, (db) => {
    const target = db
      .query<{ repositoryId: number; manifestId: number }, [string]>(
        `select r.id as repositoryId, min(m.id) as manifestId
         from repository r join manifest m on m.repository_id = r.id where r.path = ? group by r.id`,
      )
      .get(repositoryPath);
    if (target === null) throw new Error(`"${repositoryPath}" has no manifest to tag`);
    db.query(
      `${numbers} insert into tag (repository_id, name, manifest_id, start_ms)
       select ?, printf('t%06d', i), ?, ? from n
       where not exists (select 1 from tag where repository_id = ? and name = printf('t%06d', i) and end_ms is null)`,
    ).run(count, target.repositoryId, target.manifestId, Date.now(), target.repositoryId);
  });
}

/** Makes repositories r000001 to `count` in a namespace, private as pushed ones are. */
export function seedRepositories(dataDir: string, namespace: string, count: number): void {
  withDatabase(dataDir, (db) => {
    db.query(
      `${numbers} insert into repository (namespace_id, name, path, visibility, created_ms, last_modified_ms)
       select a.id, printf('r%06d', i), printf('%s/r%06d', a.username, i), 'private', ?, ?
       from n cross join account a where a.username = ?
       and not exists (select 1 from repository r where r.path = printf('%s/r%06d', a.username, i))`,
    ).run(count, Date.now(), Date.now(), namespace);
    // Their names are one word each.
    db.query(
      `insert or ignore into repository_word (repository_id, word, namespace_id, public)
       select r.id, r.name, r.namespace_id, false from repository r join account a on a.id = r.namespace_id
       where a.username = ? and r.name glob 'r[0-9]*'`,
    ).run(namespace);
  });
}

/** Adds `count` blobs with placements, linked into the repository. */
export function seedBlobs(dataDir: string, repositoryPath: string, count: number): void {
  withDatabase(dataDir, (db) => {
    const nowMs = Date.now();
    const first = db.query<{ id: number }, []>("select coalesce(max(id), 0) as id from blob").get()?.id ?? 0;
    const location = db.query<{ location: string }, []>("select location from blob_placement limit 1").get()?.location;
    if (location === undefined) throw new Error("the store holds no blob whose placement could be followed");
    db.query(
      `${numbers} insert into blob (digest, size_bytes, created_ms)
       select 'sha256:' || lower(hex(randomblob(32))), 1000000, ? from n`,
    ).run(count, nowMs);
    db.query("insert into blob_placement (blob_id, location) select id, ? from blob where id > ?").run(location, first);
    db.query(
      `insert into repository_blob (repository_id, blob_id, lease_until_ms, created_ms)
       select r.id, b.id, 0, ? from blob b cross join repository r where b.id > ? and r.path = ?`,
    ).run(nowMs, first, repositoryPath);
  });
}

const numbers = "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?)";

/** One transaction on the database file, checkpointed, so that the next start has no log to replay. */
function withDatabase(dataDir: string, work: (db: Database) => void): void {
  const db = new Database(findDatabase(dataDir), { readwrite: true, strict: true });
  try {
    // a million random digests go all over their index: keep it in memory (KiB) while it grows
    db.run("pragma cache_size = -500000");
    db.run("pragma foreign_keys = on");
    db.transaction(() => work(db)).immediate();
    db.run("pragma wal_checkpoint(truncate)");
  } finally {
    db.close();
  }
}

function findDatabase(dataDir: string): string {
  const files = [...new Bun.Glob("*.{db,sqlite,sqlite3}").scanSync({ cwd: dataDir })];
  const [file] = files;
  if (file === undefined || files.length > 1) {
    throw new Error(`"${dataDir}" must hold one SQLite database, it holds ${files.length}`);
  }
  return join(dataDir, file);
}
