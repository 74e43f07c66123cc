/**
 * Invitations to a team: of a user, by a notice and a mail, or of a mail address, whoever reads it. The code in them is kept
 * as a hash; a new invitation of the same one replaces the old code. Source: quay-api reference, section 4.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { randomText } from "../../lib/random.ts";
import { isValidEmail, parseEmail } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import type { RequestOrigin } from "../audit/audit.ts";
import { sendTeamInvitation } from "../mail/mail.ts";
import { lockOrganization } from "../organization/admins.ts";
import type { Account } from "../user/account.ts";
import { type Change, getTeam, insertMember, log, type Organization, type Team } from "./team.ts";

/** 165 bits: not to be guessed. */
const CODE_CHARS = 32;

/** An invitation that was written and has yet to be mailed. */
export interface Invitation {
  /** Undefined: the invited user has no address, the notice has to do. */
  readonly to: string | undefined;
  readonly username: string | undefined;
  readonly inviter: string;
  readonly organization: string;
  readonly team: string;
  readonly code: string;
}

export interface PendingInvite {
  /** Undefined: invited by address. */
  readonly username: string | undefined;
  readonly email: string | undefined;
}

/** Invitations of a team that nobody has answered yet, at most `limit`: users by name, then addresses. */
export async function listInvites(db: Db, teamId: number, limit: number): Promise<PendingInvite[]> {
  const rows = await db.sql<{ username: string | null; email: string | null }>`/* team.invites */
    select a.username, coalesce(i.email, a.email) as email
    from team_invite i left join account a on a.id = i.account_id
    where i.team_id = ${teamId} and a.deleted_ms is null
    order by case when a.username is null then 1 else 0 end, a.username, i.email limit ${limit}`;
  return rows.map((row) => ({ username: row.username ?? undefined, email: row.email ?? undefined }));
}

interface NewInvite {
  organization: Organization;
  team: Team;
  account: Pick<Account, "id" | "username" | "email">;
  change: Change;
  nowMs: number;
}

/** Invites a user, with a notice. The mail follows after the transaction. */
export async function inviteUser(tx: Tx, input: NewInvite): Promise<Invitation> {
  const { organization, team, account, change, nowMs } = input;
  const inviter = change.caller.principal?.username ?? "";
  const code = randomText(CODE_CHARS);
  const inviteId = await putInvite(tx, input, code, { accountId: account.id });
  const metadata = { code, inviter, org: organization.username, team: team.name };
  await tx.sql`/* team.notify_invited */
    insert into user_notification (uuid, account_id, kind, organization_id, metadata, subject_key, created_ms)
    values (${crypto.randomUUID()}, ${account.id}, 'org_team_invite', ${organization.id}, ${JSON.stringify(metadata)},
            ${noticeKey(inviteId)}, ${nowMs})`;
  const who = { user: account.username, member: account.username, team: team.name };
  await log(tx, "org_invite_team_member", organization, change, nowMs, who);
  const names = { inviter, organization: organization.username, team: team.name };
  return { to: account.email, username: account.username, ...names, code };
}

/** Invites whoever reads the mails of an address. Throws `invalid_request`, `not_found`, `mail_failed`. */
export async function inviteEmail(
  app: Pick<App, "config" | "db" | "clock" | "mailer">,
  organization: Organization,
  teamName: string,
  email: string,
  change: Change,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  const code = randomText(CODE_CHARS);
  const to = parseEmail(email);
  const team = await app.db.tx(async (tx) => {
    await lockOrganization(tx, organization.id);
    const found = await getTeam(tx, organization.id, teamName);
    await putInvite(tx, { organization, team: found, change, nowMs }, code, { email: to });
    await log(tx, "org_invite_team_member", organization, change, nowMs, { email: to, member: to, team: found.name });
    return found;
  });
  const names = { organization: organization.username, team: team.name };
  const inviter = change.caller.principal?.username ?? "";
  await mailInvitation(app, { to, username: undefined, inviter, ...names, code });
}

/** Throws `mail_failed`; the invitation stays, and inviting again sends it again. */
export async function mailInvitation(app: Pick<App, "config" | "mailer">, invitation: Invitation): Promise<void> {
  const { to, ...rest } = invitation;
  if (to !== undefined) await sendTeamInvitation(app, { to, ...rest });
}

type Invited = { readonly accountId: number } | { readonly email: string };

/** The row of an invitation with this code; an older one of the same user or address is replaced. */
async function putInvite(tx: Tx, input: Omit<NewInvite, "account">, code: string, invited: Invited): Promise<number> {
  await withdrawInvite(tx, input.team.id, invited);
  const inviterId = input.change.caller.principal?.accountId;
  if (inviterId === undefined) throw new RegistryError("unauthorized");
  const [row] = await tx.sql<{ id: number }>`/* team.invite */
    insert into team_invite (code_hash, team_id, account_id, email, inviter_id, created_ms)
    values (${hashOf(code)}, ${input.team.id}, ${"accountId" in invited ? invited.accountId : null},
            ${"email" in invited ? invited.email : null}, ${inviterId}, ${input.nowMs})
    returning id`;
  return toNumber(row?.id);
}

