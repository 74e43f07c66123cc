/**
 * What the caller has given to applications, and what it is asked to give; and the renewal of the bootstrap token. Source:
 * quay-api reference, sections 2 and 20.
 */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import { deleteAssignment, listAssignments } from "../../domain/oauth/assignment.ts";
import { renewBootstrapToken } from "../../domain/oauth/bootstrap.ts";
import { formatScopes } from "../../domain/oauth/scopes.ts";
import {
  type Authorization,
  getAuthorization,
  listAuthorizations,
  revokeAuthorization,
} from "../../domain/oauth/token.ts";
import { applicationFields, applicationView, scopesSchema, scopesView } from "./oauth-views.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";

/** Quay gives the whole list; here it goes on behind this many. */
const PAGE_MAX = 200;

const assignable = (config: Config) => config.FEATURE_ASSIGN_OAUTH_TOKEN;

const authorizationSchema = () =>
  z.strictObject({ application: z.strictObject(applicationFields()), scopes: scopesSchema(), uuid: z.string() });

function authorizationView({ application, scopes, uuid }: Authorization) {
  return { application: applicationView(application), scopes: scopesView(scopes), uuid };
}

const pageQuery = () => z.object({ next_page: z.string().optional() });

export const oauthAuthorizationRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/user/authorizations",
    summary: "Lists the tokens that the caller has given to applications",
    needs: { account: "admin" },
    internal: true,
    query: pageQuery,
    answers: {
      200: () => z.strictObject({ authorizations: z.array(authorizationSchema()), next_page: z.string().optional() }),
    },
    async handle({ app, principal, query }) {
      const list = `authorizations:${principal.accountId}`;
      const afterId = openPage(app, list, query.next_page, z.number()) ?? 0;
      const found = await listAuthorizations(app, principal.accountId, afterId, PAGE_MAX);
      const last = found.length === PAGE_MAX ? found.at(-1) : undefined;
      return json(200, {
        authorizations: found.map(authorizationView),
        ...(last ? { next_page: sealPage(app, list, last.id) } : {}),
      });
    },
  }),
  route({
    method: "GET",
    path: "/user/authorizations/{access_token_uuid}",
    summary: "Shows a token that the caller has given to an application",
    needs: { account: "admin" },
    internal: true,
    answers: { 200: authorizationSchema },
    async handle({ app, principal, params }) {
      return json(
        200,
        authorizationView(await getAuthorization(app, principal.accountId, params.access_token_uuid ?? "")),
      );
    },
  }),
  route({
    method: "DELETE",
    path: "/user/authorizations/{access_token_uuid}",
    summary: "Revokes a token that the caller has given to an application",
    needs: { account: "admin" },
    internal: true,
    answers: { 204: null },
    async handle({ app, principal, caller, params, origin }) {
      const uuid = params.access_token_uuid ?? "";
      await revokeAuthorization(app, { accountId: principal.accountId, uuid, caller, request: origin() });
      return noContent();
    },
  }),
  route({
    method: "GET",
    path: "/user/assignedauthorization",
    summary: "Lists the tokens that the caller is asked to give to applications",
    needs: { account: "admin" },
    feature: assignable,
    internal: true,
    query: pageQuery,
    answers: {
      200: () =>
        z.strictObject({
          authorizations: z.array(
            z.strictObject({
              application: z.strictObject({ ...applicationFields(), clientId: z.string() }),
              uuid: z.string(),
              redirectUri: z.string(),
              scopes: scopesSchema(),
              responseType: z.string(),
            }),
          ),
          next_page: z.string().optional(),
        }),
    },
    async handle({ app, principal, query }) {
      const list = `assignments:${principal.accountId}`;
      const afterId = openPage(app, list, query.next_page, z.number()) ?? 0;
      const found = await listAssignments(app, principal.accountId, afterId, PAGE_MAX);
      const last = found.length === PAGE_MAX ? found.at(-1) : undefined;
      return json(200, {
        authorizations: found.map(({ application, uuid, redirectUri, scopes, responseType }) => ({
          application: { ...applicationView(application), clientId: application.clientId },
          uuid,
          redirectUri,
          scopes: scopesView(scopes),
          responseType,
        })),
        ...(last ? { next_page: sealPage(app, list, last.id) } : {}),
      });
    },
  }),
  route({
    method: "DELETE",
    path: "/user/assignedauthorization/{assigned_authorization_uuid}",
    summary: "Refuses to give a token that the caller was asked for",
    needs: { account: "admin" },
    feature: assignable,
    internal: true,
    answers: { 204: null },
    async handle({ app, principal, params }) {
      await deleteAssignment(app, principal.accountId, params.assigned_authorization_uuid ?? "");
      return noContent();
    },
  }),
  route({
    method: "POST",
    path: "/bootstrap/renew",
    summary: "Replaces the bootstrap token that the request is made with by a new one",
    needs: "signed-in",
    feature: (config) => config.FEATURE_PROGRAMMATIC_BOOTSTRAP,
    answers: {
      200: () =>
        z.strictObject({
          access_token: z.string().length(40),
          token_type: z.literal("Bearer"),
          expires_in: z.number().int(),
          scope: z.string(),
        }),
    },
    async handle({ app, caller, origin }) {
      const { token, scopes, lifeSeconds } = await renewBootstrapToken(app, caller, origin());
      return json(200, {
        access_token: token,
        token_type: "Bearer",
        expires_in: lifeSeconds,
        scope: formatScopes(scopes),
      });
    },
  }),
];
