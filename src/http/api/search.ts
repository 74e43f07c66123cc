/** Search of repositories, and of everything at once. Source: quay-api reference, section 16. */

import { z } from "zod";
import type { App } from "../../app.ts";
import { countStars, findLastModified, findPopularity } from "../../domain/repository/extras.ts";
import type { ListedRepository } from "../../domain/repository/list.ts";
import { type Found, type FoundNamespace, searchEverything } from "../../domain/search/everything.ts";
import { searchRepositories } from "../../domain/search/repositories.ts";
import { nearness } from "../../domain/search/terms.ts";
import { toSeconds } from "./repository-list.ts";
import { type ApiRoute, json, route } from "./route.ts";
import { avatar, avatarSchema, queryBool } from "./views.ts";

/** What a hit of each kind weighs before its nearness to the query, as in Quay. */
const ENTITY_SCORE = 1;
const TEAM_SCORE = 2;
const REPOSITORY_SCORE = 4;

const entitySchema = () => ({
  title: z.string(),
  avatar: avatarSchema(),
  name: z.string(),
  score: z.number(),
  href: z.string(),
});
const namespaceSchema = () => z.strictObject({ kind: z.enum(["user", "organization"]), ...entitySchema() });
const robotSchema = () =>
  z.strictObject({
    kind: z.literal("robot"),
    title: z.string(),
    name: z.string(),
    short_name: z.string(),
    avatar: z.null(),
    score: z.number(),
    href: z.string(),
  });
const teamSchema = () =>
  z.strictObject({ kind: z.literal("team"), organization: namespaceSchema(), ...entitySchema() });
const repositorySchema = () =>
  z.strictObject({
    kind: z.enum(["repository", "application"]),
    title: z.string(),
    namespace: namespaceSchema(),
    name: z.string(),
    description: z.string(),
    is_public: z.boolean(),
    score: z.number(),
    href: z.string(),
    last_modified: z.number().int().nullable().optional(),
    stars: z.number().int().optional(),
    popularity: z.number().optional(),
  });

function namespaceView({ name, kind }: FoundNamespace) {
  const isOrganization = kind === "organization";
  return {
    kind,
    title: isOrganization ? "org" : "user",
    avatar: avatar(isOrganization ? "org" : "user", name),
    name,
    score: ENTITY_SCORE,
    href: `/${kind}/${name}`,
  };
}

function repositoryView(repository: ListedRepository) {
  const kind = repository.kind === "application" ? "application" : "repository";
  return {
    kind,
    title: kind === "application" ? "app" : "repo",
    namespace: namespaceView({ name: repository.namespace, kind: repository.namespaceKind }),
    name: repository.name,
    description: repository.description,
    is_public: repository.visibility === "public",
    score: REPOSITORY_SCORE,
    href: `/${kind}/${repository.path}`,
  };
}

/** Hits of all kinds, the nearest first. */
function foundViews(found: Found, username: string | undefined, query: string) {
  const teams = found.teams.map(({ name, organization }) => ({
    kind: "team",
    title: "team",
    name,
    organization: namespaceView({ name: organization, kind: "organization" }),
    avatar: avatar("team", name),
    score: TEAM_SCORE * nearness(name, query),
    href: `/organization/${organization}/teams/${name}`,
  }));
  const robots = found.robots.map(({ name, shortName, owner }) => ({
    kind: "robot",
    title: "robot",
    name,
    short_name: shortName,
    avatar: null,
    score: ENTITY_SCORE * nearness(shortName, query),
    href: `/${owner === username ? "user" : "organization"}/${owner}?tab=robots&showRobot=${encodeURIComponent(name)}`,
  }));
  const repositories = found.repositories.map((repository) => {
    const view = repositoryView(repository);
    return { ...view, score: view.score * nearness(repository.name, query) };
  });
  const namespaces = found.namespaces.map((namespace) => {
    const view = namespaceView(namespace);
    return { ...view, score: view.score * nearness(namespace.name, query) };
  });
  return [...teams, ...robots, ...repositories, ...namespaces].sort((a, b) => b.score - a.score);
}

async function usageViews(app: App, repositories: readonly ListedRepository[]) {
  const ids = repositories.map(({ id }) => id);
  const [lastModified, stars, popularity] = await Promise.all([
    findLastModified(app.db, ids),
    countStars(app.db, ids),
    findPopularity(app.db, ids, app.clock.nowMs()),
  ]);
  return repositories.map((repository) => ({
    ...repositoryView(repository),
    last_modified: toSeconds(lastModified.get(repository.id)),
    stars: stars.get(repository.id) ?? 0,
    popularity: popularity.get(repository.id) ?? 0,
  }));
}

export const searchRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/find/repositories",
    summary: "Finds repositories by words of their name",
    needs: "anyone",
    query: () =>
      z.object({
        query: z.string().default(""),
        page: z.coerce.number().int().default(1),
        includeUsage: queryBool(false),
      }),
    answers: {
      200: () =>
        z.strictObject({
          results: z.array(repositorySchema()),
          has_additional: z.boolean(),
          page: z.number().int(),
          page_size: z.number().int(),
          start_index: z.number().int(),
        }),
    },
    async handle({ app, caller, query }) {
      const size = app.config.SEARCH_RESULTS_PER_PAGE;
      const page = Math.min(Math.max(1, query.page), app.config.SEARCH_MAX_RESULT_PAGE_COUNT);
      const skip = (page - 1) * size;
      const found = await searchRepositories(app, caller, query.query, { skip, limit: size + 1 });
      const shown = found.slice(0, size);
      return json(200, {
        results: query.includeUsage ? await usageViews(app, shown) : shown.map(repositoryView),
        has_additional: found.length > size,
        page,
        page_size: size,
        start_index: skip,
      });
    },
  }),
  route({
    method: "GET",
    path: "/find/all",
    summary: "Finds repositories, namespaces, and the caller's own teams and robots",
    needs: "anyone",
    query: () => z.object({ query: z.string().default("") }),
    answers: {
      200: () =>
        z.strictObject({
          results: z.array(z.union([teamSchema(), robotSchema(), repositorySchema(), namespaceSchema()])),
        }),
    },
    async handle({ app, caller, query }) {
      const found = await searchEverything(app, caller, query.query);
      return json(200, { results: foundViews(found, caller.principal?.username, query.query) });
    },
  }),
];
