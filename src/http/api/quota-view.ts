/** How quotas look in answers, and the numbers in their paths. Source: quay-api reference, section 13. */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import type { NamespaceQuota, QuotaLimit } from "../../domain/quota/queries.ts";
import { defaultQuotaBytes, type QuotaReport, showsQuota } from "../../domain/quota/report.ts";
import { RegistryError } from "../../errors.ts";

/** What all quota routes depend on: without it they are not there. */
export function hasQuotaRoutes(config: Config): boolean {
  return config.FEATURE_SUPER_USERS && showsQuota(config);
}

/** An id as a path has it. Throws `not_found` for what is none. */
export function quotaPathId(text: string | undefined): number {
  const id = /^[1-9][0-9]{0,15}$/.test(text ?? "") ? Number(text) : 0;
  if (id === 0 || !Number.isSafeInteger(id)) throw new RegistryError("not_found");
  return id;
}

export const quotaLimitSchema = () => z.strictObject({ id: z.int(), type: z.string(), limit_percent: z.int() });

export function quotaLimitView({ id, type, percent }: QuotaLimit) {
  return { id, type, limit_percent: percent };
}

const shortShape = () => ({ limit_bytes: z.int(), limits: z.array(quotaLimitSchema()) });

/** As the quota routes show it. The registry's default has no id. */
export const quotaSchema = () =>
  z.strictObject({
    id: z.int().nullable(),
    ...shortShape(),
    default_config: z.boolean(),
    default_config_exists: z.boolean(),
  });

export function quotaView(config: Config, { id, limitBytes, limits }: NamespaceQuota) {
  return {
    id,
    limit_bytes: limitBytes,
    default_config: false,
    limits: limits.map(quotaLimitView),
    default_config_exists: defaultQuotaBytes(config) !== undefined,
  };
}

/** What stands for the quota of a namespace without one: the registry's default, or nothing. */
export function defaultQuotaViews(config: Config) {
  const limitBytes = defaultQuotaBytes(config);
  if (limitBytes === undefined) return [];
  return [{ id: null, limit_bytes: limitBytes, default_config: true, limits: [], default_config_exists: true }];
}

/** The quota fields of a namespace's view; none of them while quotas are not shown. */
export const quotaFields = () => ({
  quotas: z.array(z.strictObject({ id: z.int(), ...shortShape() })).optional(),
  quota_report: z
    .strictObject({
      quota_bytes: z.int(),
      configured_quota: z.int().nullable(),
      running_backfill: z.string(),
      backfill_status: z.string(),
    })
    .optional(),
});

export function quotaReportView(report: QuotaReport) {
  return {
    quotas: report.quotas.map(({ id, limitBytes, limits }) => ({
      id,
      limit_bytes: limitBytes,
      limits: limits.map(quotaLimitView),
    })),
    quota_report: {
      quota_bytes: report.usedBytes,
      configured_quota: report.configuredBytes ?? null,
      running_backfill: report.backfillStatus,
      backfill_status: report.backfillStatus,
    },
  };
}
