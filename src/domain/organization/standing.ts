/** Where somebody stands towards an organization: not in it, in one of its teams, or in one of its admin teams. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { type Caller, hasScope, type Principal } from "../access/actor.ts";

export interface OrganizationStanding {
  readonly isMember: boolean;
  /** May create repositories in it. */
  readonly isCreator: boolean;
  readonly isAdmin: boolean;
}

export const OUTSIDE: OrganizationStanding = { isMember: false, isCreator: false, isAdmin: false };

/** What the account's teams make of it, whatever its token says. One query over its own memberships in one organization. */
export async function findStanding(
  db: Db,
  organizationId: number,
  principal: Principal | undefined,
): Promise<OrganizationStanding> {
  if (!principal) return OUTSIDE;
  const [row] = await db.sql<{ teams: number; creators: number; admins: number }>`/* organization.standing */
    select count(*) as teams,
           coalesce(sum(case when t.role in ('creator', 'admin') then 1 else 0 end), 0) as creators,
           coalesce(sum(case when t.role = 'admin' then 1 else 0 end), 0) as admins
    from team_member m join team t on t.id = m.team_id
    where m.account_id = ${principal.accountId} and t.organization_id = ${organizationId}`;
  if (!row) return OUTSIDE;
  return {
    isMember: toNumber(row.teams) > 0,
    isCreator: toNumber(row.creators) > 0,
    isAdmin: toNumber(row.admins) > 0,
  };
}

/**
 * The standing as far as the caller's OAuth scopes let it act on it: org:admin for administration, repo:create for creating,
 * any scope on repositories or organizations for being a member. Source: quay-api reference, section 1.2.
 */
export function capStanding(caller: Caller, standing: OrganizationStanding): OrganizationStanding {
  const asMember = hasScope(caller, "org:admin", "repo:read", "repo:write", "repo:admin", "repo:create");
  return {
    isMember: standing.isMember && asMember,
    isCreator: standing.isCreator && hasScope(caller, "org:admin", "repo:create"),
    isAdmin: standing.isAdmin && hasScope(caller, "org:admin"),
  };
}
