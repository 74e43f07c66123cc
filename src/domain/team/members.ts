/**
 * Who is in a team: users, and robots of the organization. Users who are not in the organization yet are invited instead
 * where the config asks for their consent (`invites.ts`). Source: quay-api reference, section 4; quay-behaviour, section 4.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { KeyPage } from "../../db/page.ts";
import { RegistryError } from "../../errors.ts";
import { findRobotName, isNamespaceName } from "../../oci/names.ts";
import { isMailing } from "../mail/mailing.ts";
import { keepingAnAdmin, lockOrganization } from "../organization/admins.ts";
import { type Account, EVERYTHING, findAccount } from "../user/account.ts";
import { type Invitation, inviteUser, mailInvitation, withdrawInvite } from "./invites.ts";
import { type Change, getTeam, insertMember, isOnlyAdminTeam, log, type Organization, type Team } from "./team.ts";

type TeamApp = Pick<App, "config" | "db" | "clock" | "mailer">;

export interface TeamMember {
  readonly name: string;
  readonly email: string | undefined;
  readonly isRobot: boolean;
}

/** Everybody in a team, a page by name. Costs the team's own members. */
export async function listTeamMembers(db: Db, teamId: number, page: KeyPage): Promise<TeamMember[]> {
  const rows = await db.sql<{ username: string; email: string | null; kind: string }>`/* team.members */
    select a.username, a.email, a.kind from team_member m join account a on a.id = m.account_id
    where m.team_id = ${teamId} and a.username > ${page.after} and a.deleted_ms is null
    order by a.username limit ${page.limit}`;
  return rows.map((row) => ({ name: row.username, email: row.email ?? undefined, isRobot: row.kind === "robot" }));
}

/** The living user or robot with this name, undefined for organizations and for what cannot be a name. */
export async function findMemberAccount(db: Db, name: string): Promise<Account | undefined> {
  if (!isNamespaceName(name) && !findRobotName(name)) return undefined;
  const account = await findAccount(db, name);
  return account?.kind === "organization" ? undefined : account;
}

/**
 * Puts somebody into a team, or invites a user who is not in the organization yet, by a notice and a mail. Repeating it does
 * nothing, or invites again. Throws `not_found`, `invalid_request` with Quay's texts, `mail_failed` for an invitation that
 * is kept but could not be mailed.
 */
export async function addTeamMember(
  app: TeamApp,
  organization: Organization,
  teamName: string,
  memberName: string,
  change: Change,
): Promise<{ member: TeamMember; isInvited: boolean }> {
  const done = await app.db.tx(async (tx): Promise<{ account: Account; invitation: Invitation | undefined }> => {
    await lockOrganization(tx, organization.id);
    const team = await getTeam(tx, organization.id, teamName);
    const account = await findMemberAccount(tx, memberName);
    if (!account) throw new RegistryError("invalid_request", { message: "Unknown user" });
    const nowMs = app.clock.nowMs();
    if (await needsConsent(app, tx, organization, account)) {
      return { account, invitation: await inviteUser(tx, { organization, team, account, change, nowMs }) };
    }
    requireOwnRobot(organization, account);
    await insertMember(tx, team.id, account.id);
    await withdrawInvite(tx, team.id, { accountId: account.id });
    await log(tx, "org_add_team_member", organization, change, nowMs, { member: account.username, team: team.name });
    return { account, invitation: undefined };
  });
  const { account, invitation } = done;
  if (invitation) await mailInvitation(app, invitation);
  const member = { name: account.username, email: account.email, isRobot: account.kind === "robot" };
  return { member, isInvited: invitation !== undefined };
}

function requireOwnRobot(organization: Organization, account: Account): void {
  if (account.kind !== "robot" || account.ownerId === organization.id) return;
  throw new RegistryError("invalid_request", {
    message: "Cannot add the specified robot to this team, as it is not a member of the organization",
  });
}

/** Source: quay-api reference, section 4: robots and those who are in the organization are added at once. */
async function needsConsent(app: TeamApp, tx: Tx, organization: Organization, account: Account): Promise<boolean> {
  if (account.kind === "robot" || !isMailing(app.config) || !app.config.FEATURE_REQUIRE_TEAM_INVITE) return false;
  const rows = await tx.sql`/* team.in_organization */
    select 1 as one from team_member m join team t on t.id = m.team_id
    where m.account_id = ${account.id} and t.organization_id = ${organization.id} limit 1`;
  return rows.length === 0;
}

/**
 * Takes somebody out of a team, or takes a pending invitation back. Throws `not_found` for an unknown team or name, and
 * `invalid_request` for who is not in it or is the last who may administer the organization.
 */
export async function removeTeamMember(
  app: Pick<App, "db" | "clock">,
  organization: Organization,
  teamName: string,
  memberName: string,
  change: Change,
): Promise<void> {
  await app.db.tx(async (tx) => {
    await lockOrganization(tx, organization.id);
    const team = await getTeam(tx, organization.id, teamName);
    const account = await findMemberAccount(tx, memberName);
    if (!account) throw new RegistryError("not_found");
    const nowMs = app.clock.nowMs();
    const metadata = { member: account.username, team: team.name };
    if (await withdrawInvite(tx, team.id, { accountId: account.id })) {
      const withUser = { user: account.username, ...metadata };
      return log(tx, "org_delete_team_member_invite", organization, change, nowMs, withUser);
    }
    await requireMayLeave(tx, organization, team, account, change);
    const message = "Cannot remove user as they are the only organization admin";
    await keepingAnAdmin(tx, organization.id, message, () => deleteMember(tx, team, account));
    await log(tx, "org_remove_team_member", organization, change, nowMs, metadata);
    tx.changed(EVERYTHING);
  });
}

/** Nobody shuts the door on himself, whoever else may administer the organization. */
async function requireMayLeave(
  tx: Tx,
  organization: Organization,
  team: Team,
  account: Account,
  change: Change,
): Promise<void> {
  const isSelf = change.caller.principal?.accountId === account.id;
  if (!isSelf || team.role !== "admin") return;
  if (!(await isOnlyAdminTeam(tx, organization.id, team.id, account.id))) return;
  throw new RegistryError("invalid_request", {
    message: "User cannot remove themselves from their only admin team.",
  });
}

async function deleteMember(tx: Tx, team: Team, account: Account): Promise<void> {
  const rows = await tx.sql<{ team_id: number }>`/* team.remove_member */
    delete from team_member where team_id = ${team.id} and account_id = ${account.id} returning team_id`;
  if (rows.length > 0 && toNumber(rows[0]?.team_id) === team.id) return;
  throw new RegistryError("invalid_request", {
    message: `User ${account.username} does not belong to team ${team.name}`,
  });
}
