/**
 * Where a policy on tags holds: in a whole namespace, or in one repository of it. Immutability and auto-prune policies are
 * kept, found and logged alike.
 */

import type { Db, SqlQuery, Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { PatternError } from "../../lib/regex-parser.ts";
import { compileTagPattern } from "../../lib/tag-pattern.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";

export interface PolicyScope {
  readonly namespaceId: number;
  readonly namespace: string;
  /** Undefined: the whole namespace. */
  readonly repository: Pick<RepositoryFacts, "id" | "name"> | undefined;
}

/** Policies of one scope. All of them are read on each push, and matching costs with each. */
export const POLICIES_MAX = 20;

export function repositoryScope(repository: RepositoryFacts): PolicyScope {
  return { namespaceId: repository.namespaceId, namespace: repository.namespace, repository };
}

/** The condition that a policy row belongs to exactly this scope. */
export function inScope(db: Db, scope: PolicyScope): SqlQuery<unknown> {
  return scope.repository
    ? db.sql`namespace_id = ${scope.namespaceId} and repository_id = ${scope.repository.id}`
    : db.sql`namespace_id = ${scope.namespaceId} and repository_id is null`;
}

/** Writes the entry of a change to a policy; what it concerns is added to the metadata. */
export async function logPolicy(
  tx: Tx,
  scope: PolicyScope,
  entry: { kind: ActionKind; caller: Caller; request: RequestOrigin; nowMs: number; metadata: Record<string, unknown> },
): Promise<void> {
  await logAction(tx, {
    kind: entry.kind,
    caller: entry.caller,
    namespaceId: scope.namespaceId,
    repositoryId: scope.repository?.id,
    request: entry.request,
    nowMs: entry.nowMs,
    metadata: {
      ...entry.metadata,
      namespace: scope.namespace,
      ...(scope.repository ? { repo: scope.repository.name } : {}),
    },
  });
}

/** Gives what the pattern costs; throws `invalid_request` with what is wrong with it. */
export function requireTagPattern(tagPattern: string): number {
  try {
    return compileTagPattern(tagPattern).steps;
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    throw new RegistryError("invalid_request", { message: `Invalid tag pattern: ${error.message}` });
  }
}

export function tooManyPolicies(): RegistryError {
  return new RegistryError("invalid_request", {
    message: `There are ${POLICIES_MAX} policies here already, which is the most there can be; delete one first`,
  });
}
