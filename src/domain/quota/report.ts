/**
 * The limits a namespace was given and the bytes it uses, as the views of users and organizations show them. Setting limits
 * and counting bytes is not here. Source: quay-api reference, section 13.
 */

import type { Config } from "../../config/schema.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

export interface NamespaceQuota {
  readonly id: number;
  readonly limitBytes: number;
  readonly limits: readonly { readonly id: number; readonly type: "Warning" | "Reject"; readonly percent: number }[];
}

export interface QuotaReport {
  /** At most one today; a list in Quay's answers. */
  readonly quotas: readonly NamespaceQuota[];
  readonly usedBytes: number;
  /** The namespace's own limit or the registry's default; undefined for none. */
  readonly configuredBytes: number | undefined;
  readonly backfillStatus: "waiting" | "running" | "complete";
}

/** The reports of some namespaces (a page of them), by id. Three queries, however many there are. */
export async function findQuotaReports(
  db: Db,
  config: Pick<Config, "DEFAULT_SYSTEM_REJECT_QUOTA_BYTES">,
  namespaceIds: readonly number[],
): Promise<Map<number, QuotaReport>> {
  const quotas = await db.sql<{ id: number; namespace_id: number; limit_bytes: number }>`/* quota.of_namespaces */
    select id, namespace_id, limit_bytes from namespace_quota
    where ${db.dialect.inList("namespace_id", namespaceIds)} order by id`;
  const limits = await db.sql<{
    id: number;
    quota_id: number;
    type: "Warning" | "Reject";
    threshold_percent: number;
  }>`/* quota.limits */
    select id, quota_id, type, threshold_percent from namespace_quota_limit
    where ${db.dialect.inList(
      "quota_id",
      quotas.map((quota) => toNumber(quota.id)),
    )} order by id`;
  const usages = await db.sql<{
    namespace_id: number;
    size_bytes: number;
    backfill_state: QuotaReport["backfillStatus"];
  }>`/* quota.usage */
    select namespace_id, size_bytes, backfill_state from namespace_usage
    where ${db.dialect.inList("namespace_id", namespaceIds)}`;
  const systemLimit = config.DEFAULT_SYSTEM_REJECT_QUOTA_BYTES;
  return new Map(
    namespaceIds.map((namespaceId) => {
      const own = quotas
        .filter((quota) => toNumber(quota.namespace_id) === namespaceId)
        .map((quota) => ({
          id: toNumber(quota.id),
          limitBytes: toNumber(quota.limit_bytes),
          limits: limits
            .filter((limit) => toNumber(limit.quota_id) === toNumber(quota.id))
            .map((limit) => ({ id: toNumber(limit.id), type: limit.type, percent: toNumber(limit.threshold_percent) })),
        }));
      const usage = usages.find((row) => toNumber(row.namespace_id) === namespaceId);
      const report: QuotaReport = {
        quotas: own,
        usedBytes: toNumber(usage?.size_bytes ?? 0),
        configuredBytes: own[0]?.limitBytes ?? (systemLimit > 0 ? systemLimit : undefined),
        backfillStatus: usage?.backfill_state ?? "waiting",
      };
      return [namespaceId, report];
    }),
  );
}
