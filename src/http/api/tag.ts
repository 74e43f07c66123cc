/** Tags of a repository and their history. Source: quay-api reference, sections 8 and 20. */

import { z } from "zod";
import { decideRole } from "../../domain/access/access.ts";
import { getTagPulls, type PullFigures } from "../../domain/pullstats/statistics.ts";
import { parseAsOf } from "../../domain/tag/as-of.ts";
import { changeTag, restoreTag } from "../../domain/tag/change-tag.ts";
import { expireTag } from "../../domain/tag/expire-tag.ts";
import { HISTORY_PAGE_MAX, type HistoryFilter, listTagHistory, type TagLifetime } from "../../domain/tag/history.ts";
import { deleteTag } from "../../domain/tag/tag.ts";
import { RegistryError } from "../../errors.ts";
import { parseDigest } from "../../oci/digest.ts";
import { quoteValue } from "../../oci/quote.ts";
import { findTag, parseTag, type TagName } from "../../oci/reference.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { httpDate, httpDateSchema, isoDate, isoDateSchema, queryBool } from "./views.ts";

const HISTORY_PAGE_DEFAULT = 50;
const tagPath = "/repository/{repository}/tag/{tag}";
const needs = { repository: "write", normalState: true, images: true } as const;

const tagSchema = () =>
  z.strictObject({
    name: z.string(),
    reversion: z.boolean(),
    start_ts: z.int(),
    end_ts: z.int().optional(),
    manifest_digest: z.string(),
    is_manifest_list: z.boolean(),
    size: z.int().nullable(),
    last_modified: httpDateSchema(),
    expiration: httpDateSchema().optional(),
    immutable: z.boolean(),
  });

function view(tag: TagLifetime) {
  const { endMs } = tag;
  return {
    name: tag.name,
    reversion: tag.reversion,
    start_ts: Math.floor(tag.startMs / 1000),
    ...(endMs === undefined ? {} : { end_ts: Math.floor(endMs / 1000) }),
    manifest_digest: tag.digest,
    is_manifest_list: tag.isList,
    size: tag.sizeBytes,
    last_modified: httpDate(tag.startMs),
    ...(endMs === undefined ? {} : { expiration: httpDate(endMs) }),
    immutable: tag.immutable,
  };
}

/** A name that no tag can have is one that is not there. */
function tagOf(params: Readonly<Record<string, string>>): TagName {
  const tag = findTag(params.tag ?? "");
  if (tag === undefined) throw new RegistryError("not_found");
  return tag;
}

/** `like:text` or `eq:name`. */
function readFilter(text: string): Pick<HistoryFilter, "name" | "contains"> {
  if (text === "") return {};
  if (text.startsWith("eq:")) return { name: text.slice(3) };
  if (text.startsWith("like:")) return { contains: text.slice(5) };
  throw new RegistryError("invalid_request", {
    message: `query parameter 'filter_tag_name': ${quoteValue(text)} is not of the form like:<text> or eq:<name>`,
  });
}

