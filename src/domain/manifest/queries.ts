/** The SQL of manifests: reading one by tag or digest, writing one with what it names, and taking one away. */

import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Digest } from "../../oci/digest.ts";
import type { ParsedManifest } from "../../oci/manifest.ts";
import type { Reference } from "../../oci/reference.ts";

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
    where l.deleted_ms is null and b.state = 'live' and ${db.dialect.inList("b.digest", digests)}`;
  return new Map(rows.map((row) => [row.digest, { id: toNumber(row.id), sizeBytes: toNumber(row.size_bytes) }]));
}

export interface NewManifest {
  repositoryId: number;
  digest: Digest;
  parsed: ParsedManifest;
  content: Uint8Array;
  nowMs: number;
  /** Protects an untagged manifest from collection until then. */
  leaseUntilMs: number;
}

/** Writes the manifest's row, or revives one that was deleted and is pushed again. Gives its id and whether it is new. */
export async function putManifestRow(tx: Tx, manifest: NewManifest): Promise<{ id: number; isNew: boolean }> {
  const { parsed } = manifest;
  const [existing] = await tx.sql<{ id: number }>`/* manifest.revive */
    update manifest set deleted_ms = null, lease_until_ms = ${manifest.leaseUntilMs}
    where repository_id = ${manifest.repositoryId} and digest = ${manifest.digest} returning id`;
  if (existing) return { id: toNumber(existing.id), isNew: false };
  const [row] = await tx.sql<{ id: number }>`/* manifest.insert */
    insert into manifest (repository_id, digest, kind, media_type, artifact_type, subject_digest, config_media_type,
                          annotations, size_bytes, layers_size_bytes, created_ms, lease_until_ms, content)
    values (${manifest.repositoryId}, ${manifest.digest}, ${parsed.kind}, ${parsed.mediaType},
            ${parsed.artifactType ?? null}, ${parsed.subject?.digest ?? null}, ${parsed.configMediaType ?? null},
            ${JSON.stringify(parsed.annotations)}, ${manifest.content.length}, ${parsed.blobsSizeBytes},
            ${manifest.nowMs}, ${manifest.leaseUntilMs}, ${manifest.content})
    returning id`;
  if (!row) throw new Error("insert into manifest returned no row");
  return { id: toNumber(row.id), isNew: true };
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

/** Joins indexes that were pushed before this child to it (sparse indexes). */
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

/** Hides a manifest. False when it was not there. */
export async function markManifestDeleted(tx: Tx, manifestId: number, nowMs: number): Promise<boolean> {
  const rows = await tx.sql`/* manifest.delete */
    update manifest set deleted_ms = ${nowMs} where id = ${manifestId} and deleted_ms is null returning id`;
  return rows.length > 0;
}
