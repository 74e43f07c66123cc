/**
 * Deleting a namespace: at commit its name is free and nothing of it answers any more, on every instance. What remains are
 * rows without a way to them; the `namespacegc` job removes those later, with the blobs. Source: quay-behaviour, section 8.
 */

import type { Tx } from "../../db/db.ts";
import { enqueue } from "../../db/queue.ts";
import { RegistryError } from "../../errors.ts";
import { requireNotSoleAdmin } from "../organization/admins.ts";
import { EVERYTHING } from "../user/account.ts";
import { endCredentials, endMemberships } from "./end-rights.ts";

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
export async function deleteNamespace(tx: Tx, namespace: DeletedNamespace, nowMs: number): Promise<void> {
  if (namespace.kind === "user") await requireNotSoleAdmin(tx, namespace, "delete");
  const rows = await tx.sql`/* namespace.retire */
    update account
    set username = '~' || uuid, email = null, shared_email = null, password_hash = null, token_encrypted = null,
        enabled = false, deleted_ms = ${nowMs}
    where id = ${namespace.id} and kind = ${namespace.kind} and deleted_ms is null
    returning id`;
  if (rows.length === 0) throw new RegistryError("not_found");
  await retireContents(tx, namespace.id, nowMs);
  await endTeams(tx, namespace.id);
  await endApplications(tx, namespace.id);
  await endMemberships(tx, namespace.id);
  await endCredentials(tx, namespace.id);
  await tx.sql`/* namespace.end_notices */
    delete from user_notification where account_id = ${namespace.id} or organization_id = ${namespace.id}`;
  await enqueue(tx, {
    queue: "namespacegc",
    dedupeKey: String(namespace.id),
    payload: { namespaceId: namespace.id },
  });
  tx.changed(EVERYTHING);
}

/** `~` and `:` begin no name that anybody may take, so what is renamed to them is in nobody's way. */
async function retireContents(tx: Tx, namespaceId: number, nowMs: number): Promise<void> {
  await tx.sql`/* namespace.retire_repositories */
    update repository
    set path = '~' || cast(id as text), state = 'MARKED_FOR_DELETION', deleted_ms = ${nowMs}
    where namespace_id = ${namespaceId} and deleted_ms is null`;
  await tx.sql`/* namespace.end_words */ delete from repository_word where namespace_id = ${namespaceId}`;
  await tx.sql`/* namespace.end_federations */
    delete from robot_federation where robot_id in (select id from account where owner_id = ${namespaceId})`;
  await tx.sql`/* namespace.retire_robots */
    update account
    set username = '~' || uuid, token_encrypted = null, enabled = false, deleted_ms = ${nowMs}
    where owner_id = ${namespaceId} and deleted_ms is null`;
}

/** Members see the organization no more. Its empty teams hold rights on its own repositories alone, which are gone. */
async function endTeams(tx: Tx, organizationId: number): Promise<void> {
  await tx.sql`/* namespace.end_invites */
    delete from team_invite where team_id in (select id from team where organization_id = ${organizationId})`;
  await tx.sql`/* namespace.end_members */
    delete from team_member where team_id in (select id from team where organization_id = ${organizationId})`;
  await tx.sql`/* namespace.end_default_roles */
    delete from default_permission where organization_id = ${organizationId}`;
}

/** What other people allowed the organization's applications ends with them. */
async function endApplications(tx: Tx, organizationId: number): Promise<void> {
  const own = tx.sql`(select id from oauth_application where organization_id = ${organizationId})`;
  await tx.sql`/* namespace.end_app_tokens */ delete from oauth_token where application_id in ${own}`;
  await tx.sql`/* namespace.end_app_codes */ delete from oauth_code where application_id in ${own}`;
  await tx.sql`/* namespace.end_app_requests */ delete from oauth_assignment where application_id in ${own}`;
  await tx.sql`/* namespace.end_apps */ delete from oauth_application where organization_id = ${organizationId}`;
}
