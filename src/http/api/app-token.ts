/** App-specific tokens of the caller, and for superusers of everybody. Source: quay-api reference, sections 16 and 20. */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import {
  type AppToken,
  createAppToken,
  getAppToken,
  listAppTokens,
  revokeAppToken,
} from "../../domain/app-token/app-token.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { httpDate, httpDateSchema, queryBool } from "./views.ts";

/** Quay gives the whole list; here it goes on behind this many. */
const PAGE_MAX = 200;

const feature = (config: Config) => config.FEATURE_APP_SPECIFIC_TOKENS;

const fields = () => ({
  uuid: z.string(),
  title: z.string(),
  last_accessed: httpDateSchema().nullable(),
  created: httpDateSchema(),
  expiration: httpDateSchema().nullable(),
});
const withCode = () => z.strictObject({ token: z.strictObject({ ...fields(), token_code: z.string().length(120) }) });
const listQuery = () => z.object({ expiring: queryBool(false), next_page: z.string().optional() });

function view(token: AppToken) {
  return {
    uuid: token.uuid,
    title: token.title,
    last_accessed: token.lastAccessedMs === undefined ? null : httpDate(token.lastAccessedMs),
    created: httpDate(token.createdMs),
    expiration: token.expiresMs === undefined ? null : httpDate(token.expiresMs),
  };
}

export const appTokenRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/user/apptoken",
    summary: "Lists the caller's app-specific tokens",
    needs: { account: "admin" },
    feature,
    query: listQuery,
    answers: {
      200: () =>
        z.strictObject({
          tokens: z.array(z.strictObject(fields())),
          only_expiring: z.boolean(),
          next_page: z.string().optional(),
        }),
    },
    async handle({ app, principal, query }) {
      const list = `apptokens:${principal.accountId}`;
      const afterId = openPage(app, list, query.next_page, z.number()) ?? 0;
      const page = { accountId: principal.accountId, expiringOnly: query.expiring, afterId, limit: PAGE_MAX };
      const tokens = await listAppTokens(app, page);
      const last = tokens.length === PAGE_MAX ? tokens.at(-1) : undefined;
      return json(200, {
        tokens: tokens.map(view),
        only_expiring: query.expiring,
        ...(last ? { next_page: sealPage(app, list, last.id) } : {}),
      });
    },
  }),
  route({
    method: "POST",
    path: "/user/apptoken",
    summary: "Makes an app-specific token for the caller",
    needs: { account: "admin" },
    feature,
    freshLogin: true,
    body: () => z.object({ title: z.string() }),
    answers: { 200: withCode },
    async handle({ app, principal, caller, body, origin }) {
      const input = { accountId: principal.accountId, title: body.title, caller, request: origin() };
      const { token, code } = await createAppToken(app, input);
      return json(200, { token: { ...view(token), token_code: code } });
    },
  }),
  route({
    method: "GET",
    path: "/user/apptoken/{token_uuid}",
    summary: "Shows an app-specific token of the caller with its text",
    needs: { account: "admin" },
    feature,
    freshLogin: true,
    answers: { 200: withCode },
    async handle({ app, principal, params }) {
      const { token, code } = await getAppToken(app, principal.accountId, params.token_uuid ?? "");
      return json(200, { token: { ...view(token), token_code: code } });
    },
  }),
  route({
    method: "DELETE",
    path: "/user/apptoken/{token_uuid}",
    summary: "Revokes an app-specific token of the caller",
    needs: { account: "admin" },
    feature,
    freshLogin: true,
    answers: { 204: null },
    async handle({ app, principal, caller, params, origin }) {
      const uuid = params.token_uuid ?? "";
      await revokeAppToken(app, { accountId: principal.accountId, uuid, caller, request: origin() });
      return noContent();
    },
  }),
  route({
    method: "GET",
    path: "/superuser/apptokens",
    summary: "Lists the app-specific tokens of all users",
    needs: "superuser",
    feature,
    freshLogin: true,
    query: listQuery,
    answers: {
      200: () =>
        z.strictObject({
          tokens: z.array(z.strictObject({ ...fields(), username: z.string() })),
          only_expiring: z.boolean(),
          next_page: z.string().optional(),
        }),
    },
    async handle({ app, query }) {
      const list = "superuser-apptokens";
      const afterId = openPage(app, list, query.next_page, z.number()) ?? 0;
      const page = { accountId: undefined, expiringOnly: query.expiring, afterId, limit: PAGE_MAX };
      const tokens = await listAppTokens(app, page);
      const last = tokens.length === PAGE_MAX ? tokens.at(-1) : undefined;
      return json(200, {
        tokens: tokens.map((token) => ({ ...view(token), username: token.username })),
        only_expiring: query.expiring,
        ...(last ? { next_page: sealPage(app, list, last.id) } : {}),
      });
    },
  }),
];
