/**
 * What the access rules need to know of repositories and namespaces, and the queries that find it. Each is served by one
 * index and its cost does not grow with the registry.
 */

import type { Db } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import type { NamespaceName, RepositoryPath } from "../../oci/names.ts";
import type { Principal } from "./actor.ts";

export type Role = "none" | "read" | "write" | "admin";
export type RepositoryState = "NORMAL" | "READ_ONLY" | "MIRROR" | "MARKED_FOR_DELETION";

export interface RepositoryFacts {
  readonly id: number;
  readonly path: RepositoryPath;
  readonly name: string;
  readonly namespaceId: number;
  readonly namespace: NamespaceName;
  readonly namespaceEnabled: boolean;
  readonly kind: "image" | "application";
  readonly visibility: "public" | "private";
  readonly state: RepositoryState;
  /** The only account that may push while the state is MIRROR. */
  readonly mirrorRobotId: number | undefined;
}

export interface NamespaceFacts {
  readonly id: number;
  readonly name: NamespaceName;
  readonly kind: "user" | "organization";
  readonly enabled: boolean;
  /** The asking principal is in a team of role creator or admin there. */
  readonly creatorRole: boolean;
}

interface RepositoryRow {
  id: number;
  path: string;
  name: string;
  namespace_id: number;
  namespace: string;
  namespace_enabled: unknown;
  kind: "image" | "application";
  visibility: "public" | "private";
  state: RepositoryState;
}

/** Finds a living repository by its full name, undefined when there is none. */
export async function findRepositoryFacts(db: Db, path: RepositoryPath): Promise<RepositoryFacts | undefined> {
  const [row] = await db.sql<RepositoryRow>`/* access.repository */
    select r.id, r.path, r.name, r.namespace_id, a.username as namespace, a.enabled as namespace_enabled,
           r.kind, r.visibility, r.state
    from repository r join account a on a.id = r.namespace_id
    where r.path = ${path} and r.deleted_ms is null`;
  return row && decodeRepository(row);
}

function decodeRepository(row: RepositoryRow): RepositoryFacts {
  return {
    id: toNumber(row.id),
    path: row.path as RepositoryPath,
    name: row.name,
    namespaceId: toNumber(row.namespace_id),
    namespace: row.namespace as NamespaceName,
    namespaceEnabled: toBoolean(row.namespace_enabled),
    kind: row.kind,
    visibility: row.visibility,
    state: row.state,
    mirrorRobotId: undefined,
  };
}

/**
 * The best role an account was given on a repository: by itself, through a team, or through an admin team of the
 * organization. Rights that need no row (owner, superuser, public) are the rules' business, not this query's.
 */
export async function findRole(db: Db, principal: Principal, repository: RepositoryFacts): Promise<Role> {
  const rows = await db.sql<{ role: Role }>`/* access.role */
    select role from repository_permission
    where account_id = ${principal.accountId} and repository_id = ${repository.id}
    union
    select p.role from team_member m join repository_permission p on p.team_id = m.team_id
    where m.account_id = ${principal.accountId} and p.repository_id = ${repository.id}
    union
    select t.role from team_member m join team t on t.id = m.team_id
    where m.account_id = ${principal.accountId} and t.organization_id = ${repository.namespaceId} and t.role = 'admin'`;
  const order: readonly Role[] = ["admin", "write", "read"];
  return order.find((role) => rows.some((row) => row.role === role)) ?? "none";
}

/** Finds a namespace (user or organization) as `principal` sees it, undefined when there is none. */
export async function findNamespaceFacts(
  db: Db,
  name: NamespaceName,
  principal: Principal | undefined,
): Promise<NamespaceFacts | undefined> {
  const [row] = await db.sql<{
    id: number;
    kind: "user" | "organization";
    enabled: unknown;
    creator: number;
  }>`/* access.namespace */
    select a.id, a.kind, a.enabled,
      (select count(*) from team t join team_member m on m.team_id = t.id
       where t.organization_id = a.id and t.role in ('creator', 'admin')
         and m.account_id = ${principal?.accountId ?? 0}) as creator
    from account a where a.username = ${name} and a.kind in ('user', 'organization') and a.deleted_ms is null`;
  if (!row) return undefined;
  return {
    id: toNumber(row.id),
    name,
    kind: row.kind,
    enabled: toBoolean(row.enabled),
    creatorRole: toNumber(row.creator) > 0,
  };
}
