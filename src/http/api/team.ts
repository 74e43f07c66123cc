/** Teams, their members and invitations by an admin. Source: quay-api reference, section 4. */

import { z } from "zod";
import { refused } from "../../domain/access/require.ts";
import { isMailing } from "../../domain/mail/mailing.ts";
import { inviteEmail, listInvites, withdrawEmailInvite } from "../../domain/team/invites.ts";
import { addTeamMember, listTeamMembers, removeTeamMember } from "../../domain/team/members.ts";
import { deleteTeam, getTeam, isInTeam, putTeam } from "../../domain/team/team.ts";
import {
  emailInviteView,
  inviteSchema,
  inviteView,
  LIST_MAX,
  memberSchema,
  memberView,
  nextPage,
  nextPageField,
  nextPageQuery,
  pageAfter,
  rolesPage,
  rolesSchema,
  teamRoleSchema,
  teamSchema,
  teamView,
} from "./organization-views.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { queryBool } from "./views.ts";

/** Every view of the organization carries the descriptions of all its teams. */
const DESCRIPTION_CHARS_MAX = 10_000;

export const teamRoutes: readonly ApiRoute[] = [
  route({
    method: "PUT",
    path: "/organization/{orgname}/team/{teamname}",
    summary: "Makes a team, or changes its role and description",
    needs: { organization: "admin", superuser: true },
    body: () => z.object({ role: teamRoleSchema(), description: z.string().max(DESCRIPTION_CHARS_MAX).optional() }),
    answers: { 200: teamSchema },
    async handle({ app, caller, organization, params, body, origin }) {
      const change = { caller, request: origin() };
      const { team, isNew } = await putTeam(app, organization.account, params.teamname ?? "", body, change);
      return json(200, teamView(team, isNew));
    },
  }),
  route({
    method: "DELETE",
    path: "/organization/{orgname}/team/{teamname}",
    summary: "Deletes a team",
    needs: { organization: "admin", superuser: true },
    answers: { 204: null },
    async handle({ app, caller, organization, params, origin }) {
      await deleteTeam(app, organization.account, params.teamname ?? "", { caller, request: origin() });
      return noContent();
    },
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}/team/{teamname}/members",
    summary: "Lists the members of a team, and for admins who was invited to it",
    needs: { organization: "member" },
    query: () => z.object({ includePending: queryBool(false), ...nextPageQuery() }),
    answers: {
      200: () =>
        z.strictObject({
          name: z.string(),
          can_edit: z.boolean(),
          members: z.array(z.union([memberSchema(), inviteSchema()])),
          ...nextPageField(),
        }),
    },
    async handle({ app, caller, organization, principal, params, query }) {
      const { isAdmin } = organization.standing;
      const team = await getTeam(app.db, organization.account.id, params.teamname ?? "");
      if (!isAdmin && !(await isInTeam(app.db, team.id, principal.accountId))) throw refused(caller, "no-role");
      const list = `team-members:${team.id}`;
      const page = pageAfter(app, list, query.next_page);
      const members = await listTeamMembers(app.db, team.id, page);
      const isAsked = isAdmin && query.includePending && page.after === "";
      const invites = isAsked ? await listInvites(app.db, team.id, LIST_MAX) : [];
      return json(200, {
        name: team.name,
        can_edit: isAdmin,
        members: [...members.map((member) => memberView(member, false)), ...invites.map(inviteView)],
        ...nextPage(app, list, members, page.limit, ({ name }) => name),
      });
    },
  }),
  route({
    method: "PUT",
    path: "/organization/{orgname}/team/{teamname}/members/{membername}",
    summary: "Adds a user or robot to a team, or invites the user",
    needs: { organization: "admin", superuser: true },
    answers: { 200: memberSchema },
    async handle({ app, caller, organization, params, origin }) {
      const { teamname = "", membername = "" } = params;
      const change = { caller, request: origin() };
      const { member, isInvited } = await addTeamMember(app, organization.account, teamname, membername, change);
      return json(200, memberView(member, isInvited));
    },
  }),
  route({
    method: "DELETE",
    path: "/organization/{orgname}/team/{teamname}/members/{membername}",
    summary: "Takes a user or robot out of a team, or takes its invitation back",
    needs: { organization: "admin" },
    answers: { 204: null },
    async handle({ app, caller, organization, params, origin }) {
      const { teamname = "", membername = "" } = params;
      await removeTeamMember(app, organization.account, teamname, membername, { caller, request: origin() });
      return noContent();
    },
  }),
  route({
    method: "PUT",
    path: "/organization/{orgname}/team/{teamname}/invite/{email}",
    summary: "Invites whoever reads the mails of an address",
    needs: { organization: "admin" },
    feature: isMailing,
    answers: { 200: inviteSchema },
    async handle({ app, caller, organization, params, origin }) {
      const { teamname = "", email = "" } = params;
      await inviteEmail(app, organization.account, teamname, email, { caller, request: origin() });
      return json(200, emailInviteView(email));
    },
  }),
  route({
    method: "DELETE",
    path: "/organization/{orgname}/team/{teamname}/invite/{email}",
    summary: "Takes the invitation of an address back",
    needs: { organization: "admin" },
    feature: isMailing,
    answers: { 204: null },
    async handle({ app, caller, organization, params, origin }) {
      const { teamname = "", email = "" } = params;
      await withdrawEmailInvite(app, organization.account, teamname, email, { caller, request: origin() });
      return noContent();
    },
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}/team/{teamname}/permissions",
    summary: "Lists the roles that a team gives on repositories",
    needs: { organization: "admin" },
    query: () => z.object(nextPageQuery()),
    answers: { 200: rolesSchema },
    async handle({ app, organization, params, query }) {
      const team = await getTeam(app.db, organization.account.id, params.teamname ?? "");
      return json(200, await rolesPage(app, { teamId: team.id }, query.next_page));
    },
  }),
];
