/** Ends what an account holds: its ways to log in, and its rights in namespaces of others. For deletion and conversion. */

import type { Tx } from "../../db/db.ts";

/** Sessions, tokens, codes: nothing that was given out opens the account any more. The caller drops the caches. */
export async function endCredentials(tx: Tx, accountId: number): Promise<void> {
  await tx.sql`/* account.end_sessions */ delete from session where account_id = ${accountId}`;
  await tx.sql`/* account.end_app_tokens */ delete from app_token where account_id = ${accountId}`;
  await tx.sql`/* account.end_oauth_tokens */ delete from oauth_token where account_id = ${accountId}`;
  await tx.sql`/* account.end_oauth_codes */ delete from oauth_code where account_id = ${accountId}`;
  await tx.sql`/* account.end_oauth_requests */ delete from oauth_assignment where account_id = ${accountId}`;
  await tx.sql`/* account.end_email_codes */ delete from email_code where account_id = ${accountId}`;
}

/**
 * Team memberships, roles, default permissions that name it, invitations and stars; also what would come back when a deleted
 * organization is restored.
 */
export async function endMemberships(tx: Tx, accountId: number): Promise<void> {
  await endRights(tx, accountId);
  await tx.sql`/* account.end_retired_members */ delete from retired_member where account_id = ${accountId}`;
  await tx.sql`/* account.end_retired_roles */ delete from retired_role where account_id = ${accountId}`;
}

async function endRights(tx: Tx, accountId: number): Promise<void> {
  await tx.sql`/* account.end_memberships */ delete from team_member where account_id = ${accountId}`;
  await tx.sql`/* account.end_roles */ delete from repository_permission where account_id = ${accountId}`;
  await tx.sql`/* account.end_default_roles */
    delete from default_permission
    where delegate_account_id = ${accountId} or activating_account_id = ${accountId}`;
  await tx.sql`/* account.end_invites */ delete from team_invite where account_id = ${accountId}`;
  await tx.sql`/* account.end_stars */ delete from star where account_id = ${accountId}`;
}

/**
 * The same for an account that can be restored: its memberships and its roles are put aside and come back with it, if what
 * they are for is still there then. What else names it ends.
 */
export async function retireMemberships(tx: Tx, accountId: number): Promise<void> {
  await tx.sql`/* account.retire_memberships */
    insert into retired_member (team_id, account_id)
    select team_id, account_id from team_member where account_id = ${accountId} on conflict do nothing`;
  await tx.sql`/* account.retire_roles */
    insert into retired_role (repository_id, account_id, role)
    select repository_id, account_id, role from repository_permission where account_id = ${accountId}
    on conflict do nothing`;
  await endRights(tx, accountId);
}
