/**
 * An organization always keeps somebody who may administer it. Whoever takes rights away locks the organization first and
 * then looks who is left, so that two at once cannot each remove the other.
 */

import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";

/** Names listed in a refusal; more would help nobody. */
const NAMES_MAX = 20;

/** Waits for other changes of the organization's rights to end and keeps new ones waiting. Throws `not_found`. */
export async function lockOrganization(tx: Tx, organizationId: number): Promise<void> {
  const rows = await tx.sql`/* organization.lock */
    select id from account where id = ${organizationId} and kind = 'organization' and deleted_ms is null
    ${tx.dialect.forUpdate}`;
  if (rows.length === 0) throw new RegistryError("not_found");
}

/** Locks every organization that the account administers, always in one order. */
export async function lockAdministered(tx: Tx, accountId: number): Promise<void> {
  await tx.sql`/* organization.lock_administered */
    select id from account
    where id in (select t.organization_id from team_member m join team t on t.id = m.team_id
                 where m.account_id = ${accountId} and t.role = 'admin')
    order by id ${tx.dialect.forUpdate}`;
}

/** How many users (robots do not count) administer the organization. */
export async function countAdmins(db: Db, organizationId: number): Promise<number> {
  const [row] = await db.sql<{ admins: number }>`/* organization.count_admins */
    select count(distinct a.id) as admins
    from team t join team_member m on m.team_id = t.id join account a on a.id = m.account_id
    where t.organization_id = ${organizationId} and t.role = 'admin' and a.kind = 'user' and a.deleted_ms is null`;
  return toNumber(row?.admins ?? 0);
}

/**
 * Does what takes rights away and throws `invalid_request` with `message` when nobody is left who could administer the
 * organization; the transaction is rolled back then. One that had nobody before is not made worse. Call with the
 * organization locked.
 */
export async function keepingAnAdmin(
  tx: Tx,
  organizationId: number,
  message: string,
  work: () => Promise<void>,
): Promise<void> {
  const before = await countAdmins(tx, organizationId);
  await work();
  if (before === 0 || (await countAdmins(tx, organizationId)) > 0) return;
  throw new RegistryError("invalid_request", { message });
}

/** Names of the organizations that would have no admin without this user, in order, at most twenty. */
export async function soleAdminOrganizations(db: Db, userId: number): Promise<string[]> {
  const rows = await db.sql<{ username: string }>`/* organization.sole_admin */
    select o.username from account o
    where o.deleted_ms is null
      and o.id in (select t.organization_id from team_member m join team t on t.id = m.team_id
                   where m.account_id = ${userId} and t.role = 'admin')
      and not exists (
        select 1 from team t join team_member m on m.team_id = t.id join account a on a.id = m.account_id
        where t.organization_id = o.id and t.role = 'admin' and a.id <> ${userId}
          and a.kind = 'user' and a.deleted_ms is null)
    order by o.username limit ${NAMES_MAX}`;
  return rows.map((row) => row.username);
}

/** Throws `invalid_request`: `Cannot <verb> <u> as you are the only admin for organizations: …`. Locks them. */
export async function requireNotSoleAdmin(
  tx: Tx,
  user: { id: number; username: string },
  verb: "delete" | "convert",
): Promise<void> {
  await lockAdministered(tx, user.id);
  const names = await soleAdminOrganizations(tx, user.id);
  if (names.length === 0) return;
  throw new RegistryError("invalid_request", {
    message: `Cannot ${verb} ${user.username} as you are the only admin for organizations: ${names.join(", ")}`,
  });
}
