/**
 * Teams of an organization: finding, listing, making, changing and deleting them. Who is in them is `members.ts` and
 * `invites.ts`. Source: quay-api reference, section 4.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { isNamespaceName, parseTeamName } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { keepingAnAdmin, lockOrganization } from "../organization/admins.ts";
import { type Account, EVERYTHING } from "../user/account.ts";

export type TeamRole = "member" | "creator" | "admin";

export interface Team {
  readonly id: number;
  readonly name: string;
  readonly role: TeamRole;
  readonly description: string;
}

export interface TeamSummary extends Team {
  readonly memberCount: number;
  readonly repositoryCount: number;
  /** Whether the account that asked is in it. */
  readonly isMine: boolean;
}

export type Organization = Pick<Account, "id" | "username">;

/** Who changes something, and from where: for the action log. */
export interface Change {
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

interface TeamRow {
  id: number;
  name: string;
  role: TeamRole;
  description: string;
}

/** Finds a team of an organization by its name, undefined when there is none. */
export async function findTeam(db: Db, organizationId: number, name: string): Promise<Team | undefined> {
  // Team names follow the rule of namespaces: what does not is nobody's, and PostgreSQL would refuse some of it.
  if (!isNamespaceName(name)) return undefined;
  const [row] = await db.sql<TeamRow>`/* team.find */
    select id, name, role, description from team where organization_id = ${organizationId} and name = ${name}`;
  return row && decodeTeam(row);
}

/** Throws `not_found`. */
export async function getTeam(db: Db, organizationId: number, name: string): Promise<Team> {
  const team = await findTeam(db, organizationId, name);
  if (!team) throw new RegistryError("not_found");
  return team;
}

/** All teams of an organization by name, with their counts. One query; costs the organization's own teams. */
export async function listTeams(db: Db, organizationId: number, accountId: number | undefined): Promise<TeamSummary[]> {
  const rows = await db.sql<TeamRow & { members: number; repositories: number; mine: unknown }>`/* team.list */
    select t.id, t.name, t.role, t.description,
           (select count(*) from team_member m where m.team_id = t.id) as members,
           (select count(*) from repository_permission p join repository r on r.id = p.repository_id
            where p.team_id = t.id and r.deleted_ms is null) as repositories,
           exists (select 1 from team_member m where m.team_id = t.id and m.account_id = ${accountId ?? 0}) as mine
    from team t where t.organization_id = ${organizationId} order by t.name`;
  return rows.map((row) => ({
    ...decodeTeam(row),
    memberCount: toNumber(row.members),
    repositoryCount: toNumber(row.repositories),
    isMine: toBoolean(row.mine),
  }));
}

/** Whether an account is in a team. */
export async function isInTeam(db: Db, teamId: number, accountId: number): Promise<boolean> {
  const rows = await db.sql`/* team.is_member */
    select 1 as one from team_member where team_id = ${teamId} and account_id = ${accountId}`;
  return rows.length > 0;
}

/** Repeating it does nothing, and so does an account that is gone by now. Rights on many repositories change with it. */
export async function insertMember(tx: Tx, teamId: number, accountId: number): Promise<void> {
  // Locked, because whoever deletes the account ends its memberships and would not see this one.
  await tx.sql`/* team.add_member */
    insert into team_member (team_id, account_id)
    select cast(${teamId} as bigint), id from account where id = ${accountId} and deleted_ms is null
    ${tx.dialect.forUpdate}
    on conflict do nothing`;
  tx.changed(EVERYTHING);
}

export interface TeamSettings {
  role: TeamRole;
  /** Undefined leaves it as it is. */
  description?: string | undefined;
}

/** Makes a team or changes it. Throws `name_invalid`, and `invalid_request` when nobody would be admin any more. */
export async function putTeam(
  app: Pick<App, "db" | "clock">,
  organization: Organization,
  name: string,
  settings: TeamSettings,
  change: Change,
): Promise<{ team: Team; isNew: boolean }> {
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    await lockOrganization(tx, organization.id);
    const found = await findTeam(tx, organization.id, name);
    if (found) return { team: await changeTeam(tx, organization, found, settings, change, nowMs), isNew: false };
    const description = settings.description ?? "";
    const [row] = await tx.sql<{ id: number }>`/* team.insert */
      insert into team (organization_id, name, role, description, created_ms)
      values (${organization.id}, ${parseTeamName(name)}, ${settings.role}, ${description}, ${nowMs}) returning id`;
    await log(tx, "org_create_team", organization, change, nowMs, { team: name });
    return { team: { id: toNumber(row?.id), name, role: settings.role, description }, isNew: true };
  });
}

