/**
 * Rows of quotas and their limits: reading, locking and writing them. What may be written is decided in `limits.ts`; the
 * bytes that are held against them are counted elsewhere.
 */

import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

/** What happens when a limit is exceeded. */
export type LimitType = "Warning" | "Reject";

export interface QuotaLimit {
  readonly id: number;
  readonly type: LimitType;
  /** Of the quota's bytes, 1 to 100. */
  readonly percent: number;
}

export interface NamespaceQuota {
  readonly id: number;
  readonly limitBytes: number;
  /** Oldest first. Without any, nothing is warned of and nothing refused. */
  readonly limits: readonly QuotaLimit[];
}

interface QuotaRow {
  id: number;
  namespace_id: number;
  limit_bytes: number;
  limit_id: number | null;
  type: LimitType | null;
  threshold_percent: number | null;
}

/** The quotas of some namespaces (a page of them), by the namespace's id. One query. */
export async function findQuotas(db: Db, namespaceIds: readonly number[]): Promise<Map<number, NamespaceQuota>> {
  const rows = await db.sql<QuotaRow>`/* quota.of_namespaces */
    select q.id, q.namespace_id, q.limit_bytes, l.id as limit_id, l.type, l.threshold_percent
    from namespace_quota q left join namespace_quota_limit l on l.quota_id = q.id
    where ${db.dialect.inList("q.namespace_id", namespaceIds)} order by q.id, l.id`;
  const found = new Map<number, { id: number; limitBytes: number; limits: QuotaLimit[] }>();
  for (const row of rows) {
    const namespaceId = toNumber(row.namespace_id);
    const quota = found.get(namespaceId) ?? { id: toNumber(row.id), limitBytes: toNumber(row.limit_bytes), limits: [] };
    if (row.limit_id !== null && row.type !== null) {
      const percent = toNumber(row.threshold_percent ?? 0);
      quota.limits.push({ id: toNumber(row.limit_id), type: row.type, percent });
    }
    found.set(namespaceId, quota);
  }
  return found;
}

/** The namespace's own quota, undefined when it has none. */
export async function findQuota(db: Db, namespaceId: number): Promise<NamespaceQuota | undefined> {
  return (await findQuotas(db, [namespaceId])).get(namespaceId);
}

/**
 * The namespace's quota with this id, held until the transaction ends: of two changes at once the second sees what the first
 * made of it. Undefined when there is none, or it is another namespace's.
 */
export async function lockQuota(tx: Tx, namespaceId: number, quotaId: number): Promise<NamespaceQuota | undefined> {
  await tx.sql`/* quota.lock */ select id from namespace_quota where namespace_id = ${namespaceId} ${tx.dialect.forUpdate}`;
  const quota = await findQuota(tx, namespaceId);
  return quota?.id === quotaId ? quota : undefined;
}

/** False when the namespace has one already, also one that was made at the same time. */
export async function insertQuota(tx: Tx, namespaceId: number, limitBytes: number): Promise<boolean> {
  const rows = await tx.sql`/* quota.insert */
    insert into namespace_quota (namespace_id, limit_bytes) values (${namespaceId}, ${limitBytes})
    on conflict (namespace_id) do nothing returning id`;
  return rows.length > 0;
}

export async function updateQuota(tx: Tx, quotaId: number, limitBytes: number): Promise<void> {
  await tx.sql`/* quota.update */ update namespace_quota set limit_bytes = ${limitBytes} where id = ${quotaId}`;
}

/** With its limits. */
export async function removeQuota(tx: Tx, quotaId: number): Promise<void> {
  await tx.sql`/* quota.remove_limits */ delete from namespace_quota_limit where quota_id = ${quotaId}`;
  await tx.sql`/* quota.remove */ delete from namespace_quota where id = ${quotaId}`;
}

export async function insertLimit(tx: Tx, quotaId: number, limit: Omit<QuotaLimit, "id">): Promise<void> {
  await tx.sql`/* quota.insert_limit */
    insert into namespace_quota_limit (quota_id, type, threshold_percent)
    values (${quotaId}, ${limit.type}, ${limit.percent})`;
}

export async function updateLimit(tx: Tx, limit: QuotaLimit): Promise<void> {
  await tx.sql`/* quota.update_limit */
    update namespace_quota_limit set type = ${limit.type}, threshold_percent = ${limit.percent} where id = ${limit.id}`;
}

export async function removeLimit(tx: Tx, limitId: number): Promise<void> {
  await tx.sql`/* quota.remove_limit */ delete from namespace_quota_limit where id = ${limitId}`;
}
