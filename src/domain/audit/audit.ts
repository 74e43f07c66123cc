/**
 * The action log: one row for each change, written in the transaction that makes it. Kinds and metadata are Quay's:
 * quay-behaviour reference, section 13.
 */

import type { Tx } from "../../db/db.ts";
import { type Caller, principalName } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";

export type ActionKind = "push_repo" | "create_repo" | "delete_tag" | "user_create" | "create_robot";

/** Where a request came from, as the log keeps it. */
export interface RequestOrigin {
  readonly ip: string | undefined;
  readonly userAgent: string | undefined;
}

export interface Action {
  kind: ActionKind;
  caller: Caller;
  repository: Pick<RepositoryFacts, "id" | "name" | "namespace" | "namespaceId">;
  request: RequestOrigin;
  nowMs: number;
  metadata?: Record<string, string | number | boolean>;
}

export async function logAction(tx: Tx, action: Action): Promise<void> {
  const { caller, repository } = action;
  const metadata = {
    repo: repository.name,
    namespace: repository.namespace,
    "user-agent": action.request.userAgent ?? "",
    ...who(caller),
    ...action.metadata,
  };
  await tx.sql`/* audit.insert */
    insert into action_log (kind, namespace_id, performer_id, repository_id, ip, metadata, created_ms)
    values (${action.kind}, ${repository.namespaceId}, ${caller.principal?.accountId ?? null}, ${repository.id},
            ${action.request.ip ?? null}, ${JSON.stringify(metadata)}, ${action.nowMs})`;
}

function who(caller: Caller): Record<string, string | boolean> {
  if (!caller.principal) return { public: true };
  if (caller.principal.kind === "robot") return { robot: principalName(caller), is_robot: true };
  return { username: principalName(caller) };
}
