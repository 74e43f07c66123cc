/** The SQL of roles on a repository: who was given which, and giving and taking them. */

import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import type { Role } from "../access/facts.ts";

export type GivenRole = Exclude<Role, "none">;

export interface AccountRole {
  readonly accountId: number;
  readonly name: string;
  readonly kind: "user" | "robot";
  readonly email: string | undefined;
  readonly role: GivenRole;
  /** In a team of the repository's organization, or a robot of it; undefined when it belongs to a user. */
  readonly isMember: boolean | undefined;
}

interface AccountRoleRow {
  id: number;
  username: string;
  kind: "user" | "robot";
  email: string | null;
  role: GivenRole;
  namespace_kind: "user" | "organization";
  is_member: unknown;
}

/** Users and robots with a role of their own, by name, at most `limit`; of one account only when it is given. */
export async function listAccountRoles(
  db: Db,
  repository: { id: number; namespaceId: number },
  page: { limit: number; accountId?: number },
): Promise<AccountRole[]> {
  const ofAccount = page.accountId === undefined ? db.sql`` : db.sql`and p.account_id = ${page.accountId}`;
  const rows = await db.sql<AccountRoleRow>`/* permission.accounts */
    select a.id, a.username, a.kind, a.email, p.role, n.kind as namespace_kind,
      case when a.owner_id = ${repository.namespaceId} or exists (
        select 1 from team t join team_member m on m.team_id = t.id
        where t.organization_id = ${repository.namespaceId} and m.account_id = a.id) then 1 else 0 end as is_member
    from repository_permission p join account a on a.id = p.account_id
    join account n on n.id = ${repository.namespaceId}
    where p.repository_id = ${repository.id} and a.deleted_ms is null ${ofAccount}
    order by a.username limit ${page.limit}`;
  return rows.map((row) => ({
    accountId: toNumber(row.id),
    name: row.username,
    kind: row.kind,
    email: row.email ?? undefined,
    role: row.role,
    isMember: row.namespace_kind === "organization" ? toBoolean(toNumber(row.is_member)) : undefined,
  }));
}

export interface TeamRole {
  readonly teamId: number;
  readonly name: string;
  readonly role: GivenRole;
}

/** Teams with a role, by name, at most `limit`; of one team only when it is given. */
export async function listTeamRoles(
  db: Db,
  repositoryId: number,
  page: { limit: number; teamId?: number },
): Promise<TeamRole[]> {
  const ofTeam = page.teamId === undefined ? db.sql`` : db.sql`and p.team_id = ${page.teamId}`;
  const rows = await db.sql<{ id: number; name: string; role: GivenRole }>`/* permission.teams */
    select t.id, t.name, p.role from repository_permission p join team t on t.id = p.team_id
    where p.repository_id = ${repositoryId} ${ofTeam} order by t.name limit ${page.limit}`;
  return rows.map((row) => ({ teamId: toNumber(row.id), name: row.name, role: row.role }));
}

/** The account's own role and those of its teams, without those that need no row. */
export async function listRolesOfAccount(db: Db, repositoryId: number, accountId: number): Promise<GivenRole[]> {
  const rows = await db.sql<{ role: GivenRole }>`/* permission.transitive */
    select role from repository_permission where account_id = ${accountId} and repository_id = ${repositoryId}
    union
    select p.role from team_member m join repository_permission p on p.team_id = m.team_id
    where m.account_id = ${accountId} and p.repository_id = ${repositoryId}`;
  return rows.map((row) => row.role);
}

export async function findTeamId(db: Db, organizationId: number, name: string): Promise<number | undefined> {
  const [row] = await db.sql<{ id: number }>`/* permission.team */
    select id from team where organization_id = ${organizationId} and name = ${name}`;
  return row && toNumber(row.id);
}

export async function putAccountRole(
  tx: Tx,
  given: { repositoryId: number; accountId: number; role: GivenRole },
): Promise<void> {
  await tx.sql`/* permission.put_account */
    insert into repository_permission (repository_id, account_id, role)
    values (${given.repositoryId}, ${given.accountId}, ${given.role})
    on conflict (account_id, repository_id) where account_id is not null do update set role = excluded.role`;
}

export async function putTeamRole(
  tx: Tx,
  given: { repositoryId: number; teamId: number; role: GivenRole },
): Promise<void> {
  await tx.sql`/* permission.put_team */
    insert into repository_permission (repository_id, team_id, role)
    values (${given.repositoryId}, ${given.teamId}, ${given.role})
    on conflict (team_id, repository_id) where team_id is not null do update set role = excluded.role`;
}

/** True when there was one. */
export async function deleteAccountRole(tx: Tx, repositoryId: number, accountId: number): Promise<boolean> {
  const rows = await tx.sql`/* permission.delete_account */
    delete from repository_permission where repository_id = ${repositoryId} and account_id = ${accountId} returning id`;
  return rows.length > 0;
}

/** True when there was one. */
export async function deleteTeamRole(tx: Tx, repositoryId: number, teamId: number): Promise<boolean> {
  const rows = await tx.sql`/* permission.delete_team */
    delete from repository_permission where repository_id = ${repositoryId} and team_id = ${teamId} returning id`;
  return rows.length > 0;
}
