/** Whom one can give a role: names that begin with a text. Source: quay-api reference, section 16. */

import { z } from "zod";
import { type Entity, searchEntities } from "../../domain/search/entities.ts";
import { RegistryError } from "../../errors.ts";
import { type ApiRoute, json, route } from "./route.ts";
import { avatar, avatarSchema, queryBool } from "./views.ts";

const entitySchema = () =>
  z.strictObject({
    name: z.string(),
    kind: z.enum(["user", "team", "org"]),
    is_robot: z.boolean().optional(),
    avatar: avatarSchema(),
    is_org_member: z.boolean().optional(),
  });

/** Quay calls robots users that are robots. The picture is made of the name: one of the address would give that away. */
function entityView({ kind, name, isMember }: Entity) {
  const isAccount = kind === "user" || kind === "robot";
  return {
    name,
    kind: kind === "robot" ? "user" : kind,
    ...(isAccount ? { is_robot: kind === "robot" } : {}),
    avatar: avatar(kind, name),
    ...(isMember === undefined ? {} : { is_org_member: isMember }),
  };
}

export const entityRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/entities/{prefix}",
    summary: "Finds users, robots, teams and organizations by the beginning of their name",
    needs: "anyone",
    query: () =>
      z.object({
        namespace: z.string().optional(),
        includeTeams: queryBool(false),
        includeOrgs: queryBool(false),
      }),
    answers: { 200: () => z.strictObject({ results: z.array(entitySchema()) }) },
    async handle({ app, caller, params, query }) {
      const { namespace, includeTeams, includeOrgs } = query;
      const wanted = { prefix: params.prefix ?? "", namespace, includeTeams, includeOrgs };
      return json(200, { results: (await searchEntities(app, caller, wanted)).map(entityView) });
    },
  }),
  route({
    method: "POST",
    path: "/entities/link/{username}",
    summary: "Makes an account for somebody whom the external directory knows",
    needs: "signed-in",
    internal: true,
    // Accounts of the database are all here already; there is no other directory to link from.
    feature: (config) => config.AUTHENTICATION_TYPE !== "Database",
    answers: {},
    async handle() {
      throw new RegistryError("not_found");
    },
  }),
];