/** Takes an invitation and its notice back. True when there was one. */
export async function withdrawInvite(tx: Tx, teamId: number, invited: Invited): Promise<boolean> {
  const which = "accountId" in invited ? tx.sql`account_id = ${invited.accountId}` : tx.sql`email = ${invited.email}`;
  const rows = await tx.sql<{ id: number }>`/* team.withdraw_invite */
    delete from team_invite where team_id = ${teamId} and ${which} returning id`;
  for (const row of rows) await deleteNotice(tx, toNumber(row.id));
  return rows.length > 0;
}

/** Takes the invitation of an address back. Throws `not_found`. */
export async function withdrawEmailInvite(
  app: Pick<App, "db" | "clock">,
  organization: Organization,
  teamName: string,
  email: string,
  change: Change,
): Promise<void> {
  await app.db.tx(async (tx) => {
    await lockOrganization(tx, organization.id);
    const team = await getTeam(tx, organization.id, teamName);
    if (!isValidEmail(email) || !(await withdrawInvite(tx, team.id, { email }))) throw new RegistryError("not_found");
    const metadata = { email, member: email, team: team.name };
    await log(tx, "org_delete_team_member_invite", organization, change, app.clock.nowMs(), metadata);
  });
}

export interface InviteAnswer {
  readonly organization: string;
  readonly team: string;
}

/**
 * Accepts or declines the invitation with this code. Throws `not_found` for an unknown code, `invalid_request` for one that
 * was given to another user. A code that went to an address is good for whoever brings it.
 */
export async function answerInvite(
  app: Pick<App, "db" | "clock">,
  code: string,
  answer: "accept" | "decline",
  { caller, request }: { caller: Caller; request: RequestOrigin },
): Promise<InviteAnswer> {
  const { principal } = caller;
  if (principal?.kind !== "user") throw new RegistryError("denied");
  const codeHash = hashOf(code);
  return app.db.tx(async (tx) => {
    const organizationId = await findOrganizationOf(tx, codeHash);
    await lockOrganization(tx, organizationId);
    const invite = await findInvite(tx, codeHash);
    if (!invite) throw new RegistryError("not_found");
    if (invite.accountId !== undefined && invite.accountId !== principal.accountId) {
      throw new RegistryError("invalid_request", {
        message: "This invitation is for another user. Please log in as that user and try again.",
      });
    }
    await tx.sql`/* team.end_invite */ delete from team_invite where id = ${invite.id}`;
    await deleteNotice(tx, invite.id);
    if (answer === "accept") await insertMember(tx, invite.teamId, principal.accountId);
    const kind = answer === "accept" ? "org_team_member_invite_accepted" : "org_team_member_invite_declined";
    const metadata = { member: principal.username, team: invite.team, inviter: invite.inviter };
    const organization = { id: organizationId, username: invite.organization };
    await log(tx, kind, organization, { caller, request }, app.clock.nowMs(), metadata);
    return { organization: invite.organization, team: invite.team };
  });
}

async function findOrganizationOf(tx: Tx, codeHash: string): Promise<number> {
  const [row] = await tx.sql<{ organization_id: number }>`/* team.invite_organization */
    select t.organization_id from team_invite i join team t on t.id = i.team_id where i.code_hash = ${codeHash}`;
  if (!row) throw new RegistryError("not_found");
  return toNumber(row.organization_id);
}

async function findInvite(tx: Tx, codeHash: string) {
  const [row] = await tx.sql<{
    id: number;
    team_id: number;
    account_id: number | null;
    team: string;
    organization: string;
    inviter: string;
  }>`/* team.find_invite */
    select i.id, i.team_id, i.account_id, t.name as team, o.username as organization, a.username as inviter
    from team_invite i join team t on t.id = i.team_id join account o on o.id = t.organization_id
    join account a on a.id = i.inviter_id
    where i.code_hash = ${codeHash}`;
  if (!row) return undefined;
  return {
    id: toNumber(row.id),
    teamId: toNumber(row.team_id),
    accountId: row.account_id === null ? undefined : toNumber(row.account_id),
    team: row.team,
    organization: row.organization,
    inviter: row.inviter,
  };
}

async function deleteNotice(tx: Tx, inviteId: number): Promise<void> {
  await tx.sql`/* team.end_notice */ delete from user_notification where subject_key = ${noticeKey(inviteId)}`;
}

function noticeKey(inviteId: number): string {
  return `team_invite:${inviteId}`;
}

/** Codes are random, so one round of a plain hash keeps them. */
function hashOf(code: string): string {
  return new Bun.CryptoHasher("sha256").update(code).digest("hex");
}
