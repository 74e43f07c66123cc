/**
 * What was deleted and can be restored: repositories of a namespace for its admins, users and organizations for superusers.
 * Berth's own: Quay has nothing like it, and no path here is one of Quay's.
 */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import { listDeletedNamespaces } from "../../domain/namespace/deleted.ts";
import { purgeDeletedNamespace, restoreNamespace } from "../../domain/namespace/restore-namespace.ts";
import { showsQuota } from "../../domain/quota/report.ts";
import {
  type ChosenRepository,
  listDeletedRepositories,
  purgeDeletedRepository,
  restoreRepository,
} from "../../domain/repository/deleted.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { isoDate, isoDateSchema } from "./views.ts";

const PAGE_MAX = 100;
const superusers = (config: Config) => config.FEATURE_SUPER_USERS;

const listQuery = () =>
  z.object({
    limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_MAX),
    next_page: z.string().optional(),
  });
const restoreBody = () => z.object({ name: z.string().min(1).optional() });
const positionSchema = () => z.tuple([z.int(), z.int()]);

interface Listed {
  readonly id: number;
  readonly deletedMs: number;
}

/** One page of something deleted, the latest first. */
async function pageOf<T extends Listed>(
  app: App,
  list: string,
  query: z.output<ReturnType<typeof listQuery>>,
  find: (page: { after: Listed | undefined; limit: number }) => Promise<T[]>,
): Promise<{ rows: T[]; next: { next_page?: string } }> {
  const position = openPage(app, list, query.next_page, positionSchema());
  const after = position && { deletedMs: position[0], id: position[1] };
  const found = await find({ after, limit: query.limit + 1 });
  const rows = found.slice(0, query.limit);
  const end = found.length > query.limit ? rows.at(-1) : undefined;
  return { rows, next: end ? { next_page: sealPage(app, list, [end.deletedMs, end.id]) } : {} };
}

const whenFields = () => ({ deleted_at: isoDateSchema(), restorable_until: isoDateSchema() });

function when({ deletedMs, restorableUntilMs }: { deletedMs: number; restorableUntilMs: number }) {
  return { deleted_at: isoDate(deletedMs), restorable_until: isoDate(restorableUntilMs) };
}

const repositoriesSchema = () =>
  z.strictObject({
    repositories: z.array(
      z.strictObject({
        uuid: z.string(),
        namespace: z.string(),
        name: z.string(),
        is_public: z.boolean(),
        ...whenFields(),
        /** As far as it was counted; null while quotas are off and nobody counts. */
        size_bytes: z.int().nullable(),
      }),
    ),
    next_page: z.string().optional(),
  });
const restoredSchema = () => z.strictObject({ namespace: z.string(), name: z.string() });

/** What both kinds of namespace do, once it is known whose repositories they are. */
const actions = {
  async list(app: App, namespace: ChosenRepository["namespace"], query: z.output<ReturnType<typeof listQuery>>) {
    const { rows, next } = await pageOf(app, `deleted:${namespace.id}`, query, (page) =>
      listDeletedRepositories(app.db, namespace.id, page),
    );
    const repositories = rows.map((each) => ({
      uuid: each.uuid,
      namespace: namespace.username,
      name: each.name,
      is_public: each.visibility === "public",
      ...when(each),
      size_bytes: showsQuota(app.config) ? each.sizeBytes : null,
    }));
    return json(200, { repositories, ...next });
  },
  async restore(app: App, chosen: ChosenRepository, body: { name?: string | undefined }) {
    const name = await restoreRepository(app, chosen, body.name);
    return json(200, { namespace: chosen.namespace.username, name });
  },
};

