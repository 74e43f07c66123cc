/**
 * Quotas of organizations, which superusers set and members see, and the caller's own, which it may only see. Source:
 * quay-api reference, section 13.
 */

import { z } from "zod";
import {
  changeLimit,
  createLimit,
  createQuota,
  deleteLimit,
  deleteQuota,
  getLimit,
  getQuota,
  getQuotaOwner,
  resizeQuota,
} from "../../domain/quota/limits.ts";
import { findQuota } from "../../domain/quota/queries.ts";
import {
  defaultQuotaViews,
  hasQuotaRoutes,
  quotaLimitSchema,
  quotaLimitView,
  quotaPathId,
  quotaSchema,
  quotaView,
} from "./quota-view.ts";
import { type ApiContext, type ApiRoute, json, noContent, route } from "./route.ts";

const ALL = "/organization/{orgname}/quota";
const ONE = `${ALL}/{quota_id}`;
const LIMITS = `${ONE}/limit`;
const LIMIT = `${LIMITS}/{limit_id}`;
const OWN = "/user/quota";

const feature = hasQuotaRoutes;
const createdSchema = () => z.literal("Created");

/**
 * Whose quota a superuser changes. As in Quay, a quota that is there may be a user's, whatever the path says: these are the
 * only routes for the limits of a user's quota.
 */
function ownerOf({ app, params }: ApiContext) {
  return getQuotaOwner(app.db, params.orgname ?? "");
}

function pathOf({ params }: ApiContext) {
  return { quotaId: quotaPathId(params.quota_id), limitId: quotaPathId(params.limit_id) };
}

async function showQuota({ app, params }: ApiContext, accountId: number) {
  return json(200, quotaView(app.config, await getQuota(app.db, accountId, quotaPathId(params.quota_id))));
}

async function listLimits({ app, params }: ApiContext, accountId: number) {
  const { limits } = await getQuota(app.db, accountId, quotaPathId(params.quota_id));
  return json(200, limits.map(quotaLimitView));
}

async function showLimit(context: ApiContext, accountId: number) {
  const { quotaId, limitId } = pathOf(context);
  return json(200, quotaLimitView(await getLimit(context.app.db, accountId, quotaId, limitId)));
}

const organizationQuotaRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: ALL,
    summary: "Lists an organization's quota: its own, or the registry's default, or none",
    needs: { organization: "member", superuser: "any" },
    feature,
    answers: { 200: () => z.array(quotaSchema()) },
    async handle({ app, organization }) {
      const quota = await findQuota(app.db, organization.account.id);
      return json(200, quota ? [quotaView(app.config, quota)] : defaultQuotaViews(app.config));
    },
  }),
  route({
    method: "POST",
    path: ALL,
    summary: "Gives an organization a quota",
    needs: "superuser",
    feature,
    body: () => z.object({ limit_bytes: z.number() }),
    answers: { 201: createdSchema },
    async handle(context) {
      const owner = await getQuotaOwner(context.app.db, context.params.orgname ?? "", "organization");
      const exists = `Organization quota for '${owner.username}' already exists`;
      const change = { caller: context.caller, request: context.origin() };
      await createQuota(context.app, owner, context.body.limit_bytes, exists, change);
      return json(201, "Created");
    },
  }),
  route({
    method: "GET",
    path: ONE,
    summary: "Shows an organization's quota",
    needs: { organization: "member", superuser: "any" },
    feature,
    answers: { 200: quotaSchema },
    handle: (context) => showQuota(context, context.organization.account.id),
  }),
  route({
    method: "PUT",
    path: ONE,
    summary: "Changes the size of an organization's quota",
    needs: "superuser",
    feature,
    body: () => z.object({ limit_bytes: z.number().optional() }),
    answers: { 200: quotaSchema },
    async handle(context) {
      const { app, caller, body, params } = context;
      const owner = await ownerOf(context);
      const change = { caller, request: context.origin() };
      const quota = await resizeQuota(app, owner, quotaPathId(params.quota_id), body.limit_bytes, change);
      return json(200, quotaView(app.config, quota));
    },
  }),
  route({
    method: "DELETE",
    path: ONE,
    summary: "Takes an organization's quota away, with its limits",
    needs: "superuser",
    feature,
    answers: { 204: null },
    async handle(context) {
      const { app, caller, params } = context;
      const change = { caller, request: context.origin() };
      await deleteQuota(app, await ownerOf(context), quotaPathId(params.quota_id), change);
      return noContent();
    },
  }),
];

const organizationLimitRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: LIMITS,
    summary: "Lists the limits of an organization's quota",
    needs: { organization: "member" },
    feature,
    answers: { 200: () => z.array(quotaLimitSchema()) },
    handle: (context) => listLimits(context, context.organization.account.id),
  }),
  route({
    method: "POST",
    path: LIMITS,
    summary: "Has a quota warn, or refuse pushes, from a percentage of it on",
    needs: "superuser",
    feature,
    body: () => z.object({ type: z.string(), threshold_percent: z.number() }),
    answers: { 201: createdSchema },
    async handle(context) {
      const { app, caller, body, params } = context;
      const input = { type: body.type, percent: body.threshold_percent };
      const change = { caller, request: context.origin() };
      await createLimit(app, await ownerOf(context), quotaPathId(params.quota_id), input, change);
      return json(201, "Created");
    },
  }),
  route({
    method: "GET",
    path: LIMIT,
    summary: "Shows a limit of an organization's quota",
    needs: { organization: "member" },
    feature,
    answers: { 200: quotaLimitSchema },
    handle: (context) => showLimit(context, context.organization.account.id),
  }),
  route({
    method: "PUT",
    path: LIMIT,
    summary: "Changes a limit of an organization's quota",
    needs: "superuser",
    feature,
    body: () => z.object({ type: z.string().optional(), threshold_percent: z.number().optional() }),
    answers: { 200: quotaSchema },
    async handle(context) {
      const { app, caller, body } = context;
      const input = { type: body.type, percent: body.threshold_percent };
      const change = { caller, request: context.origin() };
      const quota = await changeLimit(app, await ownerOf(context), pathOf(context), input, change);
      return json(200, quotaView(app.config, quota));
    },
  }),
  route({
    method: "DELETE",
    path: LIMIT,
    summary: "Takes a limit of an organization's quota away",
    needs: "superuser",
    feature,
    answers: { 204: null },
    async handle(context) {
      const change = { caller: context.caller, request: context.origin() };
      await deleteLimit(context.app, await ownerOf(context), pathOf(context), change);
      return noContent();
    },
  }),
];

const ownQuotaRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: OWN,
    summary: "Lists the caller's quota, if it has one of its own",
    needs: { account: "admin" },
    feature,
    answers: { 200: () => z.array(quotaSchema()) },
    async handle({ app, principal }) {
      const quota = await findQuota(app.db, principal.accountId);
      return json(200, quota ? [quotaView(app.config, quota)] : []);
    },
  }),
  route({
    method: "GET",
    path: `${OWN}/{quota_id}`,
    summary: "Shows the caller's quota",
    needs: { account: "admin" },
    feature,
    answers: { 200: quotaSchema },
    handle: (context) => showQuota(context, context.principal.accountId),
  }),
  route({
    method: "GET",
    path: `${OWN}/{quota_id}/limit`,
    summary: "Lists the limits of the caller's quota",
    needs: { account: "admin" },
    feature,
    answers: { 200: () => z.array(quotaLimitSchema()) },
    handle: (context) => listLimits(context, context.principal.accountId),
  }),
  route({
    method: "GET",
    path: `${OWN}/{quota_id}/limit/{limit_id}`,
    summary: "Shows a limit of the caller's quota",
    needs: { account: "admin" },
    feature,
    answers: { 200: quotaLimitSchema },
    handle: (context) => showLimit(context, context.principal.accountId),
  }),
];

export const quotaRoutes: readonly ApiRoute[] = [
  ...organizationQuotaRoutes,
  ...organizationLimitRoutes,
  ...ownQuotaRoutes,
];
