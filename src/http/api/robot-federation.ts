/** Whose ID tokens robots trust: the same routes below the caller and an organization. Source: quay-api, section 20. */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Caller, Principal } from "../../domain/access/actor.ts";
import type { RequestOrigin } from "../../domain/audit/audit.ts";
import { listFederation, setFederation, type Trusted } from "../../domain/robot/federation.ts";
import type { RobotOwner } from "../../domain/robot/robot.ts";
import { RegistryError } from "../../errors.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";

const listSchema = () => z.array(z.strictObject({ issuer: z.string(), subject: z.string() }));
const bodySchema = () => z.array(z.object({ issuer: z.string(), subject: z.string() })).min(1);

interface By {
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

async function list(app: App, owner: RobotOwner, shortName: string): Promise<Response> {
  return json(200, await listFederation(app, owner, shortName));
}

async function replace(
  app: App,
  owner: RobotOwner,
  shortName: string,
  trusted: readonly Trusted[],
  by: By,
): Promise<Response> {
  return json(200, await setFederation(app, owner, shortName, trusted, by));
}

async function clear(app: App, owner: RobotOwner, shortName: string, by: By): Promise<Response> {
  await setFederation(app, owner, shortName, [], by);
  return noContent();
}

/** Source: quay-behaviour reference, section 3: restricted users change nothing in their own namespace. */
function ownOf(principal: Principal, isChange: boolean): RobotOwner {
  if (isChange && principal.restricted) {
    throw new RegistryError("denied", {
      message: "Operation not allowed on restricted user owned namespace",
      detail: { decision: "restricted-user" },
    });
  }
  return { id: principal.accountId, username: principal.username, kind: principal.kind };
}

const userPath = "/user/robots/{robot_shortname}/federation";
const organizationPath = "/organization/{orgname}/robots/{robot_shortname}/federation";

export const robotFederationRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: userPath,
    summary: "Lists the issuers and subjects that a robot of the caller trusts",
    needs: { account: "admin" },
    answers: { 200: listSchema },
    handle: ({ app, principal, params }) => list(app, ownOf(principal, false), params.robot_shortname ?? ""),
  }),
  route({
    method: "POST",
    path: userPath,
    summary: "Sets the issuers and subjects that a robot of the caller trusts",
    needs: { account: "admin" },
    body: bodySchema,
    answers: { 200: listSchema },
    async handle({ app, caller, principal, params, body, origin }) {
      const by = { caller, request: origin() };
      return replace(app, ownOf(principal, true), params.robot_shortname ?? "", body, by);
    },
  }),
  route({
    method: "DELETE",
    path: userPath,
    summary: "Lets a robot of the caller trust nobody any more",
    needs: { account: "admin" },
    answers: { 204: null },
    async handle({ app, caller, principal, params, origin }) {
      return clear(app, ownOf(principal, true), params.robot_shortname ?? "", { caller, request: origin() });
    },
  }),
  route({
    method: "GET",
    path: organizationPath,
    summary: "Lists the issuers and subjects that a robot of an organization trusts",
    needs: { organization: "admin", superuser: true },
    answers: { 200: listSchema },
    handle: ({ app, organization, params }) => list(app, organization.account, params.robot_shortname ?? ""),
  }),
  route({
    method: "POST",
    path: organizationPath,
    summary: "Sets the issuers and subjects that a robot of an organization trusts",
    needs: { organization: "admin", superuser: true },
    body: bodySchema,
    answers: { 200: listSchema },
    async handle({ app, caller, organization, params, body, origin }) {
      const by = { caller, request: origin() };
      return replace(app, organization.account, params.robot_shortname ?? "", body, by);
    },
  }),
  route({
    method: "DELETE",
    path: organizationPath,
    summary: "Lets a robot of an organization trust nobody any more",
    needs: { organization: "admin", superuser: true },
    answers: { 204: null },
    async handle({ app, caller, organization, params, origin }) {
      return clear(app, organization.account, params.robot_shortname ?? "", { caller, request: origin() });
    },
  }),
];
