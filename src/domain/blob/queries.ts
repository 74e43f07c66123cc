/** The SQL of blobs: which are pullable in a repository, how they get there, and how they leave. */

import type { Config } from "../../config/schema.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import { countNamed, settleUsage } from "../quota/count.ts";
import { healCopy } from "./bad-copies.ts";
import { beingDeleted, firstLease } from "./reserve.ts";

type LinkConfig = Pick<Config, "FEATURE_SPARSE_MANIFEST" | "FEATURE_QUOTA_MANAGEMENT" | "QUOTA_INVALIDATE_TOTALS">;

export interface BlobFacts {
  readonly id: number;
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Names of the stores that hold its bytes. */
  readonly locations: readonly string[];
}

interface BlobRow {
  id: number;
  digest: string;
  size_bytes: number;
  location: string;
}

/** Finds a blob that can be pulled from this repository, undefined when it is not linked there. */
export async function findBlobFacts(db: Db, repositoryId: number, digest: Digest): Promise<BlobFacts | undefined> {
  const rows = await db.sql<BlobRow>`/* blob.in_repository */
    select b.id, b.digest, b.size_bytes, p.location
    from blob b
    join repository_blob l on l.blob_id = b.id and l.repository_id = ${repositoryId}
    join blob_placement p on p.blob_id = b.id
    where b.digest = ${digest} and l.deleted_ms is null and b.state = 'live'`;
  return decodeBlob(rows);
}

/** Finds a blob of the registry, wherever it is linked. */
export async function findBlobAnywhere(db: Db, digest: Digest): Promise<BlobFacts | undefined> {
  const rows = await db.sql<BlobRow>`/* blob.anywhere */
    select b.id, b.digest, b.size_bytes, p.location
    from blob b join blob_placement p on p.blob_id = b.id
    where b.digest = ${digest} and b.state = 'live'`;
  return decodeBlob(rows);
}

export interface NewBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly location: string;
  /** The store had the bytes before, and they were not written again. */
  readonly wasStored?: boolean;
  readonly nowMs: number;
}

/**
 * Records that a store durably holds a blob and gives its id. Two pushes of one digest meet here: the second finds the
 * first's row. A copy that was out of service is back with bytes that were written. The digest has been reserved; throws
 * `unavailable` when it is being deleted all the same, or the bytes that were relied on were just found to be bad.
 */
export async function putBlob(tx: Tx, blob: NewBlob): Promise<number> {
  const isNew = await tx.sql`/* blob.insert */
    insert into blob (digest, size_bytes, created_ms, lease_until_ms)
    values (${blob.digest}, ${blob.sizeBytes}, ${blob.nowMs}, ${firstLease(tx)})
    on conflict (digest) do nothing returning id`;
  const [row] = await tx.sql<{ id: number }>`/* blob.id */
    select id from blob where digest = ${blob.digest} and state = 'live' ${tx.dialect.forKeyShare}`;
  if (!row) throw beingDeleted(blob.digest);
  const id = toNumber(row.id);
  const placed = await tx.sql`/* blob.place */
    insert into blob_placement (blob_id, location) values (${id}, ${blob.location}) on conflict do nothing
    returning blob_id`;
  // A blob that was known and had no place here: new in this store, or out of service.
  if (placed.length > 0 && isNew.length === 0) {
    const copy = { blobId: id, digest: blob.digest, location: blob.location };
    if ((await healCopy(tx, copy, "pushed", blob.nowMs)) && blob.wasStored) throw justFoundBad(blob.digest);
  }
  return id;
}

/** True when a row says that this store holds the blob, be its bytes good or bad, or that it is being deleted there. */
export async function findPlacement(db: Db, digest: Digest, location: string): Promise<boolean> {
  const rows = await db.sql`/* blob.placed */
    select b.id from blob b join blob_placement p on p.blob_id = b.id
    where b.digest = ${digest} and p.location = ${location}
    union all
    select b.id from blob b join blob_bad_copy c on c.blob_id = b.id
    where b.digest = ${digest} and c.location = ${location}`;
  return rows.length > 0;
}

/** True when the blob is kept, and stays so until the end of the transaction. */
export async function holdBlob(tx: Tx, blobId: number): Promise<boolean> {
  const rows = await tx.sql`/* blob.hold */
    select id from blob where id = ${blobId} and state = 'live' ${tx.dialect.forKeyShare}`;
  return rows.length > 0;
}

/**
 * Makes a blob pullable in a repository and protects it until `leaseUntilMs`. Manifests that were waiting for it (sparse
 * images) are joined to it. Nothing follows in the transaction: what a namespace uses is settled here.
 */
