/** One repository: making it, looking at it, changing what it is, deleting it. Source: quay-api reference, section 7. */

import { z } from "zod";
import type { RepositoryFacts } from "../../domain/access/facts.ts";
import { createRepositoryByName } from "../../domain/repository/create.ts";
import { deleteRepository } from "../../domain/repository/delete.ts";
import {
  CHOSEN_STATES,
  changeDescription,
  changeState,
  changeTrust,
  changeVisibility,
} from "../../domain/repository/settings.ts";
import { type RepositoryView, statusToken, viewRepository } from "../../domain/repository/view.ts";
import type { TagSummary } from "../../domain/tag/summary.ts";
import { RegistryError } from "../../errors.ts";
import { type ApiMethod, type ApiRoute, json, noContent, route } from "./route.ts";
import { httpDate, httpDateSchema, queryBool } from "./views.ts";

const visibility = () => z.enum(["public", "private"]);
export const repositoryKind = () => z.enum(["image", "application"]);
export const repositoryState = () => z.enum(["NORMAL", "READ_ONLY", "MIRROR", "MARKED_FOR_DELETION"]);
const success = () => z.strictObject({ success: z.literal(true) });

const tagSchema = () =>
  z.strictObject({
    name: z.string(),
    size: z.number().nullable(),
    last_modified: httpDateSchema(),
    manifest_digest: z.string(),
    expiration: httpDateSchema().optional(),
  });

const viewSchema = () =>
  z.strictObject({
    namespace: z.string(),
    name: z.string(),
    kind: repositoryKind(),
    description: z.string(),
    is_public: z.boolean(),
    is_organization: z.boolean(),
    is_starred: z.boolean(),
    status_token: z.string(),
    trust_enabled: z.boolean(),
    tag_expiration_s: z.number().int(),
    is_free_account: z.boolean(),
    state: repositoryState(),
    can_write: z.boolean(),
    can_admin: z.boolean(),
    tags: z.record(z.string(), tagSchema()).optional(),
    stats: z.array(z.strictObject({ date: z.iso.date(), count: z.number().int() })).optional(),
  });

function tagView(tag: TagSummary) {
  return {
    name: tag.name,
    size: tag.sizeBytes ?? null,
    last_modified: httpDate(tag.startMs),
    manifest_digest: tag.manifestDigest,
    ...(tag.expiresMs === undefined ? {} : { expiration: httpDate(tag.expiresMs) }),
  };
}

function repositoryView(repository: RepositoryFacts, view: RepositoryView, token: string) {
  return {
    namespace: repository.namespace,
    name: repository.name,
    kind: repository.kind,
    description: view.description,
    is_public: repository.visibility === "public",
    is_organization: view.isOrganization,
    is_starred: view.isStarred,
    status_token: token,
    trust_enabled: view.trustEnabled,
    tag_expiration_s: view.tagExpirationSeconds,
    // There are no plans to pay for here.
    is_free_account: true,
    state: repository.state,
    can_write: view.canWrite,
    can_admin: view.canAdmin,
    ...(view.tags && { tags: Object.fromEntries(view.tags.map((tag) => [tag.name, tagView(tag)])) }),
    ...(view.stats && {
      stats: view.stats.map(({ dayMs, count }) => ({ date: new Date(dayMs).toISOString().slice(0, 10), count })),
    }),
  };
}

/** Tokens of a single repository went with Quay 3: their paths say so. */
const goneRoutes = (["GET", "POST"] as const)
  .map((method) => goneRoute(method, "/repository/{repository}/tokens/"))
  .concat(
    (["GET", "PUT", "DELETE"] as const).map((method) => goneRoute(method, "/repository/{repository}/tokens/{code}")),
  );

function goneRoute(method: ApiMethod, path: string): ApiRoute {
  return route({
    method,
    path,
    summary: "Was for access tokens of a repository, which are no more",
    needs: { repository: "admin" },
    answers: {},
    async handle() {
      throw new RegistryError("gone", { message: "Handling of access tokens is no longer supported" });
    },
  });
}

