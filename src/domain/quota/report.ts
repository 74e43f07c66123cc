/**
 * The limits a namespace was given and the bytes it uses, as the views of users and organizations show them. Setting limits
 * is `limits.ts`, counting bytes is not here. Source: quay-api reference, section 13.
 */

import type { Config } from "../../config/schema.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { findQuotas, type NamespaceQuota } from "./queries.ts";

/** Quotas are set and shown. With FEATURE_EDIT_QUOTA off they are counted and held, and seen nowhere, as in Quay. */
export function showsQuota(config: Pick<Config, "FEATURE_QUOTA_MANAGEMENT" | "FEATURE_EDIT_QUOTA">): boolean {
  return config.FEATURE_QUOTA_MANAGEMENT && config.FEATURE_EDIT_QUOTA;
}

/** The registry's limit for namespaces without a quota of their own, bytes; undefined for none. */
export function defaultQuotaBytes(config: Pick<Config, "DEFAULT_SYSTEM_REJECT_QUOTA_BYTES">): number | undefined {
  return config.DEFAULT_SYSTEM_REJECT_QUOTA_BYTES > 0 ? config.DEFAULT_SYSTEM_REJECT_QUOTA_BYTES : undefined;
}

export interface QuotaReport {
  /** At most one today; a list in Quay's answers. */
  readonly quotas: readonly NamespaceQuota[];
  readonly usedBytes: number;
  /** The namespace's own limit or the registry's default; undefined for none. */
  readonly configuredBytes: number | undefined;
  readonly backfillStatus: "waiting" | "running" | "complete";
}

/** The reports of some namespaces (a page of them), by id. Two queries, however many there are. */
export async function findQuotaReports(
  db: Db,
  config: Pick<Config, "DEFAULT_SYSTEM_REJECT_QUOTA_BYTES">,
  namespaceIds: readonly number[],
): Promise<Map<number, QuotaReport>> {
  const quotas = await findQuotas(db, namespaceIds);
  const usages = await db.sql<{
    namespace_id: number;
    size_bytes: number;
    backfill_state: QuotaReport["backfillStatus"] | "dropped";
  }>`/* quota.usage */
    select namespace_id, size_bytes, backfill_state from namespace_usage
    where ${db.dialect.inList("namespace_id", namespaceIds)}`;
  const usageOf = new Map(usages.map((row) => [toNumber(row.namespace_id), row]));
  return new Map(
    namespaceIds.map((namespaceId) => {
      const quota = quotas.get(namespaceId);
      const usage = usageOf.get(namespaceId);
      const report: QuotaReport = {
        quotas: quota ? [quota] : [],
        usedBytes: toNumber(usage?.size_bytes ?? 0),
        configuredBytes: quota?.limitBytes ?? defaultQuotaBytes(config),
        backfillStatus: toStatus(usage?.backfill_state),
      };
      return [namespaceId, report];
    }),
  );
}

/** Totals that were dropped wait for the backfill like those that never were. Quay knows three words. */
function toStatus(state: QuotaReport["backfillStatus"] | "dropped" | undefined): QuotaReport["backfillStatus"] {
  return state === undefined || state === "dropped" ? "waiting" : state;
}