export async function linkBlob(
  config: LinkConfig,
  tx: Tx,
  link: { repositoryId: number; blobId: number; digest: Digest; leaseUntilMs: number; nowMs: number },
): Promise<void> {
  // A manifest that is just being put there is waited for: it may miss this blob, and be missed by the look below.
  if (config.FEATURE_SPARSE_MANIFEST) {
    await tx.sql`/* blob.await_manifest */ select id from repository where id = ${link.repositoryId} ${tx.dialect.forKeyShare}`;
  }
  await tx.sql`/* blob.link */
    insert into repository_blob (repository_id, blob_id, lease_until_ms, created_ms)
    values (${link.repositoryId}, ${link.blobId}, ${link.leaseUntilMs}, ${link.nowMs})
    on conflict (repository_id, blob_id) do update
      set lease_until_ms = excluded.lease_until_ms, deleted_ms = null`;
  // Most repositories never wait for a blob.
  const waiting = await tx.sql<{ manifest_id: number }>`/* blob.waiting */
    select manifest_id from manifest_missing_blob
    where repository_id = ${link.repositoryId} and digest = ${link.digest} limit 1`;
  if (waiting.length > 0) await joinWaiting(config, tx, link);
}

async function joinWaiting(
  config: LinkConfig,
  tx: Tx,
  link: { repositoryId: number; blobId: number; digest: Digest },
): Promise<void> {
  const [repository] = await tx.sql<{ namespace_id: number }>`/* blob.lock_waiting */
    select namespace_id from repository where id = ${link.repositoryId} ${tx.dialect.forNoKeyUpdate}`;
  const [blob] = await tx.sql<{ size_bytes: number }>`/* blob.size */
    select size_bytes from blob where id = ${link.blobId}`;
  if (!repository || !blob) return;
  const change = await countNamed(
    config,
    tx,
    { id: link.repositoryId, namespaceId: toNumber(repository.namespace_id) },
    undefined,
    [{ id: link.blobId, sizeBytes: toNumber(blob.size_bytes) }],
  );
  await tx.sql`/* blob.join_waiting */
    insert into manifest_blob (manifest_id, blob_id, repository_id)
    select manifest_id, ${link.blobId}, repository_id from manifest_missing_blob
    where repository_id = ${link.repositoryId} and digest = ${link.digest}
    on conflict do nothing`;
  await tx.sql`/* blob.end_waiting */
    delete from manifest_missing_blob where repository_id = ${link.repositoryId} and digest = ${link.digest}`;
  await settleUsage(tx, change);
}

/** Hides a blob from its repository, whose collection is due. False when it was not there. */
export async function unlinkBlob(tx: Tx, repositoryId: number, blobId: number, nowMs: number): Promise<boolean> {
  const rows = await tx.sql`/* blob.unlink */
    update repository_blob set deleted_ms = ${nowMs}, lease_until_ms = ${tx.dialect.nowMs}
    where repository_id = ${repositoryId} and blob_id = ${blobId} and deleted_ms is null
    returning blob_id`;
  return rows.length > 0;
}

/** A manifest of the repository that is not deleted and names this blob, undefined when there is none. */
export async function findManifestNamingBlob(
  db: Db,
  repositoryId: number,
  blobId: number,
): Promise<string | undefined> {
  const [row] = await db.sql<{ digest: string }>`/* blob.named_by */
    select m.digest from manifest_blob b join manifest m on m.id = b.manifest_id
    where b.repository_id = ${repositoryId} and b.blob_id = ${blobId} and m.deleted_ms is null limit 1`;
  return row?.digest;
}

/**
 * Repositories that hold a blob, its own namespace's first, at most `limit`: the candidates for a mount without `from`.
 */
export async function listRepositoriesWithBlob(
  db: Db,
  digest: Digest,
  namespaceId: number,
  limit: number,
): Promise<string[]> {
  const rows = await db.sql<{ path: string }>`/* blob.repositories */
    select r.path from blob b
    join repository_blob l on l.blob_id = b.id
    join repository r on r.id = l.repository_id
    where b.digest = ${digest} and b.state = 'live' and l.deleted_ms is null and r.deleted_ms is null
    order by case when r.namespace_id = ${namespaceId} then 0 else 1 end, r.path
    limit ${limit}`;
  return rows.map((row) => row.path);
}

function justFoundBad(digest: Digest): RegistryError {
  return new RegistryError("unavailable", {
    message: `the stored bytes of blob "${digest}" were just found to be wrong; push it again`,
    detail: { digest },
  });
}

function decodeBlob(rows: readonly BlobRow[]): BlobFacts | undefined {
  const [first] = rows;
  if (!first) return undefined;
  return {
    id: toNumber(first.id),
    digest: first.digest as Digest,
    sizeBytes: toNumber(first.size_bytes),
    locations: rows.map((row) => row.location),
  };
}
