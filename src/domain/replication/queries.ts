/** The SQL of copies between stores: what a blob is and where, how far its copy has come, and its end. */

import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { databaseNowMs } from "../../db/now.ts";
import type { Digest } from "../../oci/digest.ts";
import { healCopy } from "../blob/bad-copies.ts";
import { placementKey } from "../lookup/lookup.ts";

export interface BlobToCopy {
  readonly id: number;
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Names of the stores that hold its bytes. */
  readonly locations: readonly string[];
}

/** How far the copy of a blob to one store has come. */
export interface CopyProgress {
  readonly uploadId: string;
  /** The driver's; empty as long as the store has not heard of the upload. */
  readonly uploadState: string;
  readonly offsetBytes: number;
  /** The store that all bytes so far came from; undefined when there are none, or they came from several. */
  readonly source: string | undefined;
}

/** A blob that lives; undefined when it is gone or being collected. */
export async function findBlobToCopy(db: Db, blobId: number): Promise<BlobToCopy | undefined> {
  const rows = await db.sql<{ digest: string; size_bytes: number; location: string }>`/* replication.blob */
    select b.digest, b.size_bytes, p.location from blob b join blob_placement p on p.blob_id = b.id
    where b.id = ${blobId} and b.state = 'live'`;
  const [first] = rows;
  if (!first) return undefined;
  return {
    id: blobId,
    digest: first.digest as Digest,
    sizeBytes: toNumber(first.size_bytes),
    locations: rows.map((row) => row.location),
  };
}

export async function findProgress(db: Db, blobId: number, location: string): Promise<CopyProgress | undefined> {
  const [row] = await db.sql<{
    upload_id: string;
    upload_state: string;
    offset_bytes: number;
    source: string | null;
  }>`/* replication.progress */
    select upload_id, upload_state, offset_bytes, source from blob_copy
    where blob_id = ${blobId} and location = ${location}`;
  if (!row) return undefined;
  return {
    uploadId: row.upload_id,
    uploadState: row.upload_state,
    offsetBytes: toNumber(row.offset_bytes),
    source: row.source ?? undefined,
  };
}

/** Notes a new copy, in the place of any earlier one. */
export async function startProgress(tx: Tx, blobId: number, location: string, uploadId: string): Promise<void> {
  await tx.sql`/* replication.start */
    insert into blob_copy (blob_id, location, upload_id, updated_ms)
    values (${blobId}, ${location}, ${uploadId}, ${tx.dialect.nowMs})
    on conflict (blob_id, location) do update
      set upload_id = excluded.upload_id, upload_state = '', offset_bytes = 0, source = null,
          updated_ms = excluded.updated_ms`;
}

/** Notes how far a copy is. False when another one has taken its place. */
export async function saveProgress(tx: Tx, blobId: number, location: string, progress: CopyProgress): Promise<boolean> {
  const rows = await tx.sql`/* replication.save */
    update blob_copy
    set upload_state = ${progress.uploadState}, offset_bytes = ${progress.offsetBytes}, source = ${progress.source ?? null},
        updated_ms = ${tx.dialect.nowMs}
    where blob_id = ${blobId} and location = ${location} and upload_id = ${progress.uploadId} returning blob_id`;
  return rows.length > 0;
}

export async function endProgress(tx: Tx, blobId: number, location: string): Promise<void> {
  await tx.sql`/* replication.end */ delete from blob_copy where blob_id = ${blobId} and location = ${location}`;
}

/**
 * Records that a store holds a blob now, which is back there if it was out of service, and ends its copy. Nothing is
 * recorded for a blob that is being collected: that waits for the end of its copies and then deletes from their stores as
 * well.
 */
export async function placeCopy(tx: Tx, blob: Pick<BlobToCopy, "id" | "digest">, location: string): Promise<void> {
  const [alive] = await tx.sql`/* replication.alive */
    select id from blob where id = ${blob.id} and state = 'live' ${tx.dialect.forUpdate}`;
  if (alive) {
    const placed = await tx.sql`/* replication.place */
      insert into blob_placement (blob_id, location) values (${blob.id}, ${location}) on conflict do nothing
      returning blob_id`;
    if (placed.length > 0) {
      await healCopy(tx, { blobId: blob.id, digest: blob.digest, location }, "copied", await databaseNowMs(tx));
    }
    tx.changed(placementKey(blob.digest));
  }
  await endProgress(tx, blob.id, location);
}
