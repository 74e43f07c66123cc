/**
 * OAuth applications of an organization, the tokens that its admins make for them, and what anybody may know of one.
 * Source: quay-api reference, sections 16 and 20.
 */

import { z } from "zod";
import {
  type Application,
  type ApplicationFields,
  createApplication,
  deleteApplication,
  findApplication,
  getApplication,
  listApplications,
  resetClientSecret,
  updateApplication,
} from "../../domain/oauth/application.ts";
import {
  type ApplicationToken,
  createApplicationToken,
  getApplicationToken,
  listApplicationTokens,
  revokeApplicationToken,
} from "../../domain/oauth/application-token.ts";
import { formatScopes } from "../../domain/oauth/scopes.ts";
import { capStanding, findStanding } from "../../domain/organization/standing.ts";
import { findAccountById } from "../../domain/user/account.ts";
import { RegistryError } from "../../errors.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { avatar, avatarSchema, httpDate, httpDateSchema } from "./views.ts";

/** Quay gives the whole list; here it goes on behind this many. */
const PAGE_MAX = 200;

const needs = { organization: "admin", superuser: true } as const;
const listPath = "/organization/{orgname}/applications";
const onePath = "/organization/{orgname}/applications/{client_id}";

const applicationSchema = () =>
  z.strictObject({
    name: z.string(),
    description: z.string(),
    application_uri: z.string(),
    client_id: z.string(),
    client_secret: z.string().length(40),
    redirect_uri: z.string(),
    avatar_email: z.string().nullable(),
  });

function view(application: Application) {
  return {
    name: application.name,
    description: application.description,
    application_uri: application.applicationUri,
    client_id: application.clientId,
    client_secret: application.clientSecret,
    redirect_uri: application.redirectUri,
    avatar_email: application.avatarEmail ?? null,
  };
}

const nullableText = () => z.string().nullish();

function fieldsOf(body: {
  name: string;
  redirect_uri?: string | null | undefined;
  application_uri?: string | null | undefined;
  description?: string | null | undefined;
  avatar_email?: string | null | undefined;
}): ApplicationFields {
  return {
    name: body.name,
    redirectUri: body.redirect_uri ?? "",
    applicationUri: body.application_uri ?? "",
    description: body.description ?? "",
    avatarEmail: body.avatar_email || undefined,
  };
}

const tokenFields = () => ({
  uuid: z.string(),
  title: z.string(),
  scope: z.string(),
  username: z.string(),
  created: httpDateSchema(),
  expiration: httpDateSchema(),
  last_accessed: httpDateSchema().nullable(),
});

function tokenView(token: ApplicationToken) {
  return {
    uuid: token.uuid,
    title: token.title,
    scope: formatScopes(token.scopes),
    username: token.username,
    created: httpDate(token.createdMs),
    expiration: httpDate(token.expiresMs),
    last_accessed: token.lastAccessedMs === undefined ? null : httpDate(token.lastAccessedMs),
  };
}

const pageQuery = () => z.object({ next_page: z.string().optional() });

const applicationRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: listPath,
    summary: "Lists the OAuth applications of an organization",
    needs,
    query: pageQuery,
    answers: {
      200: () => z.strictObject({ applications: z.array(applicationSchema()), next_page: z.string().optional() }),
    },
    async handle({ app, organization, query }) {
      const { id } = organization.account;
      const list = `applications:${id}`;
      const afterId = openPage(app, list, query.next_page, z.number()) ?? 0;
      const found = await listApplications(app, id, afterId, PAGE_MAX);
      const last = found.length === PAGE_MAX ? found.at(-1) : undefined;
      return json(200, {
        applications: found.map(view),
        ...(last ? { next_page: sealPage(app, list, last.id) } : {}),
      });
    },
  }),
  route({
    method: "POST",
    path: listPath,
    summary: "Makes an OAuth application",
    needs,
    body: () =>
      z.object({
        name: z.string(),
        redirect_uri: nullableText(),
        application_uri: nullableText(),
        description: nullableText(),
        avatar_email: nullableText(),
      }),
    answers: { 200: applicationSchema },
    async handle({ app, organization, caller, body, origin }) {
      const change = { organization: organization.account, caller, request: origin() };
      return json(200, view(await createApplication(app, change, fieldsOf(body))));
    },
  }),
  route({
    method: "GET",
    path: onePath,
    summary: "Shows an OAuth application",
    needs,
    answers: { 200: applicationSchema },
    async handle({ app, organization, params }) {
      return json(200, view(await getApplication(app, organization.account.id, params.client_id ?? "")));
    },
  }),
  route({
    method: "PUT",
    path: onePath,
    summary: "Changes an OAuth application",
    needs,
    body: () =>
      z.object({
        name: z.string(),
        redirect_uri: z.string(),
        application_uri: z.string(),
        description: nullableText(),
        avatar_email: nullableText(),
      }),
    answers: { 200: applicationSchema },
    async handle({ app, organization, caller, params, body, origin }) {
      const change = { organization: organization.account, caller, request: origin() };
      return json(200, view(await updateApplication(app, change, params.client_id ?? "", fieldsOf(body))));
    },
  }),
  route({
    method: "DELETE",
    path: onePath,
    summary: "Deletes an OAuth application with all its tokens",
    needs,
    answers: { 204: null },
    async handle({ app, organization, caller, params, origin }) {
      const change = { organization: organization.account, caller, request: origin() };
      await deleteApplication(app, change, params.client_id ?? "");
      return noContent();
    },
  }),
  route({
    method: "POST",
    path: `${onePath}/resetclientsecret`,
    summary: "Gives an OAuth application a new secret",
    needs,
    internal: true,
    answers: { 200: applicationSchema },
    async handle({ app, organization, caller, params, origin }) {
      const change = { organization: organization.account, caller, request: origin() };
      return json(200, view(await resetClientSecret(app, change, params.client_id ?? "")));
    },
  }),
  route({
    method: "GET",
    path: "/app/{client_id}",
    summary: "Shows what anybody may know of an OAuth application",
    needs: "anyone",
    answers: {
      200: () =>
        z.strictObject({
          name: z.string(),
          description: z.string(),
          uri: z.string(),
          avatar: avatarSchema(),
          organization: z.strictObject({
            name: z.string(),
            email: z.literal(""),
            avatar: avatarSchema(),
            is_admin: z.boolean(),
            is_member: z.boolean(),
          }),
        }),
    },
    async handle({ app, caller, principal, params }) {
      const application = await findApplication(app, params.client_id ?? "");
      const owner = application && (await findAccountById(app.db, application.organizationId));
      // Applications that Berth makes for a user's own tokens are nobody else's business.
      if (!application || owner?.kind !== "organization") throw new RegistryError("not_found");
      const standing = capStanding(caller, await findStanding(app.db, owner.id, principal));
      return json(200, {
        name: application.name,
        description: application.description,
        uri: application.applicationUri,
        avatar: avatar("app", application.name, application.avatarEmail),
        organization: {
          name: owner.username,
          email: "",
          avatar: avatar("org", owner.username, owner.email),
          is_admin: standing.isAdmin,
          is_member: standing.isMember,
        },
      });
    },
  }),
];

const tokenRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: `${onePath}/tokens`,
    summary: "Lists the tokens that admins made for an OAuth application",
    needs,
    query: pageQuery,
    answers: {
      200: () => z.strictObject({ tokens: z.array(z.strictObject(tokenFields())), next_page: z.string().optional() }),
    },
    async handle({ app, organization, params, query }) {
      const application = await getApplication(app, organization.account.id, params.client_id ?? "");
      const list = `application-tokens:${application.id}`;
      const afterId = openPage(app, list, query.next_page, z.number()) ?? 0;
      const found = await listApplicationTokens(app, application.id, afterId, PAGE_MAX);
      const last = found.length === PAGE_MAX ? found.at(-1) : undefined;
      return json(200, {
        tokens: found.map(tokenView),
        ...(last ? { next_page: sealPage(app, list, last.id) } : {}),
      });
    },
  }),
  route({
    method: "POST",
    path: `${onePath}/tokens`,
    summary: "Makes a token of an OAuth application that acts as the caller",
    needs,
    freshLogin: true,
    body: () =>
      z.object({
        title: z.string(),
        scope: z.string(),
        /** Seconds until it expires; ten years when it is left out. */
        expiration: z.number().int().min(60).max(315_576_000).nullish(),
      }),
    answers: {
      201: () => z.strictObject({ token: z.strictObject({ ...tokenFields(), access_token: z.string().length(40) }) }),
    },
    async handle({ app, organization, principal, caller, params, body, origin }) {
      const application = await getApplication(app, organization.account.id, params.client_id ?? "");
      const by = { principal, caller, request: origin() };
      const input = { title: body.title, scope: body.scope, lifeSeconds: body.expiration ?? undefined };
      const { token, accessToken } = await createApplicationToken(app, application, by, input);
      return json(201, { token: { ...tokenView(token), access_token: accessToken } });
    },
  }),
  route({
    method: "GET",
    path: `${onePath}/tokens/{token_uuid}`,
    summary: "Shows a token that an admin made for an OAuth application",
    needs,
    answers: { 200: () => z.strictObject({ token: z.strictObject(tokenFields()) }) },
    async handle({ app, organization, params }) {
      const application = await getApplication(app, organization.account.id, params.client_id ?? "");
      return json(200, { token: tokenView(await getApplicationToken(app, application.id, params.token_uuid ?? "")) });
    },
  }),
  route({
    method: "DELETE",
    path: `${onePath}/tokens/{token_uuid}`,
    summary: "Revokes a token that an admin made for an OAuth application",
    needs,
    answers: { 204: null },
    async handle({ app, organization, caller, params, origin }) {
      const application = await getApplication(app, organization.account.id, params.client_id ?? "");
      await revokeApplicationToken(app, application, params.token_uuid ?? "", { caller, request: origin() });
      return noContent();
    },
  }),
];

export const oauthApplicationRoutes: readonly ApiRoute[] = [...applicationRoutes, ...tokenRoutes];
