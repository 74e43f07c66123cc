/** The SQL of upload sessions. */

import type { Database, Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { type Digest, type DigestAlgorithm, findDigest } from "../../oci/digest.ts";

/** After power loss no claim has a process that goes with it. */
const CLAIMING = { durable: false } as const;

export interface UploadSession {
  readonly id: string;
  readonly repositoryId: number;
  readonly accountId: number;
  readonly location: string;
  readonly storageState: string;
  readonly algorithm: DigestAlgorithm;
  readonly offsetBytes: number;
  /** Digest of the stored bytes in `algorithm`; undefined when no instance knows it. */
  readonly digest: Digest | undefined;
  /** The blob that a request has begun to make of it, where `digest` is not the same: `end.ts`. */
  readonly blobDigest: Digest | undefined;
  readonly expiresMs: number;
  /** The claim that the row held when it was read, see `claim.ts`; undefined when nobody had it. */
  readonly writer: string | undefined;
  /** When that claim ends unless it is renewed, epoch ms by the database's clock. */
  readonly writerUntilMs: number | undefined;
}

interface UploadRow {
  id: string;
  repository_id: number;
  account_id: number;
  location: string;
  storage_state: string;
  digest_algorithm: string;
  offset_bytes: number;
  digest: string | null;
  blob_digest: string | null;
  expires_ms: number;
  writer: string | null;
  writer_until_ms: number | null;
}

export async function insertUpload(
  tx: Tx,
  upload: UploadSession & { principal: string; createdMs: number },
): Promise<void> {
  await tx.sql`/* upload.insert */
    insert into upload_session (id, repository_id, account_id, principal, location, storage_state, digest_algorithm,
                                offset_bytes, blob_digest, created_ms, expires_ms)
    values (${upload.id}, ${upload.repositoryId}, ${upload.accountId}, ${upload.principal}, ${upload.location},
            ${upload.storageState}, ${upload.algorithm}, ${upload.offsetBytes}, ${upload.blobDigest ?? null},
            ${upload.createdMs}, ${upload.expiresMs})`;
}

export async function findUpload(db: Db, id: string): Promise<UploadSession | undefined> {
  const [row] = await db.sql<UploadRow>`/* upload.find */
    select ${columns(db)}
    from upload_session where id = ${id}`;
  return row && decodeUpload(row);
}

/**
 * Moves a session on, if it still stands where the caller found it and is held by the claim where there is one, which is then
 * given up. False when another request was faster.
 */
export async function advanceUpload(
  tx: Tx,
  upload: UploadSession,
  next: Pick<UploadSession, "offsetBytes" | "storageState" | "algorithm" | "digest">,
  claimId?: string,
): Promise<boolean> {
  const givenUp = claimId === undefined ? tx.sql`` : tx.sql`, writer = null, writer_until_ms = null`;
  const rows = await tx.sql`/* upload.advance */
    update upload_session
    set offset_bytes = ${next.offsetBytes}, storage_state = ${next.storageState}, digest_algorithm = ${next.algorithm},
        digest = ${next.digest ?? null} ${givenUp}
    where id = ${upload.id} and offset_bytes = ${upload.offsetBytes} ${heldBy(tx, claimId)} returning id`;
  return rows.length > 0;
}

/** True when the row was there, and held by the claim where there is one. */
export async function deleteUploadRow(tx: Tx, id: string, claimId?: string): Promise<boolean> {
  const rows = await tx.sql`/* upload.delete */
    delete from upload_session where id = ${id} ${heldBy(tx, claimId)} returning id`;
  return rows.length > 0;
}

/** Notes what a request is about to make of an upload. False when the session is over. */
export async function noteBlobDigest(tx: Tx, id: string, digest: Digest): Promise<boolean> {
  const rows = await tx.sql`/* upload.note_blob */
    update upload_session set blob_digest = ${digest} where id = ${id} returning id`;
  return rows.length > 0;
}

function heldBy(db: Db, claimId: string | undefined) {
  return claimId === undefined ? db.sql`` : db.sql`and writer = ${claimId}`;
}

/** Takes a session as it was read, unless another claim on it is alive or it has moved on. True when it is taken. */
export async function claimUpload(
  db: Database,
  session: UploadSession,
  claimId: string,
  forMs: number,
): Promise<boolean> {
  const { nowMs } = db.dialect;
  return db.tx(async (tx) => {
    const rows = await tx.sql`/* upload.claim */
      update upload_session set writer = ${claimId}, writer_until_ms = ${nowMs} + ${forMs}
      where id = ${session.id} and offset_bytes = ${session.offsetBytes}
        and (writer is null or (writer = ${session.writer ?? ""} and writer_until_ms <= ${nowMs}))
      returning id`;
    return rows.length > 0;
  }, CLAIMING);
}

/** False when another has it, or the session is over. */
export async function renewClaim(db: Database, id: string, claimId: string, forMs: number): Promise<boolean> {
  return db.tx(async (tx) => {
    const rows = await tx.sql`/* upload.renew */
      update upload_session set writer_until_ms = ${tx.dialect.nowMs} + ${forMs}
      where id = ${id} and writer = ${claimId} returning id`;
    return rows.length > 0;
  }, CLAIMING);
}

/** Nobody holds the session any more; does nothing when another has it by now. */
export async function releaseUpload(db: Database, id: string, claimId: string): Promise<void> {
  await db.tx(async (tx) => {
    await tx.sql`/* upload.release */
      update upload_session set writer = null, writer_until_ms = null where id = ${id} and writer = ${claimId}`;
  }, CLAIMING);
}

/** Sessions of a store whose time is over, oldest first, at most `limit`. */
export async function listExpiredUploads(
  db: Db,
  location: string,
  nowMs: number,
  limit: number,
): Promise<UploadSession[]> {
  const rows = await db.sql<UploadRow>`/* upload.expired */
    select ${columns(db)}
    from upload_session where location = ${location} and expires_ms <= ${nowMs} order by expires_ms limit ${limit}`;
  return rows.map(decodeUpload);
}

function columns(db: Db) {
  return db.sql`id, repository_id, account_id, location, storage_state, digest_algorithm, offset_bytes, digest, blob_digest,
           expires_ms, writer, writer_until_ms`;
}

function decodeUpload(row: UploadRow): UploadSession {
  return {
    id: row.id,
    repositoryId: toNumber(row.repository_id),
    accountId: toNumber(row.account_id),
    location: row.location,
    storageState: row.storage_state,
    algorithm: row.digest_algorithm === "sha512" ? "sha512" : "sha256",
    offsetBytes: toNumber(row.offset_bytes),
    digest: row.digest === null ? undefined : findDigest(row.digest),
    blobDigest: row.blob_digest === null ? undefined : findDigest(row.blob_digest),
    expiresMs: toNumber(row.expires_ms),
    writer: row.writer ?? undefined,
    writerUntilMs: row.writer_until_ms === null ? undefined : toNumber(row.writer_until_ms),
  };
}