export const tagRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/repository/{repository}/tag/",
    summary: "Lists the history of a repository's tags, living and dead, newest first",
    needs: { repository: "read", images: true },
    query: () =>
      z.object({
        specificTag: z.string().default(""),
        filter_tag_name: z.string().default(""),
        limit: z.coerce.number().int().default(HISTORY_PAGE_DEFAULT),
        page: z.coerce.number().int().default(1),
        onlyActiveTags: queryBool(false),
        /** Ours: only what was there at this time, as RFC 3339 or in seconds since 1970. */
        asof: z.string().optional(),
      }),
    answers: {
      200: () => z.strictObject({ tags: z.array(tagSchema()), page: z.int(), has_additional: z.boolean() }),
    },
    async handle({ app, repository, query }) {
      const filter = {
        ...readFilter(query.filter_tag_name),
        ...(query.specificTag === "" ? {} : { name: query.specificTag }),
        onlyAlive: query.onlyActiveTags,
        asOfMs: query.asof === undefined ? undefined : parseAsOf(query.asof, app.clock.nowMs()),
      };
      const page = Math.max(1, query.page);
      const limit = Math.min(HISTORY_PAGE_MAX, Math.max(1, query.limit));
      const { lifetimes, more } = await listTagHistory(app, repository, filter, { page, limit });
      return json(200, { tags: lifetimes.map(view), page, has_additional: more });
    },
  }),
  route({
    method: "PUT",
    path: tagPath,
    summary: "Points a tag at a manifest, or changes its expiration or immutability",
    needs,
    body: () =>
      z.object({
        manifest_digest: z.string().nullish(),
        expiration: z.number().nullish(),
        immutable: z.boolean().optional(),
      }),
    answers: { 201: () => z.literal("Updated") },
    async handle({ app, caller, repository, params, body, origin }) {
      const role = await app.lookup.role(caller.principal, repository);
      await changeTag(app, caller, {
        repository,
        name: parseTag(params.tag ?? ""),
        digest: body.manifest_digest == null ? undefined : parseDigest(body.manifest_digest),
        expirationS: body.expiration,
        immutable: body.immutable,
        isAdmin: decideRole(app.config, caller, repository, role, "admin").allowed,
        request: origin(),
      });
      return json(201, "Updated");
    },
  }),
  route({
    method: "DELETE",
    path: tagPath,
    summary: "Deletes a tag; the time machine can bring it back",
    needs,
    answers: { 204: null },
    async handle({ app, caller, repository, params, origin }) {
      await deleteTag(app, caller, repository, tagOf(params), origin(), "api");
      return noContent();
    },
  }),
  route({
    method: "POST",
    path: `${tagPath}/restore`,
    summary: "Points a tag at a manifest of the past",
    needs,
    body: () => z.object({ manifest_digest: z.string({ error: "Missing manifest_digest" }) }),
    answers: { 200: () => z.strictObject({}) },
    async handle({ app, caller, repository, params, body, origin }) {
      const target = { repository, name: tagOf(params), digest: parseDigest(body.manifest_digest) };
      await restoreTag(app, caller, target, origin());
      return json(200, {});
    },
  }),
  route({
    method: "POST",
    path: `${tagPath}/expire`,
    summary: "Removes a tag for good: it leaves the time machine",
    needs,
    feature: (config) => config.PERMANENTLY_DELETE_TAGS,
    body: () =>
      z.object({
        manifest_digest: z.string().nullish(),
        include_submanifests: z.boolean().nullish(),
        is_alive: z.boolean().nullish(),
      }),
    answers: { 200: () => z.literal("") },
    async handle({ app, caller, repository, params, body, origin }) {
      await expireTag(app, caller, {
        repository,
        name: tagOf(params),
        digest: body.manifest_digest == null ? undefined : parseDigest(body.manifest_digest),
        isAlive: body.is_alive ?? false,
        includeSubmanifests: body.include_submanifests ?? false,
        request: origin(),
      });
      return json(200, "");
    },
  }),
  route({
    method: "GET",
    path: `${tagPath}/pull_statistics`,
    summary: "Tells how often a tag and its manifest were pulled",
    needs: { repository: "read", images: true },
    answers: {
      200: () =>
        z.strictObject({
          tag_name: z.string(),
          tag_pull_count: z.int(),
          last_tag_pull_date: isoDateSchema().nullable(),
          current_manifest_digest: z.string(),
          manifest_pull_count: z.int(),
          last_manifest_pull_date: isoDateSchema().nullable(),
        }),
    },
    async handle({ app, repository, params }) {
      const name = tagOf(params);
      const pulls = await getTagPulls(app.db, repository, name, app.clock.nowMs());
      return json(200, {
        tag_name: name,
        tag_pull_count: pulls.tag.count,
        last_tag_pull_date: lastDate(pulls.tag),
        current_manifest_digest: pulls.digest,
        manifest_pull_count: pulls.manifest.count,
        last_manifest_pull_date: lastDate(pulls.manifest),
      });
    },
  }),
];

/** When it was pulled last, null for never. */
export function lastDate(pulls: PullFigures): string | null {
  return pulls.lastMs === undefined ? null : isoDate(pulls.lastMs);
}