async function changeTeam(
  tx: Tx,
  organization: Organization,
  team: Team,
  settings: TeamSettings,
  change: Change,
  nowMs: number,
): Promise<Team> {
  const { role, description = team.description } = settings;
  if (description !== team.description) {
    await tx.sql`/* team.describe */ update team set description = ${description} where id = ${team.id}`;
    await log(tx, "org_set_team_description", organization, change, nowMs, { team: team.name, description });
  }
  if (role !== team.role) {
    if (team.role === "admin") await requireOtherAdminTeam(tx, organization, team, change.caller, "demote");
    const message = `Cannot remove admin from team '${team.name}' as it is the only admin team of '${organization.username}'`;
    await keepingAnAdmin(tx, organization.id, message, async () => {
      await tx.sql`/* team.set_role */ update team set role = ${role} where id = ${team.id}`;
    });
    await log(tx, "org_set_team_role", organization, change, nowMs, { team: team.name, role });
    tx.changed(EVERYTHING);
  }
  return { ...team, role, description };
}

/** Deletes a team with its members' rights by it. Throws `not_found`, `invalid_request` for the last admin team. */
export async function deleteTeam(
  app: Pick<App, "db" | "clock">,
  organization: Organization,
  name: string,
  change: Change,
): Promise<void> {
  await app.db.tx(async (tx) => {
    await lockOrganization(tx, organization.id);
    const team = await getTeam(tx, organization.id, name);
    if (team.role === "admin") await requireOtherAdminTeam(tx, organization, team, change.caller, "delete");
    const message = `Cannot delete team '${team.name}' as it is the only admin team of '${organization.username}'`;
    await keepingAnAdmin(tx, organization.id, message, () => eraseTeam(tx, team.id));
    await log(tx, "org_delete_team", organization, change, app.clock.nowMs(), { team: team.name });
    tx.changed(EVERYTHING);
  });
}

async function eraseTeam(tx: Tx, teamId: number): Promise<void> {
  await tx.sql`/* team.erase_notices */
    delete from user_notification
    where subject_key in (select 'team_invite:' || cast(id as text) from team_invite where team_id = ${teamId})`;
  await tx.sql`/* team.erase_invites */ delete from team_invite where team_id = ${teamId}`;
  await tx.sql`/* team.erase_roles */ delete from repository_permission where team_id = ${teamId}`;
  await tx.sql`/* team.erase_default_roles */ delete from default_permission where delegate_team_id = ${teamId}`;
  await tx.sql`/* team.erase_members */ delete from team_member where team_id = ${teamId}`;
  await tx.sql`/* team.erase_retired */ delete from retired_member where team_id = ${teamId}`;
  await tx.sql`/* team.erase */ delete from team where id = ${teamId}`;
}

/** Nobody shuts the door on himself: the caller keeps an admin team if this is one of the caller's. */
async function requireOtherAdminTeam(
  tx: Tx,
  organization: Organization,
  team: Team,
  caller: Caller,
  verb: "delete" | "demote",
): Promise<void> {
  const accountId = caller.principal?.accountId;
  if (accountId === undefined || !(await isOnlyAdminTeam(tx, organization.id, team.id, accountId))) return;
  const name = caller.principal?.username;
  const what = verb === "delete" ? `Deleting team '${team.name}'` : `Removing admin from team '${team.name}'`;
  throw new RegistryError("invalid_request", {
    message: `${what} would remove admin ability for user '${name}' in organization '${organization.username}'`,
  });
}

/** Whether this is the one admin team of the organization that the account is in. */
export async function isOnlyAdminTeam(
  db: Db,
  organizationId: number,
  teamId: number,
  accountId: number,
): Promise<boolean> {
  const rows = await db.sql<{ id: number }>`/* team.admin_teams_of */
    select t.id from team_member m join team t on t.id = m.team_id
    where m.account_id = ${accountId} and t.organization_id = ${organizationId} and t.role = 'admin' limit 2`;
  return rows.length === 1 && toNumber(rows[0]?.id) === teamId;
}

/** An entry about an organization's teams. */
export async function log(
  tx: Tx,
  kind: ActionKind,
  organization: Organization,
  change: Change,
  nowMs: number,
  metadata: Record<string, unknown>,
): Promise<void> {
  const { caller, request } = change;
  await logAction(tx, { kind, caller, namespaceId: organization.id, request, nowMs, metadata });
}

function decodeTeam(row: TeamRow): Team {
  return { id: toNumber(row.id), name: row.name, role: row.role, description: row.description };
}
