/** The SQL of manifests: reading one by tag or digest, writing one with what it names, and taking one away. */

import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import type { ParsedManifest } from "../../oci/manifest.ts";
import type { Reference } from "../../oci/reference.ts";
import type { RepositoryFacts } from "../access/facts.ts";

export interface StoredManifest {
  readonly id: number;
  readonly digest: Digest;
  readonly mediaType: string;
  /** The bytes as they were pushed. */
  readonly content: Uint8Array;
  /** When the tag it was found by expires; undefined by digest or without expiry. */
  readonly expiresMs: number | undefined;
}

interface ManifestRow {
  id: number;
  digest: string;
  media_type: string;
  content: Uint8Array;
  expires_ms: number | null;
}

/** Finds what a reference names now, undefined when there is nothing alive. */
export async function findManifestByReference(
  db: Db,
  repositoryId: number,
  reference: Reference,
  nowMs: number,
): Promise<StoredManifest | undefined> {
  const rows =
    reference.kind === "digest"
      ? await db.sql<ManifestRow>`/* manifest.by_digest */
          select id, digest, media_type, content, null as expires_ms from manifest
          where repository_id = ${repositoryId} and digest = ${reference.digest} and deleted_ms is null`
      : await db.sql<ManifestRow>`/* manifest.by_tag */
          select m.id, m.digest, m.media_type, m.content, t.expires_ms
          from tag t join manifest m on m.id = t.manifest_id
          where t.repository_id = ${repositoryId} and t.name = ${reference.tag} and t.end_ms is null
            and (t.expires_ms is null or t.expires_ms > ${nowMs}) and m.deleted_ms is null`;
  const [row] = rows;
  if (!row) return undefined;
  return {
    id: toNumber(row.id),
    digest: row.digest as Digest,
    mediaType: row.media_type,
    content: row.content,
    expiresMs: row.expires_ms === null ? undefined : toNumber(row.expires_ms),
  };
}

/** Changes of tags and manifests in one repository take turns, and none goes on in one that is being deleted. */
export async function lockRepository(tx: Tx, repository: Pick<RepositoryFacts, "id" | "path">): Promise<void> {
  const rows = await tx.sql`/* manifest.lock_repository */
    select id from repository where id = ${repository.id} and deleted_ms is null ${tx.dialect.forUpdate}`;
  if (rows.length > 0) return;
  throw new RegistryError("name_unknown", { message: "repository not found", detail: { name: repository.path } });
}

/** A manifest without its content, deleted ones too: those can be restored until they are collected. */
export async function findManifestRow(
  db: Db,
  repositoryId: number,
  digest: Digest,
): Promise<{ id: number; isDeleted: boolean } | undefined> {
  const [row] = await db.sql<{ id: number; deleted_ms: number | null }>`/* manifest.row */
    select id, deleted_ms from manifest where repository_id = ${repositoryId} and digest = ${digest}`;
  return row && { id: toNumber(row.id), isDeleted: row.deleted_ms !== null };
}

/** A manifest that can be pulled. Throws `not_found`. */
export async function requireManifest(db: Db, repositoryId: number, digest: Digest): Promise<{ id: number }> {
  const row = await findManifestRow(db, repositoryId, digest);
  if (!row || row.isDeleted) throw new RegistryError("not_found");
  return row;
}

export async function findManifestDigest(db: Db, manifestId: number): Promise<Digest | undefined> {
  const [row] = await db.sql<{ digest: string }>`/* manifest.digest */
    select digest from manifest where id = ${manifestId}`;
  return row?.digest as Digest | undefined;
}

/** False when a blob that the manifest names has been collected from the repository. */
export async function hasAllBlobs(db: Db, repositoryId: number, manifestId: number): Promise<boolean> {
  const rows = await db.sql`/* manifest.lost_blob */
    select 1 as one from manifest_blob n
    left join repository_blob l on l.repository_id = ${repositoryId} and l.blob_id = n.blob_id
    where n.manifest_id = ${manifestId} and l.blob_id is null limit 1`;
  return rows.length === 0;
}

/** Ids of the named manifests that are alive in the repository, by digest. */
export async function findManifestIds(
  db: Db,
  repositoryId: number,
  digests: readonly Digest[],
): Promise<Map<string, number>> {
  if (digests.length === 0) return new Map();
  const rows = await db.sql<{ id: number; digest: string }>`/* manifest.ids */
    select id, digest from manifest
    where repository_id = ${repositoryId} and deleted_ms is null and ${db.dialect.inList("digest", digests)}`;
  return new Map(rows.map((row) => [row.digest, toNumber(row.id)]));
}

/** Ids and sizes of the named blobs that can be pulled from the repository, by digest. */
export async function findLinkedBlobs(
  db: Db,
  repositoryId: number,
  digests: readonly Digest[],
): Promise<Map<string, { id: number; sizeBytes: number }>> {
  if (digests.length === 0) return new Map();
  const rows = await db.sql<{ id: number; digest: string; size_bytes: number }>`/* manifest.linked_blobs */
    select b.id, b.digest, b.size_bytes from blob b
    join repository_blob l on l.blob_id = b.id and l.repository_id = ${repositoryId}
    where l.deleted_ms is null and b.state = 'live' and ${db.dialect.inList("b.digest", digests)}
      and exists (select 1 from blob_placement p where p.blob_id = b.id)`;
  return new Map(rows.map((row) => [row.digest, { id: toNumber(row.id), sizeBytes: toNumber(row.size_bytes) }]));
}

