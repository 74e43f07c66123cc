/**
 * Deleting a namespace: at commit its name is free and nothing of it answers any more, on every instance. What remains are
 * rows without a way to them. `restore-namespace.ts` brings them back for the time machine's window; then the `namespacegc`
 * job removes them, with the blobs. Source: quay-behaviour, section 8; that it comes back is Berth's own.
 */

import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { enqueue } from "../../db/queue.ts";
import { RegistryError } from "../../errors.ts";
import { requireNotSoleAdmin } from "../organization/admins.ts";
import { EVERYTHING } from "../user/account.ts";
import { endCredentials, retireMemberships } from "./end-rights.ts";

export interface DeletedNamespace {
  readonly id: number;
  readonly kind: "user" | "organization";
  readonly username: string;
}

/**
 * Ends a user or an organization with its repositories, robots, teams, applications, sessions and tokens. The caller has
 * decided that it may be, and writes the log entry. Costs one statement per kind of thing, whose rows it touches. Throws
 * `not_found` when it is gone already, `invalid_request` for the only admin of organizations.
 */
export async function deleteNamespace(tx: Tx, namespace: DeletedNamespace): Promise<void> {
  if (namespace.kind === "user") await requireNotSoleAdmin(tx, namespace, "delete");
  // The password stays in the row: whoever logs in is looked for among the living.
  const [row] = await tx.sql<{ window_s: number }>`/* namespace.retire */
    update account
    set restore_name = case when tag_expiration_s > 0 then username end, restore_email = email,
        restore_shared_email = shared_email, restore_enabled = enabled,
        password_hash = case when tag_expiration_s > 0 then password_hash end,
        username = '~' || uuid, email = null, shared_email = null, enabled = false, deleted_ms = ${tx.dialect.nowMs}
    where id = ${namespace.id} and kind = ${namespace.kind} and deleted_ms is null
    returning tag_expiration_s as window_s`;
  if (!row) throw new RegistryError("not_found");
  await retireContents(tx, namespace.id);
  await retireTeams(tx, namespace.id);
  await endApplicationTokens(tx, namespace.id);
  await retireMemberships(tx, namespace.id);
  await endCredentials(tx, namespace.id);
  await tx.sql`/* namespace.end_notices */
    delete from user_notification where account_id = ${namespace.id} or organization_id = ${namespace.id}`;
  await enqueue(tx, {
    queue: "namespacegc",
    dedupeKey: String(namespace.id),
    payload: { namespaceId: namespace.id },
    delayMs: toNumber(row.window_s) * 1000,
  });
  tx.changed(EVERYTHING);
}

/** `~` and `:` begin no name that anybody may take, so what is renamed to them is in nobody's way. */
async function retireContents(tx: Tx, namespaceId: number): Promise<void> {
  const { nowMs } = tx.dialect;
  await tx.sql`/* namespace.retire_repositories */
    update repository
    set restore_state = state, path = '~' || cast(id as text), state = 'MARKED_FOR_DELETION', deleted_ms = ${nowMs}
    where namespace_id = ${namespaceId} and deleted_ms is null`;
  await tx.sql`/* namespace.end_words */ delete from repository_word where namespace_id = ${namespaceId}`;
  // Whoever may log in by the word of another issuer is asked for anew: what they got by it before must not last.
  await tx.sql`/* namespace.end_federations */
    delete from robot_federation where robot_id in (select id from account where owner_id = ${namespaceId})`;
  await tx.sql`/* namespace.retire_robots */
    update account
    set restore_name = username, restore_enabled = enabled, username = '~' || uuid, enabled = false, deleted_ms = ${nowMs}
    where owner_id = ${namespaceId} and deleted_ms is null`;
}

/** Members see the organization no more; who they were is put aside. Invitations end. */
async function retireTeams(tx: Tx, organizationId: number): Promise<void> {
  const own = tx.sql`(select id from team where organization_id = ${organizationId})`;
  await tx.sql`/* namespace.end_invites */ delete from team_invite where team_id in ${own}`;
  await tx.sql`/* namespace.retire_members */
    insert into retired_member (team_id, account_id)
    select team_id, account_id from team_member where team_id in ${own} on conflict do nothing`;
  await tx.sql`/* namespace.end_members */ delete from team_member where team_id in ${own}`;
}

/** What other people allowed the organization's applications ends with it. */
async function endApplicationTokens(tx: Tx, organizationId: number): Promise<void> {
  const own = tx.sql`(select id from oauth_application where organization_id = ${organizationId})`;
  await tx.sql`/* namespace.end_app_tokens */ delete from oauth_token where application_id in ${own}`;
  await tx.sql`/* namespace.end_app_codes */ delete from oauth_code where application_id in ${own}`;
  await tx.sql`/* namespace.end_app_requests */ delete from oauth_assignment where application_id in ${own}`;
}