export const repositoryRoutes: readonly ApiRoute[] = [
  route({
    method: "POST",
    path: "/repository",
    summary: "Creates a repository",
    // Who may is decided by the namespace, which the body names.
    needs: "anyone",
    body: () =>
      z.object({
        repository: z.string(),
        visibility: visibility(),
        description: z.string(),
        namespace: z.string().min(1).optional(),
        repo_kind: repositoryKind().nullish(),
      }),
    answers: { 201: () => z.strictObject({ namespace: z.string(), name: z.string(), kind: repositoryKind() }) },
    async handle({ app, caller, body, origin }) {
      const kind = body.repo_kind ?? "image";
      const { namespace, repository: name, visibility, description } = body;
      const made = await createRepositoryByName(
        app,
        caller,
        { namespace, name, visibility, description, kind },
        origin(),
      );
      return json(201, { namespace: made.namespace, name: made.name, kind });
    },
  }),
  route({
    method: "GET",
    path: "/repository/{repository}",
    summary: "Shows a repository, its first 500 tags and how much it was used",
    needs: { repository: "read" },
    query: () => z.object({ includeStats: queryBool(false), includeTags: queryBool(true) }),
    answers: { 200: viewSchema },
    async handle({ app, caller, repository, query }) {
      const parts = { tags: query.includeTags, stats: query.includeStats };
      const view = await viewRepository(app, caller, repository, parts);
      return json(200, repositoryView(repository, view, statusToken(app, repository)));
    },
  }),
  route({
    method: "PUT",
    path: "/repository/{repository}",
    summary: "Changes the description of a repository",
    needs: { repository: "write" },
    body: () => z.object({ description: z.string() }),
    answers: { 200: success },
    async handle({ app, caller, repository, body, origin }) {
      await changeDescription(app, { caller, repository, request: origin() }, body.description);
      return json(200, { success: true });
    },
  }),
  route({
    method: "DELETE",
    path: "/repository/{repository}",
    summary: "Deletes a repository; it can be restored until the time machine's window is over",
    needs: { repository: "admin" },
    answers: { 204: null },
    async handle({ app, caller, repository, origin }) {
      await deleteRepository(app, { caller, repository, request: origin() });
      return noContent();
    },
  }),
  route({
    method: "POST",
    path: "/repository/{repository}/changevisibility",
    summary: "Makes a repository public or private",
    needs: { repository: "admin" },
    body: () => z.object({ visibility: visibility() }),
    answers: { 200: success },
    async handle({ app, caller, repository, body, origin }) {
      await changeVisibility(app, { caller, repository, request: origin() }, body.visibility);
      return json(200, { success: true });
    },
  }),
  route({
    method: "PUT",
    path: "/repository/{repository}/changestate",
    summary: "Sets whether a repository takes pushes from everybody, from nobody, or from its mirror",
    needs: { repository: "admin" },
    feature: (config) => config.FEATURE_REPO_MIRROR,
    body: () => z.object({ state: z.enum(CHOSEN_STATES) }),
    answers: { 200: success },
    async handle({ app, caller, repository, body, origin }) {
      await changeState(app, { caller, repository, request: origin() }, body.state);
      return json(200, { success: true });
    },
  }),
  route({
    method: "POST",
    path: "/repository/{repository}/changetrust",
    summary: "Marks a repository as one whose images are signed",
    needs: { repository: "admin" },
    feature: (config) => config.FEATURE_SIGNING,
    body: () => z.object({ trust_enabled: z.boolean() }),
    answers: { 200: success },
    async handle({ app, caller, repository, body, origin }) {
      await changeTrust(app, { caller, repository, request: origin() }, body.trust_enabled);
      return json(200, { success: true });
    },
  }),
  ...goneRoutes,
];
