/**
 * Quotas of any namespace, for superusers. As in Quay, the paths of users and of organizations are the same routes: either
 * finds the namespace of that name. Source: quay-api reference, section 13.
 */

import { z } from "zod";
import { createQuota, deleteQuota, getQuotaOwner, resizeQuota } from "../../domain/quota/limits.ts";
import { findQuota } from "../../domain/quota/queries.ts";
import { hasQuotaRoutes, quotaPathId, quotaSchema, quotaView } from "./quota-view.ts";
import { type ApiContext, type ApiRoute, json, noContent, route } from "./route.ts";

const feature = hasQuotaRoutes;

function ownerOf({ app, params }: ApiContext) {
  return getQuotaOwner(app.db, params.namespace ?? "");
}

/** `of` is for summaries: `a user's`. */
function routesBelow(path: string, of: string): ApiRoute[] {
  return [
    route({
      method: "GET",
      path,
      summary: `Lists ${of} quota, if there is one`,
      needs: "superuser",
      feature,
      freshLogin: true,
      answers: { 200: () => z.array(quotaSchema()) },
      async handle(context) {
        const { app } = context;
        const quota = await findQuota(app.db, (await ownerOf(context)).id);
        return json(200, quota ? [quotaView(app.config, quota)] : []);
      },
    }),
    route({
      method: "POST",
      path,
      summary: `Sets ${of} quota`,
      needs: "superuser",
      feature,
      freshLogin: true,
      body: () => z.object({ limit_bytes: z.number() }),
      answers: { 201: () => z.literal("Created") },
      async handle(context) {
        const { app, caller, body } = context;
        const owner = await ownerOf(context);
        const exists = `Quota for '${owner.username}' already exists`;
        await createQuota(app, owner, body.limit_bytes, exists, { caller, request: context.origin() });
        return json(201, "Created");
      },
    }),
    route({
      method: "PUT",
      path: `${path}/{quota_id}`,
      summary: `Changes the size of ${of} quota`,
      needs: "superuser",
      feature,
      freshLogin: true,
      body: () => z.object({ limit_bytes: z.number().optional() }),
      answers: { 200: quotaSchema },
      async handle(context) {
        const { app, caller, body, params } = context;
        const change = { caller, request: context.origin() };
        const owner = await ownerOf(context);
        const quota = await resizeQuota(app, owner, quotaPathId(params.quota_id), body.limit_bytes, change);
        return json(200, quotaView(app.config, quota));
      },
    }),
    route({
      method: "DELETE",
      path: `${path}/{quota_id}`,
      summary: `Takes ${of} quota away, with its limits`,
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
}

export const superuserQuotaRoutes: readonly ApiRoute[] = [
  ...routesBelow("/superuser/users/{namespace}/quota", "a user's"),
  ...routesBelow("/superuser/organization/{namespace}/quota", "an organization's"),
];
