/** The SQL of immutability policies, and what their rows mean for a tag's name. */

import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { compileLinearRegex } from "../../lib/linear-regex.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { inScope, type PolicyScope } from "../policy/scope.ts";

export interface ImmutabilityPattern {
  readonly tagPattern: string;
  /** False: the tags that do not match are immutable. */
  readonly tagPatternMatches: boolean;
}

export interface ImmutabilityPolicy extends ImmutabilityPattern {
  readonly uuid: string;
}

interface PolicyRow {
  uuid: string;
  tag_pattern: string;
  tag_pattern_matches: unknown;
}

/** A test for names that any of these policies covers. Patterns match from the first character on, as Quay's do. */
export function compilePolicies(policies: readonly ImmutabilityPattern[]): (name: string) => boolean {
  const tests = policies.map(({ tagPattern, tagPatternMatches }) => {
    const regex = compileLinearRegex(tagPattern);
    return (name: string) => regex.matchesStart(name) === tagPatternMatches;
  });
  return (name) => tests.some((covers) => covers(name));
}

/** Policies of the repository and of its namespace: two seeks in one query. */
export async function listPoliciesInForce(
  db: Db,
  repository: Pick<RepositoryFacts, "id" | "namespaceId">,
): Promise<ImmutabilityPattern[]> {
  const rows = await db.sql<PolicyRow>`/* immutability.in_force */
    select uuid, tag_pattern, tag_pattern_matches from immutability_policy
    where namespace_id = ${repository.namespaceId} and repository_id is null
    union all
    select uuid, tag_pattern, tag_pattern_matches from immutability_policy
    where namespace_id = ${repository.namespaceId} and repository_id = ${repository.id}`;
  return rows.map(decodePolicy);
}

/** Policies of exactly this scope, oldest first; their number is bounded when they are made. */
export async function listPolicies(db: Db, scope: PolicyScope): Promise<ImmutabilityPolicy[]> {
  const rows = await db.sql<PolicyRow>`/* immutability.list */
    select uuid, tag_pattern, tag_pattern_matches from immutability_policy
    where ${inScope(db, scope)} order by id`;
  return rows.map(decodePolicy);
}

export async function findPolicy(db: Db, scope: PolicyScope, uuid: string): Promise<ImmutabilityPolicy | undefined> {
  const [row] = await db.sql<PolicyRow>`/* immutability.find */
    select uuid, tag_pattern, tag_pattern_matches from immutability_policy
    where uuid = ${uuid} and ${inScope(db, scope)}`;
  return row && decodePolicy(row);
}

/** False when the scope has a policy with this pattern. */
export async function insertPolicy(
  tx: Tx,
  scope: PolicyScope,
  policy: ImmutabilityPolicy & { createdMs: number },
): Promise<boolean> {
  const rows = await tx.sql`/* immutability.insert */
    insert into immutability_policy (uuid, namespace_id, repository_id, tag_pattern, tag_pattern_matches, created_ms)
    values (${policy.uuid}, ${scope.namespaceId}, ${scope.repository?.id ?? null}, ${policy.tagPattern},
            ${policy.tagPatternMatches}, ${policy.createdMs})
    on conflict do nothing returning id`;
  return rows.length > 0;
}

export async function updatePolicy(tx: Tx, scope: PolicyScope, policy: ImmutabilityPolicy): Promise<void> {
  await tx.sql`/* immutability.update */
    update immutability_policy
    set tag_pattern = ${policy.tagPattern}, tag_pattern_matches = ${policy.tagPatternMatches}
    where uuid = ${policy.uuid} and ${inScope(tx, scope)}`;
}

/** False when there was none. */
export async function deletePolicyRow(tx: Tx, scope: PolicyScope, uuid: string): Promise<boolean> {
  const rows = await tx.sql`/* immutability.delete */
    delete from immutability_policy where uuid = ${uuid} and ${inScope(tx, scope)} returning id`;
  return rows.length > 0;
}

/** A living tag with an end, in a page over those of a scope. */
export interface ExpiringTag {
  readonly id: number;
  readonly repositoryId: number;
  readonly name: string;
}

/** Living tags of a scope that expire and that no admin has exempted, by (repository, id) after `after`. */
export async function listExpiringTags(
  db: Db,
  scope: PolicyScope,
  page: { after: { repositoryId: number; id: number }; limit: number; nowMs: number },
): Promise<ExpiringTag[]> {
  const where =
    scope.repository === undefined
      ? db.sql`t.repository_id in (select id from repository where namespace_id = ${scope.namespaceId}
                                   and deleted_ms is null and id >= ${page.after.repositoryId})`
      : db.sql`t.repository_id = ${scope.repository.id}`;
  const rows = await db.sql<{ id: number; repository_id: number; name: string }>`/* immutability.expiring */
    select t.id, t.repository_id, t.name from tag t
    where ${where} and t.expires_ms is not null and t.end_ms is null and t.expires_ms > ${page.nowMs}
      and t.hidden = false and t.immutability_lifted = false
      and (t.repository_id, t.id) > (${page.after.repositoryId}, ${page.after.id})
    order by t.repository_id, t.id limit ${page.limit}`;
  return rows.map((row) => ({ id: toNumber(row.id), repositoryId: toNumber(row.repository_id), name: row.name }));
}

function decodePolicy(row: PolicyRow): ImmutabilityPolicy {
  return {
    uuid: row.uuid,
    tagPattern: row.tag_pattern,
    tagPatternMatches: toBoolean(row.tag_pattern_matches),
  };
}
