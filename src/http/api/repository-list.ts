/** Lists of repositories, a hundred a page. Source: quay-api reference, section 7. */

import { z } from "zod";
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import type { Caller } from "../../domain/access/actor.ts";
import { defaultQuotaBytes, showsQuota } from "../../domain/quota/report.ts";
import {
  findLastModified,
  findPopularity,
  findStarredIds,
  findUsage,
  type Usage,
} from "../../domain/repository/extras.ts";
import { type ListedRepository, listRepositories } from "../../domain/repository/list.ts";
import { RegistryError } from "../../errors.ts";
import { openPage, sealPage } from "./paging.ts";
import { repositoryKind, repositoryState } from "./repository.ts";
import { type ApiRoute, json, route } from "./route.ts";
import { queryBool } from "./views.ts";

/** Source: quay-api reference, section 1.4. */
const PAGE = 100;
const PAGE_LIST = "repositories";

const listedSchema = () =>
  z.strictObject({
    namespace: z.string(),
    name: z.string(),
    description: z.string().nullable(),
    is_public: z.boolean(),
    kind: repositoryKind(),
    state: repositoryState(),
    quota_report: z.strictObject({ quota_bytes: z.number(), configured_quota: z.number().nullable() }).optional(),
    last_modified: z.number().int().nullable().optional(),
    popularity: z.number().optional(),
    is_starred: z.boolean().optional(),
  });

export const repositoryListRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/repository",
    summary: "Lists repositories of a namespace, the starred ones, or all the caller may see with the public ones",
    needs: "anyone",
    query: () =>
      z.object({
        namespace: z.string().optional(),
        starred: queryBool(false),
        public: queryBool(false),
        last_modified: queryBool(false),
        popularity: queryBool(false),
        repo_kind: repositoryKind().default("image"),
        next_page: z.string().optional(),
      }),
    answers: { 200: () => z.strictObject({ repositories: z.array(listedSchema()), next_page: z.string().optional() }) },
    async handle({ app, caller, query }) {
      const { starred } = query;
      const namespace = query.namespace === "" ? undefined : query.namespace;
      if (!starred && !query.public && namespace === undefined) {
        throw new RegistryError("invalid_request", {
          message: "namespace, starred or public are required for this API call",
        });
      }
      if (starred && !caller.principal) throw new RegistryError("unauthorized");
      const { repositories, next } = await listRepositories(app, caller, {
        starred,
        // As in Quay, the caller's stars are all in one list, whatever else was asked.
        namespace: starred ? undefined : namespace,
        withPublic: query.public,
        kind: query.repo_kind,
        last: openPage(app, PAGE_LIST, query.next_page, z.string()),
        limit: PAGE,
      });
      return json(200, {
        repositories: await listedViews(app, caller, repositories, query),
        ...(next === undefined ? {} : { next_page: sealPage(app, PAGE_LIST, next) }),
      });
    },
  }),
];

/** What each row shows beside itself is asked for all rows of the page at once. */
async function listedViews(
  app: App,
  caller: Caller,
  repositories: readonly ListedRepository[],
  wanted: { last_modified: boolean; popularity: boolean },
) {
  if (repositories.length === 0) return [];
  const { db } = app;
  const ids = repositories.map(({ id }) => id);
  const { principal } = caller;
  const [lastModified, popularity, starred, usage] = await Promise.all([
    wanted.last_modified ? findLastModified(db, ids) : undefined,
    wanted.popularity ? findPopularity(db, ids, app.clock.nowMs()) : undefined,
    principal ? findStarredIds(db, principal.accountId, ids) : undefined,
    showsQuota(app.config) ? findUsage(db, ids) : undefined,
  ]);
  return repositories.map((repository) => ({
    ...repositoryRow(repository),
    ...(usage && { quota_report: quotaReport(app.config, usage.get(repository.id)) }),
    ...(lastModified && { last_modified: toSeconds(lastModified.get(repository.id)) }),
    ...(popularity && { popularity: popularity.get(repository.id) ?? 0 }),
    ...(starred && { is_starred: starred.has(repository.id) }),
  }));
}

function repositoryRow(repository: ListedRepository) {
  const { namespace, name, description, kind, state } = repository;
  return { namespace, name, description, is_public: repository.visibility === "public", kind, state };
}

function quotaReport(config: Config, usage: Usage | undefined) {
  const configured = usage?.limitBytes ?? defaultQuotaBytes(config);
  return { quota_bytes: usage?.sizeBytes ?? 0, configured_quota: configured ?? null };
}

export function toSeconds(ms: number | undefined): number | null {
  return ms === undefined ? null : Math.floor(ms / 1000);
}
