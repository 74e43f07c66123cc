/** Roles of users, robots and teams on a repository. Source: quay-api reference, section 11. */

import { z } from "zod";
import {
  type AccountRole,
  deleteTeamPermission,
  deleteUserPermission,
  getTeamPermission,
  getUserPermission,
  listTeamPermissions,
  listTransitivePermissions,
  listUserPermissions,
  putTeamPermission,
  putUserPermission,
  type TeamRole,
} from "../../domain/permission/permission.ts";
import { roleSchema } from "./organization-views.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { avatar, avatarSchema } from "./views.ts";

const USERS = "/repository/{repository}/permissions/user/";
const TEAMS = "/repository/{repository}/permissions/team/";

const userSchema = () =>
  z.strictObject({
    role: roleSchema(),
    name: z.string(),
    is_robot: z.boolean(),
    avatar: avatarSchema(),
    is_org_member: z.boolean().optional(),
  });
const teamSchema = () => z.strictObject({ role: roleSchema(), name: z.string(), avatar: avatarSchema() });
const roleBody = () => z.object({ role: roleSchema() });

function userView(given: AccountRole) {
  const { role, name, kind, email, isMember } = given;
  return {
    role,
    name,
    is_robot: kind === "robot",
    avatar: avatar(kind, name, email),
    ...(isMember === undefined ? {} : { is_org_member: isMember }),
  };
}

function teamView({ role, name }: TeamRole) {
  return { role, name, avatar: avatar("team", name) };
}

function byName<T extends { name: string }>(views: readonly T[]): Record<string, T> {
  return Object.fromEntries(views.map((view) => [view.name, view]));
}

const userRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: USERS,
    summary: "Lists users and robots with a role of their own on a repository",
    needs: { repository: "admin" },
    answers: { 200: () => z.strictObject({ permissions: z.record(z.string(), userSchema()) }) },
    async handle({ app, repository }) {
      const given = await listUserPermissions(app, repository);
      return json(200, { permissions: byName(given.map(userView)) });
    },
  }),
  route({
    method: "GET",
    path: `${USERS}{username}`,
    summary: "Shows the role that a user or robot was given on a repository",
    needs: { repository: "admin" },
    answers: { 200: userSchema },
    async handle({ app, repository, params }) {
      return json(200, userView(await getUserPermission(app, repository, params.username ?? "")));
    },
  }),
  route({
    method: "GET",
    path: `${USERS}{username}/transitive`,
    summary: "Lists the roles that a user has on a repository by itself and through teams",
    needs: { repository: "admin" },
    answers: {
      200: () => z.strictObject({ permissions: z.array(z.strictObject({ role: roleSchema() })) }),
    },
    async handle({ app, repository, params }) {
      const roles = await listTransitivePermissions(app, repository, params.username ?? "");
      return json(200, { permissions: roles.map((role) => ({ role })) });
    },
  }),
  route({
    method: "PUT",
    path: `${USERS}{username}`,
    summary: "Gives a user or a robot of the namespace a role on a repository",
    needs: { repository: "admin" },
    body: roleBody,
    answers: { 200: userSchema },
    async handle({ app, caller, repository, params, body, origin }) {
      const change = { caller, repository, request: origin() };
      return json(200, userView(await putUserPermission(app, change, params.username ?? "", body.role)));
    },
  }),
  route({
    method: "DELETE",
    path: `${USERS}{username}`,
    summary: "Takes the role of a user or robot on a repository away",
    needs: { repository: "admin" },
    answers: { 204: null },
    async handle({ app, caller, repository, params, origin }) {
      await deleteUserPermission(app, { caller, repository, request: origin() }, params.username ?? "");
      return noContent();
    },
  }),
];

const teamRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: TEAMS,
    summary: "Lists teams with a role on a repository",
    needs: { repository: "admin" },
    answers: { 200: () => z.strictObject({ permissions: z.record(z.string(), teamSchema()) }) },
    async handle({ app, repository }) {
      const given = await listTeamPermissions(app, repository);
      return json(200, { permissions: byName(given.map(teamView)) });
    },
  }),
  route({
    method: "GET",
    path: `${TEAMS}{teamname}`,
    summary: "Shows the role that a team was given on a repository",
    needs: { repository: "admin" },
    answers: { 200: () => z.strictObject({ role: roleSchema() }) },
    async handle({ app, repository, params }) {
      const { role } = await getTeamPermission(app, repository, params.teamname ?? "");
      return json(200, { role });
    },
  }),
  route({
    method: "PUT",
    path: `${TEAMS}{teamname}`,
    summary: "Gives a team of the organization a role on a repository",
    needs: { repository: "admin" },
    body: roleBody,
    answers: { 200: teamSchema },
    async handle({ app, caller, repository, params, body, origin }) {
      const change = { caller, repository, request: origin() };
      return json(200, teamView(await putTeamPermission(app, change, params.teamname ?? "", body.role)));
    },
  }),
  route({
    method: "DELETE",
    path: `${TEAMS}{teamname}`,
    summary: "Takes the role of a team on a repository away",
    needs: { repository: "admin" },
    answers: { 204: null },
    async handle({ app, caller, repository, params, origin }) {
      await deleteTeamPermission(app, { caller, repository, request: origin() }, params.teamname ?? "");
      return noContent();
    },
  }),
];

export const repositoryPermissionRoutes: readonly ApiRoute[] = [...userRoutes, ...teamRoutes];
