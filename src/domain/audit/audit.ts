/**
 * The action log: one row for each change, written in the transaction that makes it. Kinds and metadata are Quay's:
 * quay-behaviour reference, section 13.
 */

import type { Tx } from "../../db/db.ts";
import { type Caller, principalName } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import type { ActionKind } from "./kinds.ts";

/** Where a request came from, as the log keeps it. */
export interface RequestOrigin {
  readonly ip: string | undefined;
  readonly userAgent: string | undefined;
}

export type ActionMetadata = Record<string, unknown>;

export interface Action {
  kind: ActionKind;
  caller: Caller;
  /** The namespace it concerns; undefined for what concerns the registry as a whole. */
  namespaceId: number | undefined;
  repositoryId?: number | undefined;
  request: RequestOrigin;
  nowMs: number;
  /** As quay-behaviour, section 13, lists it for the kind. */
  metadata: ActionMetadata;
}

/**
 * Writes an entry in the transaction of the change it records. A namespace of DISABLED_FOR_AUDIT_LOGS gets none, which the
 * statement itself looks up (`exempt.ts`): the transaction knows no config.
 */
export async function logAction(tx: Tx, action: Action): Promise<void> {
  await tx.sql`/* audit.insert */
    insert into action_log (kind, namespace_id, performer_id, repository_id, ip, metadata, created_ms)
    select ${action.kind}, cast(${action.namespaceId ?? null} as bigint),
           cast(${action.caller.principal?.accountId ?? null} as bigint),
           cast(${action.repositoryId ?? null} as bigint), ${action.request.ip ?? null},
           ${JSON.stringify(action.metadata)}, cast(${action.nowMs} as bigint)
    where not exists (
      select 1 from audit_exempt
      where username = (select username from account where id = ${action.namespaceId ?? 0}))`;
}

export interface RepositoryAction {
  kind: ActionKind;
  caller: Caller;
  repository: Pick<RepositoryFacts, "id" | "name" | "namespace" | "namespaceId">;
  request: RequestOrigin;
  nowMs: number;
  metadata?: ActionMetadata;
}

/** Writes an entry of a registry event, with the base metadata of section 13. */
export async function logRepositoryAction(tx: Tx, action: RepositoryAction): Promise<void> {
  const { repository, caller, request } = action;
  await logAction(tx, {
    kind: action.kind,
    caller,
    namespaceId: repository.namespaceId,
    repositoryId: repository.id,
    request,
    nowMs: action.nowMs,
    metadata: { ...repositoryMetadata(caller, repository, request), ...action.metadata },
  });
}

/** The base metadata of registry events: what, and who with which credential. */
export function repositoryMetadata(
  caller: Caller,
  repository: Pick<RepositoryFacts, "name" | "namespace">,
  request: RequestOrigin,
): ActionMetadata {
  return {
    repo: repository.name,
    namespace: repository.namespace,
    "user-agent": request.userAgent ?? "",
    ...who(caller),
  };
}

/** The namespace of a robot, by its name. */
export function robotOwner(username: string): string {
  return username.split("+", 1)[0] ?? "";
}

/** Who did it, with which credential; nobody is the public. */
export function who(caller: Caller): ActionMetadata {
  if (!caller.principal) return { public: true };
  const { credential } = caller;
  const username = principalName(caller);
  if (caller.principal.kind === "robot") return { robot: username, is_robot: true };
  if (credential?.kind === "app-token") {
    return { username, app_specific_token: credential.uuid, app_specific_token_title: credential.title };
  }
  if (credential?.kind === "oauth") {
    return {
      username,
      oauth_token_id: credential.uuid,
      oauth_token_application_id: credential.clientId,
      oauth_token_application: credential.application,
    };
  }
  return { username };
}
