/**
 * A user becomes an organization, by its own wish or because a superuser takes it over; and how a superuser becomes admin
 * of an organization. Source: quay-behaviour reference, section 3.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { endCredentials, endMemberships } from "../namespace/end-rights.ts";
import { type Account, EVERYTHING, isSuperuser } from "../user/account.ts";
import { lockOrganization, requireNotSoleAdmin } from "./admins.ts";
import { insertOwners, OWNERS_TEAM } from "./create-organization.ts";

export interface Conversion {
  /** Who becomes an organization; its log-in is the caller's. */
  user: Pick<Account, "id" | "kind" | "username">;
  /** Who will administer it: a living user, whose log-in was checked, and not the one that is converted. */
  admin: Pick<Account, "id" | "kind">;
  caller: Caller;
  request: RequestOrigin;
  nowMs: number;
}

/**
 * Turns a user into an organization of the same name, whose team `owners` holds `admin`. Its password, sessions and tokens
 * end, so do its rights elsewhere; repositories and robots stay. Throws `invalid_request` for the only admin of other
 * organizations, and for accounts that cannot take part.
 */
export async function convertUserToOrganization(tx: Tx, input: Conversion): Promise<void> {
  const { user, admin, nowMs } = input;
  if (admin.kind !== "user" || admin.id === user.id) throw invalid("The admin user is not valid");
  await requireNotSoleAdmin(tx, user, "convert");
  await makeOrganization(tx, user, admin.id, nowMs);
  const { caller, request } = input;
  await logAction(tx, { kind: "account_convert", caller, namespaceId: user.id, request, nowMs, metadata: {} });
}

async function makeOrganization(tx: Tx, user: Conversion["user"], adminId: number, nowMs: number): Promise<void> {
  const rows = await tx.sql`/* organization.convert */
    update account
    set kind = 'organization', password_hash = null, enabled = true, failed_logins = 0, last_failed_login_ms = null,
        prompts = '[]', superuser = false, given_name = null, family_name = null, company = null, location = null
    where id = ${user.id} and kind = 'user' and deleted_ms is null
    returning id`;
  if (rows.length === 0) throw invalid(`"${user.username}" is not a user that could become an organization`);
  await endMemberships(tx, user.id);
  await endCredentials(tx, user.id);
  await tx.sql`/* organization.end_notices */ delete from user_notification where account_id = ${user.id}`;
  await insertOwners(tx, user.id, adminId, nowMs);
  tx.changed(EVERYTHING);
}

export interface Takeover {
  namespace: Pick<Account, "id" | "kind" | "username" | "promoted">;
  /** A superuser. */
  caller: Caller;
  request: RequestOrigin;
  nowMs: number;
}

/**
 * Makes the calling superuser admin of a namespace: a user becomes an organization of the superuser's, into an
 * organization's admin team the superuser is put. Throws `invalid_request` for the namespace of a superuser.
 */
export async function takeOwnership(app: Pick<App, "config">, tx: Tx, input: Takeover): Promise<void> {
  const { namespace, caller, nowMs } = input;
  const superuserId = caller.principal?.accountId;
  if (superuserId === undefined || caller.principal?.kind !== "user") throw new RegistryError("denied");
  if (namespace.kind === "robot") throw new RegistryError("not_found");
  const isUser = namespace.kind === "user";
  if (app.config.FEATURE_SUPER_USERS && isSuperuser(app.config, namespace)) {
    throw invalid("Cannot take ownership of a superuser");
  }
  // Organizations that the user alone administers are the superuser's to take over next.
  if (isUser) await makeOrganization(tx, namespace, superuserId, nowMs);
  else await joinAdmins(tx, namespace.id, superuserId, nowMs);
  await logAction(tx, {
    kind: "take_ownership",
    caller,
    namespaceId: namespace.id,
    request: input.request,
    nowMs,
    metadata: {
      entity_id: namespace.id,
      namespace: namespace.username,
      was_user: isUser,
      superuser: caller.principal.username,
    },
  });
}

/** Into the first admin team; one is made when there is none. */
async function joinAdmins(tx: Tx, organizationId: number, accountId: number, nowMs: number): Promise<void> {
  await lockOrganization(tx, organizationId);
  const [team] = await tx.sql<{ id: number }>`/* organization.first_admin_team */
    select id from team where organization_id = ${organizationId} and role = 'admin' order by id limit 1`;
  if (team) {
    await tx.sql`/* organization.join_admins */
      insert into team_member (team_id, account_id) values (${toNumber(team.id)}, ${accountId}) on conflict do nothing`;
  } else {
    await makeAdminTeam(tx, organizationId, accountId, nowMs);
  }
  tx.changed(EVERYTHING);
}

/** A team called `owners` with a lesser role stays as it is: its members must not become admins by this. */
async function makeAdminTeam(tx: Tx, organizationId: number, accountId: number, nowMs: number): Promise<void> {
  const rows = await tx.sql`/* organization.owners_team */
    select id from team where organization_id = ${organizationId} and name = ${OWNERS_TEAM}`;
  const name = rows.length === 0 ? OWNERS_TEAM : `${OWNERS_TEAM}-${crypto.randomUUID()}`;
  await insertOwners(tx, organizationId, accountId, nowMs, name);
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
