/**
 * Auto-prune policies of a namespace or repository: reading, checking and changing them. Which tags they end is the
 * business of the pruning worker. Source: quay-api reference, section 20; quay-behaviour, section 21.
 */

import type { App } from "../../app.ts";
import { AUTOPRUNE_METHODS, AUTOPRUNE_TAGS_MAX } from "../../config/autoprune.ts";
import type { Config } from "../../config/schema.ts";
import { durationMs } from "../../config/units.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toBoolean } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { compileLinearRegex } from "../../lib/linear-regex.ts";
import type { Caller } from "../access/actor.ts";
import type { RequestOrigin } from "../audit/audit.ts";
import {
  inScope,
  logPolicy,
  POLICIES_MAX,
  type PolicyScope,
  requireTagPattern,
  tooManyPolicies,
} from "../policy/scope.ts";
import { notePolicy } from "./due.ts";

type PolicyApp = Pick<App, "db" | "clock">;

export type AutopruneMethod = (typeof AUTOPRUNE_METHODS)[number];

export interface AutopruneRule {
  readonly method: AutopruneMethod;
  /** A whole number from 1 up for number_of_tags, a duration such as `5d` for the others. */
  readonly value: number | string;
  /** Undefined: every tag. Looked for anywhere in the name, as Quay does. */
  readonly tagPattern: string | undefined;
  /** False: the policy is for tags that do not match. */
  readonly tagPatternMatches: boolean;
}

export interface AutoprunePolicy extends AutopruneRule {
  readonly uuid: string;
}

/** A rule and where it comes from: a policy, or the config without a uuid. */
export interface RuleInForce extends AutopruneRule {
  readonly uuid: string | undefined;
}

/** A rule as a caller gives it, before anything is known of it. */
export interface AutopruneInput {
  readonly method?: string | null | undefined;
  readonly value?: number | string | null | undefined;
  readonly tagPattern?: string | null | undefined;
  readonly tagPatternMatches?: boolean | null | undefined;
}

/** Policies of exactly this scope, oldest first, at most `POLICIES_MAX`. */
export async function listAutoprunePolicies(db: Db, scope: PolicyScope): Promise<AutoprunePolicy[]> {
  const rows = await db.sql<PolicyRow>`/* autoprune.list */
    select uuid, method, value, tag_pattern, tag_pattern_matches from autoprune_policy
    where ${inScope(db, scope)} order by id`;
  return rows.map(decodePolicy);
}

/**
 * Rules that hold for a repository: its own and its namespace's, or the config's default where the namespace has none. Source:
 * quay-config reference, DEFAULT_NAMESPACE_AUTOPRUNE_POLICY.
 */
export async function listRulesFor(
  config: Pick<Config, "DEFAULT_NAMESPACE_AUTOPRUNE_POLICY">,
  db: Db,
  repository: { readonly id: number; readonly namespaceId: number },
): Promise<RuleInForce[]> {
  const rows = await db.sql<PolicyRow & { repository_id: number | null }>`/* autoprune.in_force */
    select uuid, method, value, tag_pattern, tag_pattern_matches, repository_id from autoprune_policy
    where namespace_id = ${repository.namespaceId} and (repository_id is null or repository_id = ${repository.id})
    order by id`;
  const rules: RuleInForce[] = rows.map(decodePolicy);
  const byDefault = config.DEFAULT_NAMESPACE_AUTOPRUNE_POLICY;
  if (byDefault && !rows.some((row) => row.repository_id === null)) {
    const { method, value, tagPattern, tagPatternMatches = true } = byDefault;
    rules.push({ method, value, tagPattern, tagPatternMatches, uuid: undefined });
  }
  return rules;
}

/** What a rule says of a tag's name; looked for anywhere in it, in linear time. */
export function patternOf({ tagPattern, tagPatternMatches }: AutopruneRule): (name: string) => boolean {
  if (tagPattern === undefined) return () => true;
  const pattern = compileLinearRegex(tagPattern);
  return (name) => pattern.matchesAnywhere(name) === tagPatternMatches;
}

/** Throws `not_found`. */
export async function getAutoprunePolicy(db: Db, scope: PolicyScope, uuid: string): Promise<AutoprunePolicy> {
  const [row] = await db.sql<PolicyRow>`/* autoprune.find */
    select uuid, method, value, tag_pattern, tag_pattern_matches from autoprune_policy
    where uuid = ${uuid} and ${inScope(db, scope)}`;
  if (!row) throw new RegistryError("not_found");
  return decodePolicy(row);
}

/** Makes a policy and gives its uuid. Throws `invalid_request` when it is not one or stands already. */
export async function createAutoprunePolicy(
  app: PolicyApp,
  caller: Caller,
  scope: PolicyScope,
  input: AutopruneInput,
  request: RequestOrigin,
): Promise<string> {
  const rule = readRule(input);
  const uuid = crypto.randomUUID();
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    if ((await listAutoprunePolicies(tx, scope)).length >= POLICIES_MAX) throw tooManyPolicies();
    const rows = await tx.sql`/* autoprune.insert */
      insert into autoprune_policy
        (uuid, namespace_id, repository_id, method, value, tag_pattern, tag_pattern_matches, created_ms)
      values (${uuid}, ${scope.namespaceId}, ${scope.repository?.id ?? null}, ${rule.method}, ${String(rule.value)},
              ${rule.tagPattern ?? null}, ${rule.tagPatternMatches}, ${nowMs})
      on conflict do nothing returning id`;
    if (rows.length === 0) throw duplicate(scope);
    await notePolicy(tx, scope);
    await log(tx, scope, "create", { caller, request, nowMs, metadata: metadataOf(rule) });
  });
  return uuid;
}

