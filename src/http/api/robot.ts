/**
 * Robots of the caller and of organizations: the same routes below two bases. Federation of robots has a file of its own.
 * Source: quay-api reference, section 6.
 */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Caller, Principal } from "../../domain/access/actor.ts";
import type { OrganizationAccess } from "../../domain/access/require.ts";
import type { RequestOrigin } from "../../domain/audit/audit.ts";
import { findRobotRights, getRobot, listRobots, type RobotView } from "../../domain/robot/list.ts";
import {
  addRobot,
  deleteRobot,
  getRobotAccount,
  ROBOT_DESCRIPTION_CHARS_MAX,
  type RobotOwner,
  regenerateRobotToken,
} from "../../domain/robot/robot.ts";
import { RegistryError } from "../../errors.ts";
import {
  LIST_MAX,
  nextPage,
  nextPageField,
  nextPageQuery,
  pageAfter,
  rolesPage,
  rolesSchema,
  teamBadge,
  teamBadgeSchema,
} from "./organization-views.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { httpDate, httpDateSchema, queryBool } from "./views.ts";

const robotFields = () => ({
  name: z.string(),
  created: httpDateSchema(),
  last_accessed: httpDateSchema().nullable(),
  description: z.string(),
});
const listedSchema = () =>
  z.strictObject({
    robots: z.array(
      z.strictObject({
        ...robotFields(),
        token: z.string().optional(),
        teams: z.array(teamBadgeSchema()).optional(),
        repositories: z.array(z.string()).optional(),
      }),
    ),
    ...nextPageField(),
  });
const robotSchema = () =>
  z.strictObject({ ...robotFields(), token: z.string(), unstructured_metadata: z.record(z.string(), z.unknown()) });

function listedView(robot: RobotView) {
  return {
    name: robot.name,
    created: httpDate(robot.createdMs),
    last_accessed: robot.lastAccessedMs === undefined ? null : httpDate(robot.lastAccessedMs),
    description: robot.description,
    ...(robot.token === undefined ? {} : { token: robot.token }),
  };
}

function robotView(robot: RobotView) {
  return { ...listedView(robot), unstructured_metadata: robot.metadata };
}

const listQuery = () =>
  z.object({
    permissions: queryBool(false),
    token: queryBool(true),
    limit: z.coerce.number().int().min(1).max(LIST_MAX).optional(),
    ...nextPageQuery(),
  });
const creation = () =>
  z.object({
    description: z.string().max(ROBOT_DESCRIPTION_CHARS_MAX).nullish(),
    unstructured_metadata: z.record(z.string(), z.unknown()).nullish(),
  });

async function listView(app: App, owner: RobotOwner, query: z.infer<ReturnType<typeof listQuery>>, isAdmin: boolean) {
  const list = `robots:${owner.id}`;
  const page = pageAfter(app, list, query.next_page, query.limit);
  const robots = await listRobots(app, owner, { ...page, withTokens: isAdmin && query.token });
  const ids = robots.map(({ id }) => id);
  const rights = isAdmin && query.permissions ? await findRobotRights(app.db, ids) : undefined;
  return {
    robots: robots.map((robot) => ({
      ...listedView(robot),
      ...(rights
        ? {
            teams: (rights.teams.get(robot.id) ?? []).map(teamBadge),
            repositories: rights.repositories.get(robot.id) ?? [],
          }
        : {}),
    })),
    ...nextPage(app, list, robots, page.limit, ({ name }) => name),
  };
}

/** What both bases do, once it is known whose robots they are. */
const actions = {
  async get(app: App, owner: RobotOwner, shortName: string) {
    return json(200, robotView(await getRobot(app, owner, shortName)));
  },
  async put(app: App, owner: RobotOwner, shortName: string, body: z.infer<ReturnType<typeof creation>>, by: By) {
    const input = {
      shortName,
      description: body.description ?? undefined,
      metadata: body.unstructured_metadata ?? undefined,
    };
    await addRobot(app, owner, input, by);
    return json(201, robotView(await getRobot(app, owner, shortName)));
  },
  async delete(app: App, owner: RobotOwner, shortName: string, by: By) {
    await deleteRobot(app, owner, shortName, by);
    return noContent();
  },
  async permissions(app: App, owner: RobotOwner, shortName: string, query: { next_page?: string | undefined }) {
    const robot = await getRobotAccount(app.db, owner, shortName);
    return json(200, await rolesPage(app, { accountId: robot.id }, query.next_page));
  },
  async regenerate(app: App, owner: RobotOwner, shortName: string, by: By) {
    await regenerateRobotToken(app, owner, shortName, by);
    return json(200, robotView(await getRobot(app, owner, shortName)));
  },
};

