/**
 * The people of an organization: members sit in a team, collaborators only have a role on some repository. Listing them,
 * and taking somebody out altogether. Source: quay-api reference, section 3.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { KeyPage } from "../../db/page.ts";
import { RegistryError } from "../../errors.ts";
import { findRobotName, isNamespaceName } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { type Account, EVERYTHING, findAccount } from "../user/account.ts";
import { keepingAnAdmin, lockOrganization } from "./admins.ts";

export interface OrganizationMember {
  readonly id: number;
  readonly name: string;
  readonly email: string | undefined;
  readonly isRobot: boolean;
  /** Names of the organization's teams that it is in. */
  readonly teams: string[];
  /** Names of the organization's repositories on which it has a role by itself. */
  readonly repositories: string[];
}

interface PersonRow {
  id: number;
  username: string;
  email: string | null;
  kind: string;
  team: string | null;
  repository: string | null;
}

/** Users in any team, a page by name. Three queries; costs the organization's memberships. */
export async function listOrganizationMembers(
  db: Db,
  organizationId: number,
  page: KeyPage,
): Promise<OrganizationMember[]> {
  const people = await db.sql<PersonRow>`/* organization.members */
    select a.id, a.username, a.email, a.kind, null as team, null as repository from account a
    where a.id in (select m.account_id from team t join team_member m on m.team_id = t.id
                   where t.organization_id = ${organizationId})
      and a.username > ${page.after} and a.kind = 'user' and a.deleted_ms is null
    order by a.username limit ${page.limit}`;
  const ids = people.map((row) => toNumber(row.id));
  const teams = await db.sql<PersonRow>`/* organization.member_teams */
    select a.id, a.username, a.email, a.kind, t.name as team, null as repository
    from team_member m join team t on t.id = m.team_id join account a on a.id = m.account_id
    where ${db.dialect.inList("m.account_id", ids)} and t.organization_id = ${organizationId}
    order by t.name`;
  return gather([...people, ...teams, ...(await ownRoles(db, organizationId, ids))]);
}

/** Users with a role on a repository of the organization who sit in none of its teams, a page by name. */
export async function listCollaborators(db: Db, organizationId: number, page: KeyPage): Promise<OrganizationMember[]> {
  const people = await db.sql<PersonRow>`/* organization.collaborators */
    select a.id, a.username, a.email, a.kind, null as team, null as repository from account a
    where a.id in (select p.account_id from repository r join repository_permission p on p.repository_id = r.id
                   where r.namespace_id = ${organizationId} and r.deleted_ms is null and p.account_id is not null)
      and a.id not in (select m.account_id from team t join team_member m on m.team_id = t.id
                       where t.organization_id = ${organizationId})
      and a.username > ${page.after} and a.kind = 'user' and a.deleted_ms is null
    order by a.username limit ${page.limit}`;
  const ids = people.map((row) => toNumber(row.id));
  return gather([...people, ...(await ownRoles(db, organizationId, ids))]);
}

/** The repositories of the organization on which these have a role by themselves. */
function ownRoles(db: Db, organizationId: number, accountIds: readonly number[]): PromiseLike<PersonRow[]> {
  return db.sql<PersonRow>`/* organization.own_roles */
    select a.id, a.username, a.email, a.kind, null as team, r.name as repository
    from repository_permission p join repository r on r.id = p.repository_id join account a on a.id = p.account_id
    where ${db.dialect.inList("p.account_id", accountIds)} and r.namespace_id = ${organizationId}
      and r.deleted_ms is null
    order by r.name`;
}

/** One user or robot. Throws `not_found` when it is in no team and has no role. */
export async function getOrganizationMember(db: Db, organizationId: number, name: string): Promise<OrganizationMember> {
  const account = await findPerson(db, name);
  const rows = account ? await rightsOf(db, organizationId, account.id) : [];
  const [member] = gather(rows);
  if (!member) throw new RegistryError("not_found");
  return member;
}

async function rightsOf(db: Db, organizationId: number, accountId: number): Promise<PersonRow[]> {
  return db.sql<PersonRow>`/* organization.rights_of */
    select a.id, a.username, a.email, a.kind, t.name as team, null as repository
    from team_member m join team t on t.id = m.team_id join account a on a.id = m.account_id
    where m.account_id = ${accountId} and t.organization_id = ${organizationId}
    union all
    select a.id, a.username, a.email, a.kind, null as team, r.name as repository
    from repository_permission p join repository r on r.id = p.repository_id join account a on a.id = p.account_id
    where p.account_id = ${accountId} and r.namespace_id = ${organizationId} and r.deleted_ms is null
    order by team, repository`;
}

/**
 * Takes somebody out of every team and every role of the organization. Throws `not_found` for who is not in it,
 * `invalid_request` for the last admin.
 */
export async function removeOrganizationMember(
  app: Pick<App, "db" | "clock">,
  organization: Pick<Account, "id" | "username">,
  name: string,
  change: { caller: Caller; request: RequestOrigin },
): Promise<void> {
  await app.db.tx(async (tx) => {
    await lockOrganization(tx, organization.id);
    const member = await getOrganizationMember(tx, organization.id, name);
    const message = "Cannot remove user as they are the only organization admin";
    await keepingAnAdmin(tx, organization.id, message, () => endRights(tx, organization.id, member.id));
    await logRemoval(tx, organization, member, change, app.clock.nowMs());
    tx.changed(EVERYTHING);
  });
}

async function endRights(tx: Tx, organizationId: number, accountId: number): Promise<void> {
  await tx.sql`/* organization.end_memberships */
    delete from team_member
    where account_id = ${accountId} and team_id in (select id from team where organization_id = ${organizationId})`;
  await tx.sql`/* organization.end_roles */
    delete from repository_permission
    where account_id = ${accountId}
      and repository_id in (select id from repository where namespace_id = ${organizationId})`;
}

/** One entry for each right that ended, as if it had been taken away by itself. */
async function logRemoval(
  tx: Tx,
  organization: Pick<Account, "id" | "username">,
  member: OrganizationMember,
  { caller, request }: { caller: Caller; request: RequestOrigin },
  nowMs: number,
): Promise<void> {
  const entry = { caller, namespaceId: organization.id, request, nowMs };
  for (const team of member.teams) {
    await logAction(tx, { ...entry, kind: "org_remove_team_member", metadata: { member: member.name, team } });
  }
  for (const repo of member.repositories) {
    const metadata = { username: member.name, repo, namespace: organization.username };
    await logAction(tx, { ...entry, kind: "delete_repo_permission", metadata });
  }
}

async function findPerson(db: Db, name: string): Promise<Account | undefined> {
  if (!isNamespaceName(name) && !findRobotName(name)) return undefined;
  return findAccount(db, name);
}

/** One entry for each account, in the order of its first row. */
function gather(rows: readonly PersonRow[]): OrganizationMember[] {
  const people = new Map<number, OrganizationMember>();
  for (const row of rows) {
    const id = toNumber(row.id);
    const person = people.get(id) ?? {
      id,
      name: row.username,
      email: row.email ?? undefined,
      isRobot: row.kind === "robot",
      teams: [],
      repositories: [],
    };
    people.set(id, person);
    if (row.team !== null) person.teams.push(row.team);
    if (row.repository !== null) person.repositories.push(row.repository);
  }
  return [...people.values()];
}
