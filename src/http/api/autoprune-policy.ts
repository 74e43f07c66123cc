/** Auto-prune policies of organizations, the caller's own namespace, and repositories. Source: quay-api, section 20. */

import { z } from "zod";
import { AUTOPRUNE_METHODS } from "../../config/autoprune.ts";
import {
  type AutopruneInput,
  type AutoprunePolicy,
  createAutoprunePolicy,
  deleteAutoprunePolicy,
  getAutoprunePolicy,
  listAutoprunePolicies,
  updateAutoprunePolicy,
} from "../../domain/autoprune/policy.ts";
import { autopruneBodySchema, autopruneDryRunRoute } from "./autoprune-dry-run.ts";
import {
  ORGANIZATION_PLACE,
  type PolicyResource,
  policyRoutes,
  REPOSITORY_PLACE,
  USER_PLACE,
} from "./policy-routes.ts";
import type { ApiRoute } from "./route.ts";

function view(policy: AutoprunePolicy) {
  return {
    uuid: policy.uuid,
    method: policy.method,
    value: policy.value,
    tagPattern: policy.tagPattern ?? null,
    tagPatternMatches: policy.tagPatternMatches,
  };
}

const resource: PolicyResource<AutopruneInput> = {
  word: "autoprunepolicy",
  kind: "auto-prune",
  feature: (config) => config.FEATURE_AUTO_PRUNE,
  policySchema: () =>
    z.strictObject({
      uuid: z.string(),
      method: z.enum(AUTOPRUNE_METHODS),
      value: z.union([z.int(), z.string()]),
      tagPattern: z.string().nullable(),
      tagPatternMatches: z.boolean(),
    }),
  bodySchema: autopruneBodySchema,
  list: async ({ app }, scope) => (await listAutoprunePolicies(app.db, scope)).map(view),
  get: async ({ app }, scope, uuid) => view(await getAutoprunePolicy(app.db, scope, uuid)),
  create: ({ app, caller, origin }, scope, body) => createAutoprunePolicy(app, caller, scope, body, origin()),
  update: ({ app, caller, origin }, scope, uuid, body) =>
    updateAutoprunePolicy(app, caller, scope, uuid, body, origin()),
  remove: ({ app, caller, origin }, scope, uuid) => deleteAutoprunePolicy(app, caller, scope, uuid, origin()),
};

const PLACES = [ORGANIZATION_PLACE, USER_PLACE, REPOSITORY_PLACE];

export const autoprunePolicyRoutes: readonly ApiRoute[] = [
  ...policyRoutes(resource, PLACES),
  ...PLACES.map(autopruneDryRunRoute),
];
