/**
 * Immutability policies of a namespace or repository: reading and changing them. What they forbid is `rules.ts`. A policy
 * holds for every tag it covers from the moment it is made, and ends with it. Source: quay-api reference, section 20.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import type { RequestOrigin } from "../audit/audit.ts";
import { logPolicy, POLICIES_MAX, type PolicyScope, requireTagPattern, tooManyPolicies } from "../policy/scope.ts";
import {
  compilePolicies,
  deletePolicyRow,
  findPolicy,
  type ImmutabilityPattern,
  type ImmutabilityPolicy,
  insertPolicy,
  listExpiringTags,
  listPolicies,
  updatePolicy,
} from "./queries.ts";

type PolicyApp = Pick<App, "config" | "db" | "clock">;

/**
 * Steps of all patterns in one scope together. They are walked for each tag of a push: this many for a character are some
 * tenths of a millisecond for the longest name.
 */
const STEPS_MAX = 1000;
/** Expiring tags read at once while looking for one that a new policy would contradict. */
const EXPIRING_PAGE = 500;

/** Policies of exactly this scope, oldest first, at most `POLICIES_MAX`. */
export function listImmutabilityPolicies(app: PolicyApp, scope: PolicyScope): Promise<ImmutabilityPolicy[]> {
  return listPolicies(app.db, scope);
}

/** Throws `not_found`. */
export async function getImmutabilityPolicy(
  app: PolicyApp,
  scope: PolicyScope,
  uuid: string,
): Promise<ImmutabilityPolicy> {
  const policy = await findPolicy(app.db, scope, uuid);
  if (!policy) throw new RegistryError("not_found");
  return policy;
}

/**
 * Makes a policy and gives its uuid. Throws `invalid_request` when the pattern is not one, stands already in this scope,
 * or covers a living tag that expires.
 */
export async function createImmutabilityPolicy(
  app: PolicyApp,
  caller: Caller,
  scope: PolicyScope,
  pattern: ImmutabilityPattern,
  request: RequestOrigin,
): Promise<string> {
  requirePattern(pattern.tagPattern);
  const uuid = crypto.randomUUID();
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    await lockScope(tx, scope);
    const policies = await listPolicies(tx, scope);
    if (policies.length >= POLICIES_MAX) throw tooManyPolicies();
    requireBounded([...policies, pattern]);
    await requireNoConflict(app, tx, scope, pattern, nowMs);
    if (!(await insertPolicy(tx, scope, { ...pattern, uuid, createdMs: nowMs }))) throw duplicate(pattern);
    const metadata = metadataOf(pattern);
    await logPolicy(tx, scope, { kind: "create_immutability_policy", caller, request, nowMs, metadata });
  });
  return uuid;
}

/** Changes a policy. Throws as creating one, and `not_found`. */
export async function updateImmutabilityPolicy(
  app: PolicyApp,
  caller: Caller,
  scope: PolicyScope,
  policy: ImmutabilityPolicy,
  request: RequestOrigin,
): Promise<void> {
  requirePattern(policy.tagPattern);
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    await lockScope(tx, scope);
    const policies = await listPolicies(tx, scope);
    if (!policies.some(({ uuid }) => uuid === policy.uuid)) throw new RegistryError("not_found");
    const others = policies.filter(({ uuid }) => uuid !== policy.uuid);
    if (others.some(({ tagPattern }) => tagPattern === policy.tagPattern)) throw duplicate(policy);
    requireBounded([...others, policy]);
    await requireNoConflict(app, tx, scope, policy, nowMs);
    await updatePolicy(tx, scope, policy);
    const metadata = metadataOf(policy);
    await logPolicy(tx, scope, { kind: "update_immutability_policy", caller, request, nowMs, metadata });
  });
}

/** Deletes a policy; tags that nothing else protects can be changed again at once. Throws `not_found`. */
export async function deleteImmutabilityPolicy(
  app: PolicyApp,
  caller: Caller,
  scope: PolicyScope,
  uuid: string,
  request: RequestOrigin,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    if (!(await deletePolicyRow(tx, scope, uuid))) throw new RegistryError("not_found");
    const metadata = { policy_uuid: uuid };
    await logPolicy(tx, scope, { kind: "delete_immutability_policy", caller, request, nowMs, metadata });
  });
}

function requirePattern(tagPattern: string): void {
  if (tagPattern === "") {
    throw new RegistryError("invalid_request", { message: "tagPattern is required and must not be empty" });
  }
  requireTagPattern(tagPattern);
}

function requireBounded(patterns: readonly ImmutabilityPattern[]): void {
  const steps = patterns.reduce((sum, { tagPattern }) => sum + requireTagPattern(tagPattern), 0);
  if (steps <= STEPS_MAX) return;
  throw new RegistryError("invalid_request", {
    message: `The patterns here would be too complex together: written out they have ${steps} steps, at most ${STEPS_MAX} are taken`,
  });
}

/** Changes of policies take turns; in a repository they also take turns with its pushes, which lock the same row. */
async function lockScope(tx: Tx, scope: PolicyScope): Promise<void> {
  const rows = scope.repository
    ? await tx.sql`/* immutability.lock_repository */
        select id from repository where id = ${scope.repository.id} and deleted_ms is null ${tx.dialect.forUpdate}`
    : await tx.sql`/* immutability.lock_namespace */
        select id from account where id = ${scope.namespaceId} and deleted_ms is null ${tx.dialect.forUpdate}`;
  if (rows.length === 0) throw new RegistryError("not_found");
}

/** An immutable tag may not end by itself, so a policy must not cover one that does. */
async function requireNoConflict(
  app: PolicyApp,
  tx: Tx,
  scope: PolicyScope,
  pattern: ImmutabilityPattern,
  nowMs: number,
): Promise<void> {
  if (app.config.FEATURE_IMMUTABLE_TAGS_CAN_EXPIRE) return;
  const covers = compilePolicies([pattern]);
  let after = { repositoryId: 0, id: 0 };
  for (;;) {
    const tags = await listExpiringTags(tx, scope, { after, limit: EXPIRING_PAGE, nowMs });
    const conflict = tags.find(({ name }) => covers(name));
    if (conflict) {
      throw new RegistryError("invalid_request", {
        message: `The tag "${conflict.name}" has an expiration, and the policy would make it immutable; clear the expiration first`,
        detail: { tag: conflict.name },
      });
    }
    const last = tags.at(-1);
    if (!last || tags.length < EXPIRING_PAGE) return;
    after = last;
  }
}

function duplicate({ tagPattern }: ImmutabilityPattern): RegistryError {
  return new RegistryError("invalid_request", {
    message: `A policy with the tag pattern "${tagPattern}" already exists here`,
  });
}

function metadataOf({ tagPattern, tagPatternMatches }: ImmutabilityPattern) {
  return { tag_pattern: tagPattern, tag_pattern_matches: tagPatternMatches };
}
