/** What a config lets garbage collection do. */

import type { Config } from "../../config/schema.ts";

export type GcFeatures = Pick<
  Config,
  | "REGISTRY_STATE"
  | "FEATURE_GARBAGE_COLLECTION"
  | "FEATURE_REPOSITORY_GARBAGE_COLLECTION"
  | "FEATURE_NAMESPACE_GARBAGE_COLLECTION"
  | "FEATURE_AUTO_PRUNE"
>;

/** Nothing in a registry that is read-only: somebody may be copying its database and then its stores. */
export function collected(config: GcFeatures) {
  const isOpen = config.REGISTRY_STATE !== "readonly";
  return {
    garbage_collection: isOpen && config.FEATURE_GARBAGE_COLLECTION,
    repositories: isOpen && config.FEATURE_REPOSITORY_GARBAGE_COLLECTION,
    namespaces: isOpen && config.FEATURE_NAMESPACE_GARBAGE_COLLECTION,
    auto_prune: isOpen && config.FEATURE_AUTO_PRUNE,
  };
}