export interface NewManifest {
  repositoryId: number;
  digest: Digest;
  parsed: ParsedManifest;
  content: Uint8Array;
  nowMs: number;
  /** Protects an untagged manifest from collection until then; null for one that a tag keeps. */
  leaseUntilMs: number | null;
}

/** Writes the manifest's row, or revives one that was deleted and is pushed again. Gives its id and whether it is new. */
export async function putManifestRow(tx: Tx, manifest: NewManifest): Promise<{ id: number; isNew: boolean }> {
  const { parsed } = manifest;
  const [existing] = await tx.sql<{ id: number }>`/* manifest.revive */
    update manifest set deleted_ms = null, lease_until_ms = coalesce(${manifest.leaseUntilMs}, lease_until_ms)
    where repository_id = ${manifest.repositoryId} and digest = ${manifest.digest} returning id`;
  if (existing) return { id: toNumber(existing.id), isNew: false };
  const [row] = await tx.sql<{ id: number }>`/* manifest.insert */
    insert into manifest (repository_id, digest, kind, media_type, artifact_type, subject_digest, config_media_type,
                          annotations, size_bytes, layers_size_bytes, compressed_size_bytes, created_ms,
                          lease_until_ms, content)
    values (${manifest.repositoryId}, ${manifest.digest}, ${parsed.kind}, ${parsed.mediaType},
            ${parsed.artifactType ?? null}, ${parsed.subject?.digest ?? null}, ${parsed.configMediaType ?? null},
            ${JSON.stringify(parsed.annotations)}, ${manifest.content.length}, ${parsed.blobsSizeBytes},
            ${parsed.kind === "image" ? sumLayers(parsed) : null}, ${manifest.nowMs}, ${manifest.leaseUntilMs},
            ${manifest.content})
    returning id`;
  if (!row) throw new Error("insert into manifest returned no row");
  return { id: toNumber(row.id), isNew: true };
}

/** As Quay counts an image's size: every layer each time it is named, without the config. */
function sumLayers(parsed: ParsedManifest): number {
  return Math.min(
    parsed.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0),
    Number.MAX_SAFE_INTEGER,
  );
}

/** Brings a deleted manifest back. */
export async function reviveManifest(tx: Tx, manifestId: number, leaseUntilMs: number): Promise<void> {
  await tx.sql`/* manifest.restore */
    update manifest set deleted_ms = null, lease_until_ms = ${leaseUntilMs} where id = ${manifestId}`;
}

/** Ends the protection that a push gave the manifests of an index: from here on only tags and indexes keep them. */
export async function endChildLeases(tx: Tx, manifestId: number): Promise<void> {
  await tx.sql`/* manifest.end_child_leases */
    update manifest set lease_until_ms = null
    where lease_until_ms is not null
      and id in (select child_id from manifest_child where manifest_id = ${manifestId} and child_id is not null)`;
}

/** The same for one manifest, which nothing else may keep: its collection is due. */
export async function endLease(tx: Tx, manifestId: number): Promise<void> {
  await tx.sql`/* manifest.end_lease */
    update manifest set lease_until_ms = ${tx.dialect.nowMs} where id = ${manifestId}`;
}

export async function insertManifestBlob(
  tx: Tx,
  row: { manifestId: number; blobId: number; repositoryId: number },
): Promise<void> {
  await tx.sql`/* manifest.name_blob */
    insert into manifest_blob (manifest_id, blob_id, repository_id)
    values (${row.manifestId}, ${row.blobId}, ${row.repositoryId}) on conflict do nothing`;
}

/** A deleted manifest that comes back needs its blobs again: those hidden since are shown. */
export async function showBlobsOf(tx: Tx, repositoryId: number, manifestId: number): Promise<void> {
  await tx.sql`/* manifest.show_blobs */
    update repository_blob set deleted_ms = null
    where repository_id = ${repositoryId} and deleted_ms is not null
      and blob_id in (select blob_id from manifest_blob where manifest_id = ${manifestId})`;
}

export async function insertMissingBlob(
  tx: Tx,
  row: { manifestId: number; digest: Digest; repositoryId: number },
): Promise<void> {
  await tx.sql`/* manifest.await_blob */
    insert into manifest_missing_blob (repository_id, digest, manifest_id)
    values (${row.repositoryId}, ${row.digest}, ${row.manifestId}) on conflict do nothing`;
}

export async function insertChild(
  tx: Tx,
  row: { manifestId: number; position: number; repositoryId: number; digest: Digest; childId: number | undefined },
): Promise<void> {
  await tx.sql`/* manifest.name_child */
    insert into manifest_child (manifest_id, position, repository_id, child_digest, child_id)
    values (${row.manifestId}, ${row.position}, ${row.repositoryId}, ${row.digest}, ${row.childId ?? null})`;
}

/** Joins indexes to this child that were pushed before it, or while it was deleted (sparse indexes): they keep it. */
export async function joinWaitingParents(
  tx: Tx,
  repositoryId: number,
  digest: Digest,
  manifestId: number,
): Promise<void> {
  await tx.sql`/* manifest.join_parents */
    update manifest_child set child_id = ${manifestId}
    where repository_id = ${repositoryId} and child_digest = ${digest} and child_id is null`;
}

/**
 * Hides a manifest, which is due for collection when it cannot be restored any more: what its push protected is over. False
 * when it was not there.
 */
export async function markManifestDeleted(tx: Tx, manifestId: number, nowMs: number): Promise<boolean> {
  const rows = await tx.sql`/* manifest.delete */
    update manifest set deleted_ms = ${nowMs}, lease_until_ms = ${tx.dialect.nowMs}
    where id = ${manifestId} and deleted_ms is null returning id`;
  return rows.length > 0;
}
