/** Immutability policies of organizations and repositories. Source: quay-api reference, section 20. */

import { z } from "zod";
import {
  createImmutabilityPolicy,
  deleteImmutabilityPolicy,
  getImmutabilityPolicy,
  listImmutabilityPolicies,
  updateImmutabilityPolicy,
} from "../../domain/immutability/policy.ts";
import { ORGANIZATION_PLACE, type PolicyResource, policyRoutes, REPOSITORY_PLACE } from "./policy-routes.ts";
import type { ApiRoute } from "./route.ts";

interface Body {
  tagPattern: string;
  tagPatternMatches?: boolean | null | undefined;
}

function patternOf(body: Body) {
  return { tagPattern: body.tagPattern.trim(), tagPatternMatches: body.tagPatternMatches ?? true };
}

const resource: PolicyResource<Body> = {
  word: "immutabilitypolicy",
  kind: "immutability",
  feature: (config) => config.FEATURE_IMMUTABLE_TAGS,
  policySchema: () => z.strictObject({ uuid: z.string(), tagPattern: z.string(), tagPatternMatches: z.boolean() }),
  bodySchema: () => z.object({ tagPattern: z.string(), tagPatternMatches: z.boolean().nullish() }),
  list: ({ app }, scope) => listImmutabilityPolicies(app, scope),
  get: ({ app }, scope, uuid) => getImmutabilityPolicy(app, scope, uuid),
  create: ({ app, caller, origin }, scope, body) =>
    createImmutabilityPolicy(app, caller, scope, patternOf(body), origin()),
  update: ({ app, caller, origin }, scope, uuid, body) =>
    updateImmutabilityPolicy(app, caller, scope, { uuid, ...patternOf(body) }, origin()),
  remove: ({ app, caller, origin }, scope, uuid) => deleteImmutabilityPolicy(app, caller, scope, uuid, origin()),
};

export const immutabilityPolicyRoutes: readonly ApiRoute[] = policyRoutes(resource, [
  ORGANIZATION_PLACE,
  REPOSITORY_PLACE,
]);