export const deletedRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/organization/{orgname}/deleted",
    summary: "Lists the deleted repositories of an organization that can be restored",
    needs: { organization: "admin", superuser: true },
    query: listQuery,
    answers: { 200: repositoriesSchema },
    handle: ({ app, organization, query }) => actions.list(app, organization.account, query),
  }),
  route({
    method: "POST",
    path: "/organization/{orgname}/deleted/{uuid}/restore",
    summary: "Restores a deleted repository of an organization, under its name or another one",
    needs: { organization: "admin", superuser: true },
    body: restoreBody,
    bodyOptional: true,
    answers: { 200: restoredSchema },
    handle: ({ app, caller, organization, params, body, origin }) =>
      actions.restore(
        app,
        { namespace: organization.account, uuid: params.uuid ?? "", caller, request: origin() },
        body,
      ),
  }),
  route({
    method: "DELETE",
    path: "/organization/{orgname}/deleted/{uuid}",
    summary: "Removes a deleted repository of an organization now: it cannot be restored any more",
    needs: { organization: "admin", superuser: true },
    answers: { 204: null },
    async handle({ app, caller, organization, params, origin }) {
      const chosen = { namespace: organization.account, uuid: params.uuid ?? "", caller, request: origin() };
      await purgeDeletedRepository(app, chosen);
      return noContent();
    },
  }),
  route({
    method: "GET",
    path: "/user/deleted",
    summary: "Lists the caller's own deleted repositories that can be restored",
    needs: { account: "admin" },
    query: listQuery,
    answers: { 200: repositoriesSchema },
    handle: ({ app, principal, query }) =>
      actions.list(app, { id: principal.accountId, username: principal.username }, query),
  }),
  route({
    method: "POST",
    path: "/user/deleted/{uuid}/restore",
    summary: "Restores a deleted repository of the caller, under its name or another one",
    needs: { account: "admin" },
    body: restoreBody,
    bodyOptional: true,
    answers: { 200: restoredSchema },
    handle: ({ app, caller, principal, params, body, origin }) => {
      const namespace = { id: principal.accountId, username: principal.username };
      return actions.restore(app, { namespace, uuid: params.uuid ?? "", caller, request: origin() }, body);
    },
  }),
  route({
    method: "DELETE",
    path: "/user/deleted/{uuid}",
    summary: "Removes a deleted repository of the caller now: it cannot be restored any more",
    needs: { account: "admin" },
    answers: { 204: null },
    async handle({ app, caller, principal, params, origin }) {
      const namespace = { id: principal.accountId, username: principal.username };
      await purgeDeletedRepository(app, { namespace, uuid: params.uuid ?? "", caller, request: origin() });
      return noContent();
    },
  }),
  route({
    method: "GET",
    path: "/superuser/deleted",
    summary: "Lists the deleted users and organizations that can be restored",
    needs: "superuser",
    feature: superusers,
    query: listQuery,
    answers: {
      200: () =>
        z.strictObject({
          namespaces: z.array(
            z.strictObject({
              uuid: z.string(),
              name: z.string(),
              kind: z.enum(["user", "organization"]),
              ...whenFields(),
              repositories: z.int(),
            }),
          ),
          next_page: z.string().optional(),
        }),
    },
    async handle({ app, query }) {
      const { rows, next } = await pageOf(app, "superuser:deleted", query, (page) =>
        listDeletedNamespaces(app.db, page),
      );
      const namespaces = rows.map((each) => ({
        uuid: each.uuid,
        name: each.name,
        kind: each.kind,
        ...when(each),
        repositories: each.repositories,
      }));
      return json(200, { namespaces, ...next });
    },
  }),
  route({
    method: "POST",
    path: "/superuser/deleted/{uuid}/restore",
    summary: "Restores a deleted user or organization with what was in it, under its name or another one",
    needs: "superuser",
    feature: superusers,
    freshLogin: true,
    body: restoreBody,
    bodyOptional: true,
    answers: { 200: () => z.strictObject({ name: z.string(), kind: z.enum(["user", "organization"]) }) },
    async handle({ app, caller, params, body, origin }) {
      const chosen = { uuid: params.uuid ?? "", caller, request: origin() };
      return json(200, await restoreNamespace(app, chosen, body.name));
    },
  }),
  route({
    method: "DELETE",
    path: "/superuser/deleted/{uuid}",
    summary: "Removes a deleted user or organization now: it cannot be restored any more",
    needs: "superuser",
    feature: superusers,
    freshLogin: true,
    answers: { 204: null },
    async handle({ app, caller, params, origin }) {
      await purgeDeletedNamespace(app, { uuid: params.uuid ?? "", caller, request: origin() });
      return noContent();
    },
  }),
];