/** Replaces a policy's rule. Throws as creating one, and `not_found`. */
export async function updateAutoprunePolicy(
  app: PolicyApp,
  caller: Caller,
  scope: PolicyScope,
  uuid: string,
  input: AutopruneInput,
  request: RequestOrigin,
): Promise<void> {
  const rule = readRule(input);
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const policies = await listAutoprunePolicies(tx, scope);
    if (!policies.some((policy) => policy.uuid === uuid)) throw new RegistryError("not_found");
    if (policies.some((policy) => policy.uuid !== uuid && isSame(policy, rule))) throw duplicate(scope);
    await tx.sql`/* autoprune.update */
      update autoprune_policy
      set method = ${rule.method}, value = ${String(rule.value)}, tag_pattern = ${rule.tagPattern ?? null},
          tag_pattern_matches = ${rule.tagPatternMatches}
      where uuid = ${uuid} and ${inScope(tx, scope)}`;
    await notePolicy(tx, scope);
    await log(tx, scope, "update", { caller, request, nowMs, metadata: metadataOf(rule) });
  });
}

/** Throws `not_found`. */
export async function deleteAutoprunePolicy(
  app: PolicyApp,
  caller: Caller,
  scope: PolicyScope,
  uuid: string,
  request: RequestOrigin,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const rows = await tx.sql`/* autoprune.delete */
      delete from autoprune_policy where uuid = ${uuid} and ${inScope(tx, scope)} returning id`;
    if (rows.length === 0) throw new RegistryError("not_found");
    // Without a policy of its own a namespace has the config's.
    await notePolicy(tx, scope);
    await log(tx, scope, "delete", { caller, request, nowMs, metadata: { policy_uuid: uuid } });
  });
}

/** What a caller gave, as a rule. Throws `invalid_request` with Quay's texts. */
export function readRule(input: AutopruneInput): AutopruneRule {
  const { method, value } = input;
  if (method === undefined || method === null || value === undefined || value === null) {
    throw new RegistryError("invalid_request", { message: "Missing the following parameters: method, value" });
  }
  if (!isMethod(method)) {
    throw new RegistryError("invalid_request", { message: "Invalid method provided" });
  }
  if (!(method === "number_of_tags" ? isTagCount(value) : isAge(value))) {
    throw new RegistryError("invalid_request", { message: "Invalid value given for method type" });
  }
  const tagPattern = input.tagPattern?.trim() || undefined;
  if (tagPattern !== undefined) requireTagPattern(tagPattern);
  return { method, value, tagPattern, tagPatternMatches: input.tagPatternMatches ?? true };
}

function isMethod(method: string): method is AutopruneMethod {
  return (AUTOPRUNE_METHODS as readonly string[]).includes(method);
}

function isTagCount(value: number | string): boolean {
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value <= AUTOPRUNE_TAGS_MAX;
}

function isAge(value: number | string): boolean {
  if (typeof value !== "string") return false;
  try {
    return durationMs(value) > 0;
  } catch {
    return false;
  }
}

function isSame(policy: AutopruneRule, rule: AutopruneRule): boolean {
  return (
    policy.method === rule.method &&
    policy.value === rule.value &&
    policy.tagPattern === rule.tagPattern &&
    policy.tagPatternMatches === rule.tagPatternMatches
  );
}

function duplicate(scope: PolicyScope): RegistryError {
  const where = scope.repository ? "repository" : "namespace";
  return new RegistryError("invalid_request", {
    message: `Existing policy with same values for this ${where}, duplicate policies are not permitted`,
  });
}

function log(
  tx: Tx,
  scope: PolicyScope,
  change: "create" | "update" | "delete",
  entry: Omit<Parameters<typeof logPolicy>[2], "kind">,
): Promise<void> {
  const kind = scope.repository
    ? (`${change}_repository_autoprune_policy` as const)
    : (`${change}_namespace_autoprune_policy` as const);
  return logPolicy(tx, scope, { ...entry, kind });
}

function metadataOf(rule: AutopruneRule) {
  return {
    method: rule.method,
    value: rule.value,
    tag_pattern: rule.tagPattern ?? null,
    tag_pattern_matches: rule.tagPatternMatches,
  };
}

interface PolicyRow {
  uuid: string;
  method: AutopruneMethod;
  value: string;
  tag_pattern: string | null;
  tag_pattern_matches: unknown;
}

function decodePolicy(row: PolicyRow): AutoprunePolicy {
  return {
    uuid: row.uuid,
    method: row.method,
    value: row.method === "number_of_tags" ? Number(row.value) : row.value,
    tagPattern: row.tag_pattern ?? undefined,
    tagPatternMatches: toBoolean(row.tag_pattern_matches),
  };
}
