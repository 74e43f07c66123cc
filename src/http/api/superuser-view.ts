/** Users and organizations as superusers see them, and the paging of their lists. Source: quay-api reference, section 15. */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { findQuotaReports, type QuotaReport, showsQuota } from "../../domain/quota/report.ts";
import type { ManagedOrganization, ManagedUser } from "../../domain/superuser/queries.ts";
import { isSuperuser } from "../../domain/user/account.ts";
import { RegistryError } from "../../errors.ts";
import { quotaFields, quotaReportView } from "./quota-view.ts";
import { avatar, avatarSchema } from "./views.ts";

const PAGE_MAX = 100;
const PAGE_PRESET = 50;

/** `limit` and `next_page` of the lists. */
export const listShape = () => ({
  limit: z.coerce.number().int().min(1).default(PAGE_PRESET),
  next_page: z.string().optional(),
});

/** Throws `invalid_request` with Quay's text. */
export function requirePageLimit(limit: number): void {
  if (limit <= PAGE_MAX) return;
  throw new RegistryError("invalid_request", { message: `Page limit cannot be above ${PAGE_MAX}` });
}

/** Without quotas: as the approver of a key is shown. */
export const userFields = () => ({
  kind: z.literal("user"),
  name: z.string(),
  username: z.string(),
  email: z.string().nullable(),
  verified: z.boolean(),
  avatar: avatarSchema(),
  super_user: z.boolean(),
  enabled: z.boolean(),
});

export const managedUserSchema = () => z.strictObject({ ...userFields(), ...quotaFields() });

export function userView(config: Pick<Config, "SUPER_USERS">, user: Omit<ManagedUser, "id">) {
  return {
    kind: "user" as const,
    name: user.username,
    username: user.username,
    email: user.email ?? null,
    verified: user.verified,
    avatar: avatar("user", user.username, user.email),
    super_user: isSuperuser(config, user),
    enabled: user.enabled,
  };
}

export function managedUserView(config: Pick<Config, "SUPER_USERS">, user: ManagedUser, report?: QuotaReport) {
  return { ...userView(config, user), ...(report ? quotaReportView(report) : {}) };
}

export const managedOrganizationSchema = () =>
  z.strictObject({ name: z.string(), email: z.string(), avatar: avatarSchema(), ...quotaFields() });

export function managedOrganizationView(organization: ManagedOrganization, report?: QuotaReport) {
  const { name, email } = organization;
  return { name, email: email ?? "", avatar: avatar("org", name, email), ...(report ? quotaReportView(report) : {}) };
}

/** Quota reports for a page of namespaces; none while quotas are not shown. */
export async function reportsOf(
  app: Pick<App, "db" | "config">,
  namespaces: readonly { readonly id: number }[],
): Promise<ReadonlyMap<number, QuotaReport>> {
  if (!showsQuota(app.config)) return new Map();
  const ids = namespaces.map(({ id }) => id);
  return findQuotaReports(app.db, app.config, ids);
}
