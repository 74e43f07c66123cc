/**
 * Images as garbage collection meets them, written straight into the database of either engine: each with two blobs, a
 * manifest and a tag. With bytes behind them where the store is a folder, or a bucket that is one.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Database, Tx } from "../../src/db/db.ts";
import { toNumber } from "../../src/db/decode.ts";
import { namespace } from "./contenders.ts";

export interface SeededImages {
  readonly repositoryId: number;
  readonly blobs: number;
  /** Blobs of these ids are theirs. */
  readonly firstBlobId: number;
  readonly lastBlobId: number;
}

const BLOBS_PER_IMAGE = 2;
const BLOB_BYTES = 4096;
/** Digests of seeded blobs are numbers; these are no pushed one's. */
const FIRST_NUMBER = 2 ** 32;

/** Makes a repository of the zero-config superuser with `images` tagged images, which share nothing. */
export async function seedImages(db: Database, name: string, images: number): Promise<SeededImages> {
  return db.tx((tx) => seed(tx, name, images), { timeLimits: false });
}

/** Ends all tags of such a repository long ago: all that it holds is garbage at once. */
export async function endImages(db: Database, { repositoryId }: SeededImages): Promise<void> {
  await db.tx(
    async (tx) => {
      await tx.sql`/* bench.end */ update tag set start_ms = 1, end_ms = 2 where repository_id = ${repositoryId}`;
      await tx.sql`/* bench.due */ insert into gc_repository (repository_id, due_ms) values (${repositoryId}, 0)`;
    },
    { timeLimits: false },
  );
}

/** How many of their blobs have a row still. */
export async function blobsLeft(db: Database, { firstBlobId, lastBlobId }: SeededImages): Promise<number> {
  const [row] = await db.sql<{ n: number }>`/* bench.left */
    select count(*) as n from blob where id between ${firstBlobId} and ${lastBlobId}`;
  return toNumber(row?.n ?? 0);
}

export async function tagsLeft(db: Database, { repositoryId }: SeededImages): Promise<number> {
  const [row] = await db.sql<{ n: number }>`/* bench.tags_left */
    select count(*) as n from tag where repository_id = ${repositoryId}`;
  return toNumber(row?.n ?? 0);
}

/** Puts their bytes below `folder`, the store's. Not one by one through a driver: nobody measures this. */
export async function writeBlobs(
  db: Database,
  { firstBlobId, lastBlobId }: SeededImages,
  folder: string,
): Promise<void> {
  const rows = await db.sql<{ digest: string }>`/* bench.digests */
    select digest from blob where id between ${firstBlobId} and ${lastBlobId}`;
  const content = new Uint8Array(BLOB_BYTES);
  for (const { digest } of rows) {
    const hex = digest.slice("sha256:".length);
    const path = join(folder, "sha256", hex.slice(0, 2), hex);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
}

async function seed(tx: Tx, name: string, images: number): Promise<SeededImages> {
  const nowMs = Date.now();
  // A million digests go all over their index: it stays in memory (KiB) while it grows.
  if (tx.engine === "sqlite") await tx.script("pragma cache_size = -500000");
  const [repository] = await tx.sql<{ id: number }>`/* bench.repository */
    insert into repository (namespace_id, name, path, visibility, created_ms, last_modified_ms)
    select id, ${name}, ${`${namespace}/${name}`}, 'private', ${nowMs}, ${nowMs} from account where username = ${namespace}
    returning id`;
  const repositoryId = toNumber(repository?.id ?? 0);
  const blobs = images * BLOBS_PER_IMAGE;
  const base = FIRST_NUMBER + (await lastId(tx, "blob"));
  await tx.sql`/* bench.blobs */
    with recursive n (i) as (select 1 union all select i + 1 from n where i < ${blobs})
    insert into blob (digest, size_bytes, created_ms) select ${digestOf(tx, base)}, ${BLOB_BYTES}, ${nowMs} from n`;
  const lastBlobId = await lastId(tx, "blob");
  const firstBlobId = lastBlobId - blobs + 1;
  await tx.sql`/* bench.places */
    insert into blob_placement (blob_id, location) select id, 'default' from blob where id >= ${firstBlobId}`;
  await tx.sql`/* bench.links */
    insert into repository_blob (repository_id, blob_id, lease_until_ms, created_ms)
    select ${repositoryId}, id, 0, ${nowMs} from blob where id >= ${firstBlobId}`;
  await tx.sql`/* bench.manifests */
    with recursive n (i) as (select 1 union all select i + 1 from n where i < ${images})
    insert into manifest (repository_id, digest, kind, media_type, size_bytes, layers_size_bytes, created_ms, content)
    select ${repositoryId}, ${digestOf(tx, base)}, 'image', 'application/vnd.oci.image.manifest.v1+json', 500,
           ${BLOB_BYTES * BLOBS_PER_IMAGE}, ${nowMs}, ${new Uint8Array(500)} from n`;
  const firstManifestId = (await lastId(tx, "manifest")) - images + 1;
  await tx.sql`/* bench.named */
    insert into manifest_blob (manifest_id, blob_id, repository_id)
    select ${firstManifestId} + (id - ${firstBlobId}) / ${BLOBS_PER_IMAGE}, id, ${repositoryId}
    from blob where id >= ${firstBlobId}`;
  await tx.sql`/* bench.tags */
    insert into tag (repository_id, name, manifest_id, start_ms)
    select ${repositoryId}, 't' || cast(id as text), id, ${nowMs} from manifest where id >= ${firstManifestId}`;
  return { repositoryId, blobs, firstBlobId, lastBlobId };
}

async function lastId(tx: Tx, table: "blob" | "manifest"): Promise<number> {
  const [row] =
    table === "blob"
      ? await tx.sql<{ id: number }>`/* bench.last_blob */ select max(id) as id from blob`
      : await tx.sql<{ id: number }>`/* bench.last_manifest */ select max(id) as id from manifest`;
  return toNumber(row?.id ?? 0);
}

/** Spread over the digest's first byte as digests are; else the number `base + i`. */
function digestOf(tx: Tx, base: number) {
  return tx.engine === "sqlite"
    ? tx.sql`printf('sha256:%02x%062x', (${base} + i) % 256, ${base} + i)`
    : tx.sql`'sha256:' || lpad(to_hex((${base} + i) % 256), 2, '0') || lpad(to_hex(${base} + i), 62, '0')`;
}
