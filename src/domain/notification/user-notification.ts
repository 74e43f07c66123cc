/** Notices that a user finds in the web page: making them, reading them, putting them aside. Source: quay-behaviour, section 12. */

import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";

/** Kinds as Quay names them. */
export const USER_NOTIFICATION_KINDS = [
  "repo_push",
  "build_queued",
  "build_start",
  "build_success",
  "build_cancelled",
  "build_failure",
  "vulnerability_found",
  "repo_mirror_sync_started",
  "repo_mirror_sync_success",
  "repo_mirror_sync_failed",
  "service_key_submitted",
  "password_required",
  "over_private_usage",
  "expiring_license",
  "maintenance",
  "org_team_invite",
  "assigned_authorization",
  "test_notification",
  "quota_warning",
  "quota_error",
] as const;
export type UserNotificationKind = (typeof USER_NOTIFICATION_KINDS)[number];

export interface UserNotification {
  readonly uuid: string;
  readonly kind: string;
  /** The organization it concerns, by name. */
  readonly organization: string | undefined;
  readonly metadata: Record<string, unknown>;
  readonly dismissed: boolean;
  readonly createdMs: number;
}

export interface NewUserNotification {
  accountId: number;
  kind: UserNotificationKind;
  organizationId?: number;
  metadata: Record<string, unknown>;
  /** Names what it is about, so that it can be taken back when that is settled. */
  subjectKey?: string;
  nowMs: number;
}

/** Gives a user a notice. */
export async function insertUserNotification(tx: Tx, input: NewUserNotification): Promise<void> {
  await tx.sql`/* user_notification.insert */
    insert into user_notification (uuid, account_id, kind, organization_id, metadata, subject_key, created_ms)
    values (${crypto.randomUUID()}, ${input.accountId}, ${input.kind}, ${input.organizationId ?? null},
            ${JSON.stringify(input.metadata)}, ${input.subjectKey ?? null}, ${input.nowMs})`;
}

/** Takes the notices about something back, from every reader. */
export async function deleteUserNotifications(tx: Tx, subjectKey: string): Promise<void> {
  await tx.sql`/* user_notification.settle */ delete from user_notification where subject_key = ${subjectKey}`;
}

/** Forgets the notices about something that their readers dismissed, so that each keeps at most one. */
export async function deleteDismissedNotifications(tx: Tx, subjectKey: string): Promise<void> {
  await tx.sql`/* user_notification.forget */
    delete from user_notification where subject_key = ${subjectKey} and dismissed = true`;
}

interface NotificationRow {
  uuid: string;
  kind: string;
  organization: string | null;
  metadata: string;
  dismissed: unknown;
  created_ms: number;
}

const selectNotification = (db: Db) => db.sql`
  select n.uuid, n.kind, o.username as organization, n.metadata, n.dismissed, n.created_ms
  from user_notification n left join account o on o.id = n.organization_id`;

/** A user's notices that were not put aside, newest first: `limit` of them after the first `skip`. */
export async function listUserNotifications(
  db: Db,
  accountId: number,
  page: { skip: number; limit: number },
): Promise<UserNotification[]> {
  // Quay's page numbers leave no key to go on from; the caller bounds `skip`, and so what is passed over.
  const rows = await db.sql<NotificationRow>`/* user_notification.list */ ${selectNotification(db)}
    where n.account_id = ${accountId} and n.dismissed = false
    order by n.created_ms desc, n.id desc limit ${page.limit} offset ${page.skip}`;
  return rows.map(decode);
}

/** One of the user's own notices, undefined when there is none. */
export async function findUserNotification(
  db: Db,
  accountId: number,
  uuid: string,
): Promise<UserNotification | undefined> {
  const [row] = await db.sql<NotificationRow>`/* user_notification.find */ ${selectNotification(db)}
    where n.uuid = ${uuid} and n.account_id = ${accountId}`;
  return row && decode(row);
}

/** Puts one of the user's own notices aside, or takes it up again; gives it, undefined when there is none. */
export async function dismissUserNotification(
  tx: Tx,
  accountId: number,
  uuid: string,
  dismissed: boolean,
): Promise<UserNotification | undefined> {
  await tx.sql`/* user_notification.dismiss */
    update user_notification set dismissed = ${dismissed} where uuid = ${uuid} and account_id = ${accountId}`;
  return findUserNotification(tx, accountId, uuid);
}

function decode(row: NotificationRow): UserNotification {
  return {
    uuid: row.uuid,
    kind: row.kind,
    organization: row.organization ?? undefined,
    metadata: JSON.parse(row.metadata) as Record<string, unknown>,
    dismissed: toBoolean(row.dismissed),
    createdMs: toNumber(row.created_ms),
  };
}
