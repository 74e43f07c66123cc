/**
 * What makes rows due for collection: called in the transaction in which something stops to keep them. Whether they really
 * go is decided later, under the repository's lock, by looking at all that may keep them.
 */

import type { Tx } from "../../db/db.ts";

/** A lifetime of a tag ended at `endMs`: the repository is due when that leaves the time machine. */
export async function noteEndedTag(tx: Tx, repositoryId: number, endMs: number): Promise<void> {
  await tx.sql`/* gc.note_tag */
    insert into gc_repository (repository_id, due_ms)
    select r.id, ${endMs} + a.tag_expiration_s * 1000
    from repository r join account a on a.id = r.namespace_id where r.id = ${repositoryId}
    on conflict (repository_id) do update set due_ms = excluded.due_ms where gc_repository.due_ms > excluded.due_ms`;
}

/** The namespace keeps its deleted tags for another time from now on: its repositories are looked at anew. */
export async function noteNewWindow(tx: Tx, namespaceId: number): Promise<void> {
  await tx.sql`/* gc.note_window */
    update gc_repository set due_ms = 0
    where repository_id in (select id from repository where namespace_id = ${namespaceId})`;
  await tx.sql`/* gc.note_deleted */
    update manifest set lease_until_ms = ${tx.dialect.nowMs}
    where deleted_ms is not null and lease_until_ms is not null
      and repository_id in (select id from repository where namespace_id = ${namespaceId})`;
  // Deleted repositories that can be restored: their removal is due by the new window. One that runs now has been found due.
  await tx.sql`/* gc.note_purges */
    update job
    set due_ms = (select r.deleted_ms + a.tag_expiration_s * 1000 from repository r join account a on a.id = r.namespace_id
                  where r.id = cast(job.dedupe_key as bigint))
    where queue = 'repositorygc' and attempts_left > 0 and coalesce(lease_until_ms, 0) <= ${tx.dialect.nowMs}
      and dedupe_key in (
        select cast(id as text) from repository where namespace_id = ${namespaceId} and restore_name is not null)`;
}

/** These manifests lost something that kept them; a lease that lasts goes on protecting them. */
export async function noteManifests(tx: Tx, ids: readonly number[]): Promise<void> {
  await tx.sql`/* gc.note_manifests */
    update manifest set lease_until_ms = ${tx.dialect.nowMs}
    where lease_until_ms is null and ${tx.dialect.inList("id", ids)}`;
}

/** The same of blobs in one repository. */
export async function noteLinks(tx: Tx, repositoryId: number, blobIds: readonly number[]): Promise<void> {
  await tx.sql`/* gc.note_links */
    update repository_blob set lease_until_ms = ${tx.dialect.nowMs}
    where repository_id = ${repositoryId} and lease_until_ms = 0 and ${tx.dialect.inList("blob_id", blobIds)}`;
}

/**
 * The same of blobs of the registry. Without asking who else links them: two repositories that let go of one blob at once do
 * not see each other.
 */
export async function noteBlobs(tx: Tx, blobIds: readonly number[]): Promise<void> {
  const { nowMs } = tx.dialect;
  await tx.sql`/* gc.note_blobs */
    update blob set lease_until_ms = ${nowMs}
    where state = 'live' and lease_until_ms < ${nowMs} and ${tx.dialect.inList("id", blobIds)}`;
}
