/** The SQL of upload sessions. */

import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { DigestAlgorithm } from "../../oci/digest.ts";

export interface UploadSession {
  readonly id: string;
  readonly repositoryId: number;
  readonly accountId: number;
  readonly location: string;
  readonly storageState: string;
  readonly algorithm: DigestAlgorithm;
  readonly offsetBytes: number;
  readonly expiresMs: number;
}

interface UploadRow {
  id: string;
  repository_id: number;
  account_id: number;
  location: string;
  storage_state: string;
  digest_algorithm: string;
  offset_bytes: number;
  expires_ms: number;
}

export async function insertUpload(
  tx: Tx,
  upload: UploadSession & { principal: string; createdMs: number },
): Promise<void> {
  await tx.sql`/* upload.insert */
    insert into upload_session (id, repository_id, account_id, principal, location, storage_state, digest_algorithm,
                                offset_bytes, created_ms, expires_ms)
    values (${upload.id}, ${upload.repositoryId}, ${upload.accountId}, ${upload.principal}, ${upload.location},
            ${upload.storageState}, ${upload.algorithm}, ${upload.offsetBytes}, ${upload.createdMs},
            ${upload.expiresMs})`;
}

export async function findUpload(db: Db, id: string): Promise<UploadSession | undefined> {
  const [row] = await db.sql<UploadRow>`/* upload.find */
    select id, repository_id, account_id, location, storage_state, digest_algorithm, offset_bytes, expires_ms
    from upload_session where id = ${id}`;
  return row && decodeUpload(row);
}

/** Moves a session on, if it still stands where the caller found it. False when another request was faster. */
export async function advanceUpload(
  tx: Tx,
  upload: UploadSession,
  next: { offsetBytes: number; storageState: string; algorithm: DigestAlgorithm },
): Promise<boolean> {
  const rows = await tx.sql`/* upload.advance */
    update upload_session
    set offset_bytes = ${next.offsetBytes}, storage_state = ${next.storageState}, digest_algorithm = ${next.algorithm}
    where id = ${upload.id} and offset_bytes = ${upload.offsetBytes} returning id`;
  return rows.length > 0;
}

/** True when the row was there. */
export async function deleteUploadRow(tx: Tx, id: string): Promise<boolean> {
  const rows = await tx.sql`/* upload.delete */ delete from upload_session where id = ${id} returning id`;
  return rows.length > 0;
}

/** Sessions whose time is over, oldest first, at most `limit`. */
export async function listExpiredUploads(db: Db, nowMs: number, limit: number): Promise<UploadSession[]> {
  const rows = await db.sql<UploadRow>`/* upload.expired */
    select id, repository_id, account_id, location, storage_state, digest_algorithm, offset_bytes, expires_ms
    from upload_session where expires_ms <= ${nowMs} order by expires_ms limit ${limit}`;
  return rows.map(decodeUpload);
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
    expiresMs: toNumber(row.expires_ms),
  };
}