interface By {
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

function ownOf(principal: Principal): RobotOwner {
  return { id: principal.accountId, username: principal.username, kind: principal.kind };
}

/** Source: quay-behaviour reference, section 3: restricted users change nothing in their own namespace. */
function ownToChange(principal: Principal): RobotOwner {
  if (!principal.restricted) return ownOf(principal);
  throw new RegistryError("denied", {
    message: "Operation not allowed on restricted user owned namespace",
    detail: { decision: "restricted-user" },
  });
}

const userRobotRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/user/robots",
    summary: "Lists the caller's robots",
    needs: { account: "admin" },
    query: listQuery,
    answers: { 200: listedSchema },
    async handle({ app, principal, query }) {
      return json(200, await listView(app, ownOf(principal), query, true));
    },
  }),
  route({
    method: "GET",
    path: "/user/robots/{robot_shortname}",
    summary: "Shows one of the caller's robots, with its token",
    needs: { account: "admin" },
    answers: { 200: robotSchema },
    handle: ({ app, principal, params }) => actions.get(app, ownOf(principal), params.robot_shortname ?? ""),
  }),
  route({
    method: "PUT",
    path: "/user/robots/{robot_shortname}",
    summary: "Makes a robot of the caller",
    needs: { account: "admin" },
    body: creation,
    bodyOptional: true,
    answers: { 201: robotSchema },
    async handle({ app, caller, principal, params, body, origin }) {
      const by = { caller, request: origin() };
      return actions.put(app, ownToChange(principal), params.robot_shortname ?? "", body, by);
    },
  }),
  route({
    method: "DELETE",
    path: "/user/robots/{robot_shortname}",
    summary: "Deletes a robot of the caller",
    needs: { account: "admin" },
    answers: { 204: null },
    async handle({ app, caller, principal, params, origin }) {
      const by = { caller, request: origin() };
      return actions.delete(app, ownToChange(principal), params.robot_shortname ?? "", by);
    },
  }),
  route({
    method: "GET",
    path: "/user/robots/{robot_shortname}/permissions",
    summary: "Lists the roles of a robot of the caller",
    needs: { account: "admin" },
    query: () => z.object(nextPageQuery()),
    answers: { 200: rolesSchema },
    handle: ({ app, principal, params, query }) =>
      actions.permissions(app, ownOf(principal), params.robot_shortname ?? "", query),
  }),
  route({
    method: "POST",
    path: "/user/robots/{robot_shortname}/regenerate",
    summary: "Gives a robot of the caller another token",
    needs: { account: "admin" },
    answers: { 200: robotSchema },
    async handle({ app, caller, principal, params, origin }) {
      const by = { caller, request: origin() };
      return actions.regenerate(app, ownToChange(principal), params.robot_shortname ?? "", by);
    },
  }),
];

const ownerOf = (organization: OrganizationAccess): RobotOwner => organization.account;

const organizationRobotRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/organization/{orgname}/robots",
    summary: "Lists an organization's robots; tokens and rights are for its admins",
    needs: { organization: "member", superuser: true },
    query: listQuery,
    answers: { 200: listedSchema },
    async handle({ app, organization, query }) {
      return json(200, await listView(app, ownerOf(organization), query, organization.standing.isAdmin));
    },
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}/robots/{robot_shortname}",
    summary: "Shows a robot of an organization, with its token",
    needs: { organization: "admin", superuser: true },
    answers: { 200: robotSchema },
    handle: ({ app, organization, params }) => actions.get(app, ownerOf(organization), params.robot_shortname ?? ""),
  }),
  route({
    method: "PUT",
    path: "/organization/{orgname}/robots/{robot_shortname}",
    summary: "Makes a robot of an organization",
    needs: { organization: "admin", superuser: true },
    body: creation,
    bodyOptional: true,
    answers: { 201: robotSchema },
    async handle({ app, caller, organization, params, body, origin }) {
      const by = { caller, request: origin() };
      return actions.put(app, ownerOf(organization), params.robot_shortname ?? "", body, by);
    },
  }),
  route({
    method: "DELETE",
    path: "/organization/{orgname}/robots/{robot_shortname}",
    summary: "Deletes a robot of an organization",
    needs: { organization: "admin", superuser: true },
    answers: { 204: null },
    async handle({ app, caller, organization, params, origin }) {
      const by = { caller, request: origin() };
      return actions.delete(app, ownerOf(organization), params.robot_shortname ?? "", by);
    },
  }),
  route({
    method: "GET",
    path: "/organization/{orgname}/robots/{robot_shortname}/permissions",
    summary: "Lists the roles of a robot of an organization",
    needs: { organization: "admin", superuser: true },
    query: () => z.object(nextPageQuery()),
    answers: { 200: rolesSchema },
    handle: ({ app, organization, params, query }) =>
      actions.permissions(app, ownerOf(organization), params.robot_shortname ?? "", query),
  }),
  route({
    method: "POST",
    path: "/organization/{orgname}/robots/{robot_shortname}/regenerate",
    summary: "Gives a robot of an organization another token",
    needs: { organization: "admin", superuser: true },
    answers: { 200: robotSchema },
    async handle({ app, caller, organization, params, origin }) {
      const by = { caller, request: origin() };
      return actions.regenerate(app, ownerOf(organization), params.robot_shortname ?? "", by);
    },
  }),
];

export const robotRoutes: readonly ApiRoute[] = [...userRobotRoutes, ...organizationRobotRoutes];
