/**
 * Service keys as rows: public keys by which other services, and this registry's own tokens, are known. The private half is
 * kept only of the keys that this registry signs with (`domain/token/keys.ts`).
 */

import type { Db, SqlQuery, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";

/** How a key came to be trusted. Quay keeps the names of its enumeration's members. */
export type ApprovalType =
  | "ServiceKeyApprovalType.SUPERUSER"
  | "ServiceKeyApprovalType.KEY_ROTATION"
  | "ServiceKeyApprovalType.AUTOMATIC";

export interface Approver {
  readonly username: string;
  readonly kind: "user";
  readonly email: string | undefined;
  readonly verified: boolean;
  readonly enabled: boolean;
  readonly promoted: boolean;
}

export interface Approval {
  readonly type: ApprovalType;
  readonly approvedMs: number;
  readonly notes: string;
  readonly approverId: number | undefined;
  /** Undefined for keys that nobody approved, and when the approver is gone. */
  readonly approver: Approver | undefined;
}

export interface ServiceKey {
  readonly kid: string;
  readonly service: string;
  readonly name: string;
  readonly jwk: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly createdMs: number;
  readonly expiresMs: number | undefined;
  /** How long a replaced key still counts, seconds; as its service asked for. */
  readonly rotationSeconds: number | undefined;
  readonly approval: Approval | undefined;
  /** This registry signs its tokens with it, or has until lately. */
  readonly isOwn: boolean;
}

interface KeyRow {
  kid: string;
  service: string;
  name: string;
  public_jwk: string;
  metadata: string;
  created_ms: number;
  expires_ms: number | null;
  rotation_duration_s: number | null;
  own: unknown;
  approval_type: ApprovalType | null;
  approved_ms: number | null;
  approval_notes: string;
  approver_id: number | null;
  username: string | null;
  email: string | null;
  verified: unknown;
  enabled: unknown;
  superuser: unknown;
}

const selectKey = (db: Db) => db.sql`
  select k.kid, k.service, k.name, k.public_jwk, k.metadata, k.created_ms, k.expires_ms, k.rotation_duration_s,
         k.private_encrypted is not null as own, k.approval_type, k.approved_ms, k.approval_notes, k.approver_id,
         a.username, a.email, a.verified, a.enabled, a.superuser
  from service_key k left join account a on a.id = k.approver_id and a.deleted_ms is null`;

/** Keys of every service by id, after `last`. */
export async function listKeys(db: Db, page: { last: string; limit: number }): Promise<ServiceKey[]> {
  const rows = await db.sql<KeyRow>`/* service_key.list */ ${selectKey(db)}
    where k.kid > ${page.last} order by k.kid limit ${page.limit}`;
  return rows.map(decode);
}

export async function findKey(db: Db, kid: string): Promise<ServiceKey | undefined> {
  const [row] = await db.sql<KeyRow>`/* service_key.find */ ${selectKey(db)} where k.kid = ${kid}`;
  return row && decode(row);
}

/** The key, held until the transaction ends. */
export async function lockKey(tx: Tx, kid: string): Promise<ServiceKey | undefined> {
  // The lock stands by itself: PostgreSQL takes none on the outer side of a join.
  await tx.sql`/* service_key.lock */ select kid from service_key where kid = ${kid} ${tx.dialect.forUpdate}`;
  return findKey(tx, kid);
}

/** Keys of one service that may be relied on, the newest first, at most `limit`. */
export async function listTrustedKeys(db: Db, service: string, nowMs: number, limit: number): Promise<ServiceKey[]> {
  const rows = await db.sql<KeyRow>`/* service_key.trusted */ ${selectKey(db)}
    where k.service = ${service} and k.approved_ms is not null and (k.expires_ms is null or k.expires_ms > ${nowMs})
    order by k.created_ms desc, k.kid limit ${limit}`;
  return rows.map(decode);
}

export interface NewKey {
  readonly kid: string;
  readonly service: string;
  readonly name: string;
  readonly jwk: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly expiresMs: number | undefined;
  readonly rotationSeconds: number | undefined;
  readonly approval: Omit<Approval, "approver"> | undefined;
  readonly nowMs: number;
}

/** False when there is a key of this id. */
export async function insertKey(tx: Tx, key: NewKey): Promise<boolean> {
  const { approval } = key;
  const rows = await tx.sql`/* service_key.insert */
    insert into service_key (kid, service, name, public_jwk, metadata, created_ms, expires_ms, rotation_duration_s,
                             approval_type, approved_ms, approval_notes, approver_id)
    values (${key.kid}, ${key.service}, ${key.name}, ${JSON.stringify(key.jwk)}, ${JSON.stringify(key.metadata)},
            ${key.nowMs}, ${key.expiresMs ?? null}, ${key.rotationSeconds ?? null}, ${approval?.type ?? null},
            ${approval?.approvedMs ?? null}, ${approval?.notes ?? ""}, ${approval?.approverId ?? null})
    on conflict do nothing returning kid`;
  return rows.length === 1;
}

/** Columns to change; undefined leaves a column as it is. */
export interface KeyChange {
  readonly name?: string | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /** null: never. */
  readonly expiresMs?: number | null | undefined;
}

export async function updateKey(tx: Tx, key: ServiceKey, change: KeyChange): Promise<void> {
  const expiresMs = change.expiresMs === undefined ? (key.expiresMs ?? null) : change.expiresMs;
  await tx.sql`/* service_key.update */
    update service_key
    set name = ${change.name ?? key.name}, metadata = ${JSON.stringify(change.metadata ?? key.metadata)},
        expires_ms = ${expiresMs}
    where kid = ${key.kid}`;
}

export async function setApproval(tx: Tx, kid: string, approval: Omit<Approval, "approver">): Promise<void> {
  await tx.sql`/* service_key.approve */
    update service_key
    set approval_type = ${approval.type}, approved_ms = ${approval.approvedMs}, approval_notes = ${approval.notes},
        approver_id = ${approval.approverId ?? null}
    where kid = ${kid}`;
}

/** False when it was gone already. */
export async function removeKey(tx: Tx, kid: string): Promise<boolean> {
  const rows = await tx.sql`/* service_key.delete */ delete from service_key where kid = ${kid} returning kid`;
  return rows.length === 1;
}

/** How many keys wait for approval, counted up to `limit`. */
export async function countUnapproved(db: Db, limit: number): Promise<number> {
  const [row] = await db.sql<{ waiting: number }>`/* service_key.waiting */
    select count(*) as waiting from (select kid from service_key where approved_ms is null limit ${limit}) w`;
  return toNumber(row?.waiting ?? 0);
}

/** Ids of keys that nobody approved in time, and of keys that have been over for long; at most `limit`. */
export async function findStaleKeys(
  db: Db,
  before: { createdMs: number; expiresMs: number },
  limit: number,
): Promise<string[]> {
  const rows = await db.sql<{ kid: string }>`/* service_key.stale */
    select kid from service_key where approved_ms is null and created_ms <= ${before.createdMs}
    union
    select kid from service_key where expires_ms <= ${before.expiresMs}
    limit ${limit}`;
  return rows.map((row) => row.kid);
}

/** Takes back what superusers were told about keys. */
export async function endNotices(tx: Tx, kids: readonly string[]): Promise<void> {
  await tx.sql`/* service_key.end_notices */
    delete from user_notification where ${inSubjects(tx, kids)}`;
}

function inSubjects(tx: Tx, kids: readonly string[]): SqlQuery<never> {
  return tx.dialect.inList("subject_key", kids.map(subjectOf));
}

/** Tells an account that a key waits for approval. */
export async function insertNotice(
  tx: Tx,
  notice: { accountId: number; kid: string; metadata: Readonly<Record<string, unknown>>; nowMs: number },
): Promise<void> {
  await tx.sql`/* service_key.notice */
    insert into user_notification (uuid, account_id, kind, metadata, subject_key, created_ms)
    values (${crypto.randomUUID()}, ${notice.accountId}, 'service_key_submitted', ${JSON.stringify(notice.metadata)},
            ${subjectOf(notice.kid)}, ${notice.nowMs})`;
}

function subjectOf(kid: string): string {
  return `service_key:${kid}`;
}

function decode(row: KeyRow): ServiceKey {
  return {
    kid: row.kid,
    service: row.service,
    name: row.name,
    // Written by us, from what was checked before.
    jwk: JSON.parse(row.public_jwk),
    metadata: JSON.parse(row.metadata),
    createdMs: toNumber(row.created_ms),
    expiresMs: row.expires_ms === null ? undefined : toNumber(row.expires_ms),
    rotationSeconds: row.rotation_duration_s === null ? undefined : toNumber(row.rotation_duration_s),
    approval: decodeApproval(row),
    isOwn: toBoolean(row.own),
  };
}

function decodeApproval(row: KeyRow): Approval | undefined {
  if (row.approval_type === null || row.approved_ms === null) return undefined;
  return {
    type: row.approval_type,
    approvedMs: toNumber(row.approved_ms),
    notes: row.approval_notes,
    approverId: row.approver_id === null ? undefined : toNumber(row.approver_id),
    approver:
      row.username === null
        ? undefined
        : {
            username: row.username,
            kind: "user",
            email: row.email ?? undefined,
            verified: toBoolean(row.verified),
            enabled: toBoolean(row.enabled),
            promoted: toBoolean(row.superuser),
          },
  };
}
