/** The people of an organization: members, and collaborators who sit in no team. Source: quay-api reference, section 3. */

import { z } from "zod";
import {
  getOrganizationMember,
  listCollaborators,
  listOrganizationMembers,
  type OrganizationMember,
  removeOrganizationMember,
} from "../../domain/organization/members.ts";
import {
  nextPage,
  nextPageField,
  nextPageQuery,
  pageAfter,
  personAvatar,
  teamBadge,
  teamBadgeSchema,
} from "./organization-views.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { avatarSchema } from "./views.ts";

const personFields = () => ({
  name: z.string(),
  kind: z.enum(["user", "robot"]),
  avatar: avatarSchema(),
  repositories: z.array(z.string()),
});
const collaboratorSchema = () => z.strictObject(personFields());
const memberSchema = () => z.strictObject({ ...personFields(), teams: z.array(teamBadgeSchema()) });

function collaboratorView(member: OrganizationMember) {
  const { name, isRobot, repositories } = member;
  return { name, kind: isRobot ? "robot" : "user", avatar: personAvatar(member), repositories };
}

function memberView(member: OrganizationMember) {
  return { ...collaboratorView(member), teams: member.teams.map(teamBadge) };
}

export const organizationMemberRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/organization/{orgname}/collaborators",
    summary: "Lists users with roles on repositories of the organization who are in none of its teams",
    needs: { organization: "admin" },
    query: () => z.object(nextPageQuery()),
    answers: { 200: () => z.strictObject({ collaborators: z.array(collaboratorSchema()), ...nextPageField() }) },
    async handle({ app, organization, query }) {
      const list = `collaborators:${organization.account.id}`;
      const page = pageAfter(app, list, query.next_page);
      const people = await listCollaborators(app.db, organization.account.id, page);
      return json(200, {
        collaborators: people.map(collaboratorView),
        ...nextPage(app, list, people, page.limit, ({ name }) => name),
      });
    },
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}/members",
    summary: "Lists the users in the organization's teams",
    needs: { organization: "admin", superuser: true },
    query: () => z.object(nextPageQuery()),
    answers: { 200: () => z.strictObject({ members: z.array(memberSchema()), ...nextPageField() }) },
    async handle({ app, organization, query }) {
      const list = `members:${organization.account.id}`;
      const page = pageAfter(app, list, query.next_page);
      const people = await listOrganizationMembers(app.db, organization.account.id, page);
      return json(200, {
        members: people.map(memberView),
        ...nextPage(app, list, people, page.limit, ({ name }) => name),
      });
    },
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}/members/{membername}",
    summary: "Shows what one user or robot may in the organization",
    needs: { organization: "admin" },
    answers: { 200: memberSchema },
    async handle({ app, organization, params }) {
      const member = await getOrganizationMember(app.db, organization.account.id, params.membername ?? "");
      return json(200, memberView(member));
    },
  }),
  route({
    method: "DELETE",
    path: "/organization/{orgname}/members/{membername}",
    summary: "Takes somebody out of every team and every role of the organization",
    needs: { organization: "admin" },
    answers: { 204: null },
    async handle({ app, caller, organization, params, origin }) {
      const change = { caller, request: origin() };
      await removeOrganizationMember(app, organization.account, params.membername ?? "", change);
      return noContent();
    },
  }),
];
