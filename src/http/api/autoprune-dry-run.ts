/**
 * What auto-prune policies would end now and how many bytes that frees, without changing anything. Ours: Quay has no such
 * route.
 */

import { z } from "zod";
import { AUTOPRUNE_METHODS } from "../../config/autoprune.ts";
import type { Caller } from "../../domain/access/actor.ts";
import {
  type DoomedTag,
  DRY_RUN_PAGE_MAX,
  type DryRun,
  type DryRunPosition,
  dryRunPolicies,
} from "../../domain/autoprune/dry-run.ts";
import { type AutopruneInput, readRule } from "../../domain/autoprune/policy.ts";
import { openPage, sealPage } from "./paging.ts";
import type { Place } from "./policy-routes.ts";
import { type ApiRoute, json } from "./route.ts";
import { isoDate, isoDateSchema } from "./views.ts";

const PAGE_DEFAULT = 100;

/** What is missing or no rule is refused by the domain, in Quay's words. */
export const autopruneBodySchema = () =>
  z.object({
    method: z.string().nullish(),
    value: z.union([z.number(), z.string()]).nullish(),
    tagPattern: z.string().nullish(),
    tagPatternMatches: z.boolean().nullish(),
  });

const querySchema = () =>
  z.object({
    limit: z.coerce.number().int().default(PAGE_DEFAULT),
    next_page: z.string().optional(),
  });

const positionSchema = () =>
  z.object({
    repository: z.string(),
    tag: z.object({ place: z.int(), startMs: z.number(), id: z.number() }).optional(),
  });

const answerSchema = () =>
  z.strictObject({
    tags: z.array(
      z.strictObject({
        namespace: z.string(),
        repository: z.string(),
        name: z.string(),
        manifest_digest: z.string(),
        created: isoDateSchema(),
        last_pull: isoDateSchema().nullable(),
        policy: z.strictObject({
          uuid: z.string().nullable(),
          method: z.enum(AUTOPRUNE_METHODS),
          value: z.union([z.int(), z.string()]),
          tagPattern: z.string().nullable(),
          tagPatternMatches: z.boolean(),
        }),
      }),
    ),
    next_page: z.string().optional(),
    is_complete: z.boolean(),
    note: z.string().optional(),
    tag_count: z.int().optional(),
    bytes: z.int().optional(),
    registry_bytes: z.int().nullable().optional(),
  });

const NOTE =
  "This answer is cut: there is more to look at than one request may. There may be more tags than these, and more bytes; the pages behind next_page go on with the next repositories, and a smaller scope or a tag pattern gives whole answers.";

/** `POST …/autoprunepolicy/dryrun`: the policy of the body alone, or all that are in force when there is none. */
export function autopruneDryRunRoute(place: Place): ApiRoute {
  return {
    method: "POST",
    path: `${place.path}/autoprunepolicy/dryrun`,
    summary: `Tells which tags ${place.of} a policy would end, or those in force would, and the bytes that frees`,
    needs: place.needs,
    feature: (config) => config.FEATURE_AUTO_PRUNE,
    query: querySchema,
    body: autopruneBodySchema,
    bodyOptional: true,
    answers: { 200: answerSchema },
    async handle(context) {
      const { app, caller } = context;
      // The router has parsed both with the schemas above.
      const query = context.query as z.output<ReturnType<typeof querySchema>>;
      const body = context.body as AutopruneInput;
      const scope = place.scopeOf(context);
      const list = `autoprune dryrun ${scope.namespaceId} ${scope.repository?.id ?? ""}`;
      const isEmpty = Object.values(body).every((value) => value === undefined || value === null);
      const run = await dryRunPolicies(app, {
        scope,
        rule: isEmpty ? undefined : { ...readRule(body), uuid: undefined },
        limit: Math.min(DRY_RUN_PAGE_MAX, Math.max(1, query.limit)),
        after: openPage(app, list, query.next_page, positionSchema()),
      });
      return json(200, {
        tags: run.tags.map((tag) => tagView(scope.namespace, tag)),
        ...(run.next ? { next_page: sealPage(app, list, run.next satisfies DryRunPosition) } : {}),
        is_complete: run.isComplete,
        ...(run.isComplete ? {} : { note: NOTE }),
        ...totalsView(run, caller),
      });
    },
  };
}

function tagView(namespace: string, tag: DoomedTag) {
  const { rule } = tag;
  return {
    namespace,
    repository: tag.repository,
    name: tag.name,
    manifest_digest: tag.digest,
    created: isoDate(tag.startMs),
    last_pull: tag.lastPullMs === undefined ? null : isoDate(tag.lastPullMs),
    policy: {
      uuid: rule.uuid ?? null,
      method: rule.method,
      value: rule.value,
      tagPattern: rule.tagPattern ?? null,
      tagPatternMatches: rule.tagPatternMatches,
    },
  };
}

/** Which blobs other namespaces keep is for superusers alone: others could ask whether somebody has certain bytes. */
function totalsView({ totals }: DryRun, { principal }: Caller) {
  if (!totals) return {};
  const registryBytes = principal?.superuser ? totals.registryBytes : null;
  return { tag_count: totals.tags, bytes: totals.namespaceBytes, registry_bytes: registryBytes };
}
