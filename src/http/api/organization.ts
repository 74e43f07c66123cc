/** Organizations: making, viewing, changing and deleting them. Source: quay-api reference, section 3. */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Principal } from "../../domain/access/actor.ts";
import type { OrganizationAccess } from "../../domain/access/require.ts";
import { createOrganization } from "../../domain/organization/create-organization.ts";
import {
  deleteOrganization,
  getOrganization,
  type OrganizationDetails,
  updateOrganization,
} from "../../domain/organization/organization.ts";
import { findQuotaReports, showsQuota } from "../../domain/quota/report.ts";
import { listTeams, type TeamSummary } from "../../domain/team/team.ts";
import { teamRoleSchema } from "./organization-views.ts";
import { quotaFields, quotaReportView } from "./quota-view.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { avatar, avatarSchema } from "./views.ts";

const organizationSchema = () =>
  z.strictObject({
    name: z.string(),
    email: z.string(),
    avatar: avatarSchema(),
    is_admin: z.boolean(),
    is_member: z.boolean(),
    // For members.
    teams: z
      .record(
        z.string(),
        z.strictObject({
          name: z.string(),
          description: z.string(),
          role: teamRoleSchema(),
          avatar: avatarSchema(),
          repo_count: z.number(),
          member_count: z.number(),
          can_view: z.boolean(),
          is_synced: z.boolean(),
        }),
      )
      .optional(),
    ordered_teams: z.array(z.string()).optional(),
    // For admins.
    invoice_email: z.boolean().optional(),
    invoice_email_address: z.string().nullable().optional(),
    tag_expiration_s: z.number().optional(),
    is_free_account: z.boolean().optional(),
    ...quotaFields(),
  });

async function organizationView(app: App, access: OrganizationAccess, principal: Principal | undefined) {
  const { isAdmin, isMember } = access.standing;
  const details = await getOrganization(app.db, access.account.id);
  const teams = isMember || isAdmin ? await listTeams(app.db, details.id, principal?.accountId) : undefined;
  return {
    name: details.name,
    email: isAdmin ? (details.email ?? "") : "",
    avatar: avatar("org", details.name, details.email),
    is_admin: isAdmin,
    is_member: isMember,
    ...(teams ? teamsView(teams, isAdmin) : {}),
    ...(isAdmin ? await settingsView(app, details) : {}),
  };
}

function teamsView(teams: readonly TeamSummary[], isAdmin: boolean) {
  const views = teams.map((team) => ({
    name: team.name,
    description: team.description,
    role: team.role,
    avatar: avatar("team", team.name),
    repo_count: team.repositoryCount,
    member_count: team.memberCount,
    can_view: isAdmin || team.isMine,
    is_synced: false,
  }));
  return {
    teams: Object.fromEntries(views.map((view) => [view.name, view])),
    ordered_teams: teams.map((team) => team.name),
  };
}

async function settingsView(app: App, details: OrganizationDetails) {
  const report = showsQuota(app.config)
    ? (await findQuotaReports(app.db, app.config, [details.id])).get(details.id)
    : undefined;
  return {
    invoice_email: details.invoiceEmail,
    invoice_email_address: details.invoiceEmailAddress ?? null,
    tag_expiration_s: details.tagExpirationSeconds,
    is_free_account: true,
    ...(report ? quotaReportView(report) : {}),
  };
}

export const organizationRoutes: readonly ApiRoute[] = [
  route({
    method: "POST",
    path: "/organization/",
    summary: "Makes an organization, with a team of owners that the caller is in",
    needs: { account: "admin" },
    body: () => z.object({ name: z.string(), email: z.string().nullish(), recaptcha_response: z.string().nullish() }),
    answers: { 201: () => z.literal("Created") },
    async handle({ app, caller, body, origin }) {
      const { name, email, recaptcha_response } = body;
      const input = { name, email: email ?? undefined, captcha: recaptcha_response ?? undefined, request: origin() };
      await createOrganization(app, caller, input);
      return json(201, "Created");
    },
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}",
    summary: "Shows an organization; members see its teams, admins its settings",
    needs: { organization: "any" },
    answers: { 200: organizationSchema },
    async handle({ app, organization, principal }) {
      return json(200, await organizationView(app, organization, principal));
    },
  }),
  route({
    method: "PUT",
    path: "/organization/{orgname}",
    summary: "Changes an organization's address, invoicing and tag expiration",
    needs: { organization: "admin" },
    body: () =>
      z.object({
        email: z.string().optional(),
        invoice_email: z.boolean().optional(),
        invoice_email_address: z.string().nullable().optional(),
        tag_expiration_s: z.int().min(0).optional(),
      }),
    answers: { 200: organizationSchema },
    async handle({ app, caller, organization, principal, body, origin }) {
      const changes = {
        email: body.email,
        invoiceEmail: body.invoice_email,
        invoiceEmailAddress: body.invoice_email_address,
        tagExpirationSeconds: body.tag_expiration_s,
      };
      await updateOrganization(app, organization.account.id, changes, { caller, request: origin() });
      return json(200, await organizationView(app, organization, principal));
    },
  }),
  route({
    method: "DELETE",
    path: "/organization/{orgname}",
    summary: "Deletes an organization with everything in it",
    needs: { organization: "admin" },
    freshLogin: true,
    answers: { 204: null },
    async handle({ app, caller, organization, origin }) {
      await deleteOrganization(app, organization.account, { caller, request: origin() });
      return noContent();
    },
  }),
];
