/** The organizations a user is in, as its own view and the page's menus show them. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

export interface OrganizationMembership {
  readonly id: number;
  readonly name: string;
  readonly email: string | undefined;
  /** May create repositories in it: a team of role creator or admin. */
  readonly isCreator: boolean;
  readonly isAdmin: boolean;
}

/** Every organization with a team that the account is in, by name. Costs the account's own memberships. */
export async function findUserOrganizations(db: Db, accountId: number): Promise<OrganizationMembership[]> {
  const rows = await db.sql<{
    id: number;
    username: string;
    email: string | null;
    creators: number;
    admins: number;
  }>`/* organization.of_user */
    select o.id, o.username, coalesce(o.email, o.shared_email) as email,
           sum(case when t.role in ('creator', 'admin') then 1 else 0 end) as creators,
           sum(case when t.role = 'admin' then 1 else 0 end) as admins
    from team_member m join team t on t.id = m.team_id join account o on o.id = t.organization_id
    where m.account_id = ${accountId} and o.deleted_ms is null
    group by o.id, o.username, o.email, o.shared_email
    order by o.username`;
  return rows.map((row) => ({
    id: toNumber(row.id),
    name: row.username,
    email: row.email ?? undefined,
    isCreator: toNumber(row.creators) > 0,
    isAdmin: toNumber(row.admins) > 0,
  }));
}
