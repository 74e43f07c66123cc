/**
 * Holds namespaces to what they were given: early where an upload begins or grows, and for good in the transaction of a
 * manifest, whose bytes are known and whose namespace's row is locked. Source: quay-behaviour reference, section 9.
 */

import type { App } from "../../app.ts";
import type { Database, Db, SqlQuery, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { deleteDismissedNotifications, insertUserNotification } from "../notification/user-notification.ts";
import { settleUsage, type UsageChange } from "./count.ts";

type CheckApp = Pick<App, "config" | "db" | "clock" | "log">;
type CheckConfig = App["config"];

export type Severity = "Warning" | "Reject";

interface Threshold {
  /** Exceeded above this. */
  readonly bytes: number;
  readonly severity: Severity;
}

/** What a namespace uses, and where its limits lie. */
export interface QuotaState {
  readonly namespaceId: number;
  readonly sizeBytes: number;
  readonly thresholds: readonly Threshold[];
}

/** Of the limits that `sizeBytes` exceeds, the highest decides: a warning above a rejection lets pushes through. */
export function severityAt(thresholds: readonly Threshold[], sizeBytes: number): Severity | undefined {
  let decisive: Threshold | undefined;
  for (const threshold of thresholds) {
    if (sizeBytes > threshold.bytes && threshold.bytes >= (decisive?.bytes ?? 0)) decisive = threshold;
  }
  return decisive?.severity;
}

/** Bytes at which a limit of so many percent begins, rounded down as Quay does. */
export function thresholdBytes(limitBytes: number, percent: number): number {
  return Number((BigInt(limitBytes) * BigInt(percent)) / 100n);
}

/** The quota state of a repository's namespace; undefined where nothing is checked. Costs one query. */
export async function findQuotaState(
  config: CheckConfig,
  db: Db,
  repositoryId: number,
): Promise<QuotaState | undefined> {
  if (!config.FEATURE_QUOTA_MANAGEMENT || !config.FEATURE_VERIFY_QUOTA) return undefined;
  const rows = await db.sql<{
    namespace_id: number;
    size_bytes: number | null;
    limit_bytes: number | null;
    type: Severity | null;
    threshold_percent: number | null;
  }>`/* quota.state */
    select r.namespace_id, n.size_bytes, q.limit_bytes, l.type, l.threshold_percent
    from repository r
    left join namespace_usage n on n.namespace_id = r.namespace_id
    left join namespace_quota q on q.namespace_id = r.namespace_id
    left join namespace_quota_limit l on l.quota_id = q.id
    where r.id = ${repositoryId}`;
  const [first] = rows;
  if (!first) return undefined;
  const systemBytes = config.DEFAULT_SYSTEM_REJECT_QUOTA_BYTES;
  const own = rows.flatMap(({ limit_bytes, type, threshold_percent }): Threshold[] =>
    limit_bytes === null || type === null || threshold_percent === null
      ? []
      : [{ bytes: thresholdBytes(toNumber(limit_bytes), toNumber(threshold_percent)), severity: type }],
  );
  // The registry's limit is reached where a namespace's own is exceeded.
  const byDefault: Threshold[] = systemBytes > 0 ? [{ bytes: systemBytes - 1, severity: "Reject" }] : [];
  return {
    namespaceId: toNumber(first.namespace_id),
    sizeBytes: toNumber(first.size_bytes ?? 0),
    thresholds: first.limit_bytes === null ? byDefault : own,
  };
}

/** A push that its namespace has no room for. */
export class QuotaExceededError extends RegistryError {
  readonly namespaceId: number;

  constructor(namespaceId: number) {
    super("denied", { message: "Quota has been exceeded on namespace", detail: { decision: "quota" } });
    this.namespaceId = namespaceId;
  }
}

/** Refuses an upload whose bytes so far do not fit any more. */
export function requireRoom(state: QuotaState | undefined, uploadedBytes: number): void {
  if (!state || severityAt(state.thresholds, state.sizeBytes + uploadedBytes) !== "Reject") return;
  throw new QuotaExceededError(state.namespaceId);
}

/**
 * Moves the namespace's bytes as the last statement of a push, and throws `QuotaExceededError` when they are too many then:
 * of pushes that race at the limit, those go through that fit, in the order in which they got the row.
 */
export async function settleWithinQuota(
  config: CheckConfig,
  tx: Tx,
  repositoryId: number,
  change: UsageChange | undefined,
): Promise<{ readonly namespaceId: number; readonly severity: Severity | undefined } | undefined> {
  const state = await findQuotaState(config, tx, repositoryId);
  const sizeBytes = (await settleUsage(tx, change)) ?? state?.sizeBytes;
  if (!state || sizeBytes === undefined) return undefined;
  const severity = severityAt(state.thresholds, sizeBytes);
  if (severity === "Reject") throw new QuotaExceededError(state.namespaceId);
  return { namespaceId: state.namespaceId, severity };
}

/**
 * Does what may be refused for want of room and tells the namespace's admins when it is. The refusal does not wait for more
 * than one query when they know already.
 */
export async function tellingOfQuota<T>(app: CheckApp, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof QuotaExceededError) await tellAdmins(app, error.namespaceId, "Reject");
    throw error;
  }
}

const KINDS = { Reject: "quota_error", Warning: "quota_warning" } as const satisfies Record<Severity, string>;

/**
 * Gives each admin of the namespace one notice, and another when that one was dismissed. A failure is logged: nobody waits
 * for it.
 */
export async function tellAdmins(app: CheckApp, namespaceId: number, severity: Severity): Promise<void> {
  const subjectKey = `${KINDS[severity]}:${namespaceId}`;
  try {
    if ((await listUntold(app.db, namespaceId, subjectKey)).length === 0) return;
    await app.db.tx(async (tx) => {
      const [namespace] = await tx.sql<{ username: string; kind: string }>`/* quota.lock_namespace */
        select username, kind from account where id = ${namespaceId} and deleted_ms is null ${tx.dialect.forUpdate}`;
      if (!namespace) return;
      await deleteDismissedNotifications(tx, subjectKey);
      for (const accountId of await listUntold(tx, namespaceId, subjectKey)) {
        await insertUserNotification(tx, {
          accountId,
          kind: KINDS[severity],
          ...(namespace.kind === "organization" && { organizationId: namespaceId }),
          metadata: { namespace: namespace.username, severity },
          subjectKey,
          nowMs: app.clock.nowMs(),
        });
      }
    });
  } catch (error) {
    app.log.warn("cannot tell the admins of a namespace about its quota", { namespaceId, ...errorFields(error) });
  }
}

/** The user, or the admins of the organization, that have no such notice, or none that they still see. */
async function listUntold(db: Db | Database, namespaceId: number, subjectKey: string): Promise<number[]> {
  const untold: SqlQuery<never> = db.sql`not exists (
    select 1 from user_notification u where u.account_id = a.id and u.subject_key = ${subjectKey} and u.dismissed = false)`;
  const rows = await db.sql<{ id: number }>`/* quota.untold_admins */
    select a.id from account a where a.id = ${namespaceId} and a.kind = 'user' and a.deleted_ms is null and ${untold}
    union
    select a.id from team t join team_member m on m.team_id = t.id join account a on a.id = m.account_id
    where t.organization_id = ${namespaceId} and t.role = 'admin' and a.kind = 'user' and a.deleted_ms is null
      and ${untold}`;
  return rows.map((row) => toNumber(row.id));
}
