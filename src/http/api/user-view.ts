/** How a user looks in answers: to everybody, and to itself or a superuser. Source: quay-api reference, section 2.1. */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Caller } from "../../domain/access/actor.ts";
import { findUserOrganizations, type OrganizationMembership } from "../../domain/organization/memberships.ts";
import { findQuotaReports, showsQuota } from "../../domain/quota/report.ts";
import { isSuperuser } from "../../domain/user/account.ts";
import { PROMPTS, type Profile } from "../../domain/user/profile.ts";
import { quotaFields, quotaReportView } from "./quota-view.ts";
import { avatar, avatarSchema } from "./views.ts";

export const publicUserSchema = () =>
  z.strictObject({ anonymous: z.literal(false), username: z.string(), avatar: avatarSchema() });

/** The whole view. */
export const userSchema = () =>
  z.strictObject({
    anonymous: z.literal(false),
    username: z.string(),
    avatar: avatarSchema(),
    can_create_repo: z.boolean(),
    is_me: z.boolean(),
    verified: z.boolean(),
    email: z.string().nullable(),
    logins: z.array(
      z.strictObject({
        service: z.string(),
        service_identifier: z.string(),
        metadata: z.record(z.string(), z.unknown()),
      }),
    ),
    invoice_email: z.boolean(),
    invoice_email_address: z.string().nullable(),
    preferred_namespace: z.boolean(),
    tag_expiration_s: z.number().int(),
    prompts: z.array(z.enum(PROMPTS)),
    company: z.string().nullable(),
    family_name: z.string().nullable(),
    given_name: z.string().nullable(),
    location: z.string().nullable(),
    is_free_account: z.boolean(),
    has_password_set: z.boolean(),
    ...quotaFields(),
    organizations: z.array(
      z.strictObject({
        name: z.string(),
        avatar: avatarSchema(),
        can_create_repo: z.boolean(),
        public: z.boolean(),
        is_org_admin: z.boolean(),
        preferred_namespace: z.boolean(),
      }),
    ),
    super_user: z.boolean().optional(),
  });

/** What everybody may know of a user. */
export function publicUserView(user: Pick<Profile, "username" | "email">) {
  return { anonymous: false, username: user.username, avatar: avatar("user", user.username, user.email) };
}

/** The whole view, for the user itself and for superusers. */
export async function userView(app: App, caller: Caller, user: Profile) {
  const { config } = app;
  const isMe = caller.principal?.accountId === user.id;
  const organizations = await findUserOrganizations(app.db, user.id);
  const reports = showsQuota(config) ? await findQuotaReports(app.db, config, [user.id]) : undefined;
  const report = reports?.get(user.id);
  const principal = await app.lookup.principal(user.id);
  return {
    ...publicUserView(user),
    can_create_repo: principal?.restricted === false,
    is_me: isMe,
    verified: user.verified,
    email: user.email ?? null,
    // Log-ins by other services: none are offered yet.
    logins: [],
    invoice_email: user.invoiceEmail,
    invoice_email_address: user.invoiceEmailAddress ?? null,
    preferred_namespace: false,
    tag_expiration_s: user.tagExpirationSeconds,
    prompts: user.prompts,
    company: user.company ?? null,
    family_name: user.familyName ?? null,
    given_name: user.givenName ?? null,
    location: user.location ?? null,
    is_free_account: true,
    has_password_set: user.hasPassword,
    ...(report ? quotaReportView(report) : {}),
    organizations: organizations.map((organization) => membershipView(app, organization)),
    ...(config.FEATURE_SUPER_USERS ? { super_user: isSuperuserView(app, caller, user, isMe) } : {}),
  };
}

/** Of the caller: as far as its token goes. */
function isSuperuserView(app: App, caller: Caller, user: Profile, isMe: boolean): boolean {
  if (isMe) return caller.principal?.superuser === true;
  return isSuperuser(app.config, { kind: "user", username: user.username, promoted: user.promoted });
}

function membershipView(app: App, { name, email, isCreator, isAdmin }: OrganizationMembership) {
  return {
    name,
    avatar: avatar("org", name, email),
    can_create_repo: isCreator,
    public: app.config.PUBLIC_NAMESPACES.includes(name),
    is_org_admin: isAdmin,
    preferred_namespace: false,
  };
}
