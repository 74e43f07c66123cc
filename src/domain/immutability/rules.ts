/**
 * What makes a tag immutable: its own flag, or a policy of its repository or namespace that an admin has not lifted from
 * it. An immutable tag keeps its manifest and its life; whoever changes tags asks here first, in the same transaction.
 */

import type { Config } from "../../config/schema.ts";
import type { Db } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { compilePolicies, listPoliciesInForce } from "./queries.ts";

/** As much of a tag's current lifetime as the rules look at. */
export interface Protected {
  readonly immutable: boolean;
  readonly immutabilityLifted: boolean;
}

/** A tag that is about to get its first lifetime. */
export const UNPROTECTED: Protected = { immutable: false, immutabilityLifted: false };

export interface ImmutabilityRules {
  /** Whether this lifetime of a tag may not be moved, deleted or given an end. */
  isImmutable(name: string, tag: Protected): boolean;
  /** Whether a policy covers the name, whatever the tag's own flag says. */
  isCovered(name: string): boolean;
  /** Whether an expiration may be put on it. */
  mayExpire(name: string, tag: Protected): boolean;
}

const NO_RULES: ImmutabilityRules = {
  isImmutable: () => false,
  isCovered: () => false,
  mayExpire: () => true,
};

type RulesConfig = Pick<Config, "FEATURE_IMMUTABLE_TAGS" | "FEATURE_IMMUTABLE_TAGS_CAN_EXPIRE">;

/** The rules of one repository: one query, none while FEATURE_IMMUTABLE_TAGS is off. */
export async function loadImmutabilityRules(
  config: RulesConfig,
  db: Db,
  repository: Pick<RepositoryFacts, "id" | "namespaceId">,
): Promise<ImmutabilityRules> {
  if (!config.FEATURE_IMMUTABLE_TAGS) return NO_RULES;
  const isCovered = compilePolicies(await listPoliciesInForce(db, repository));
  const isImmutable = (name: string, tag: Protected) => tag.immutable || (!tag.immutabilityLifted && isCovered(name));
  return {
    isImmutable,
    isCovered,
    mayExpire: (name, tag) => config.FEATURE_IMMUTABLE_TAGS_CAN_EXPIRE || !isImmutable(name, tag),
  };
}

/** The refusal of everything that immutability forbids. `action` follows on "it cannot be". */
export function tagImmutable(name: string, action = "moved or deleted"): RegistryError {
  return new RegistryError("tag_immutable", {
    message: `tag "${name}" is immutable: it cannot be ${action}`,
    detail: { tag: name },
  });
}
