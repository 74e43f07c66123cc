/**
 * Whom one can give a role or a place in a team: users by the beginning of their name, and the robots, teams and the name of
 * an organization (or of the caller) to who may see those. Source: quay-api reference, section 16. E-mail addresses are
 * neither searched nor shown: whoever may search names would learn who has which.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { type Caller, hasScope, type Principal } from "../access/actor.ts";
import { capStanding, findStanding, type OrganizationStanding, OUTSIDE } from "../organization/standing.ts";
import { AFTER } from "../repository/visible.ts";
import { type Account, findAccount } from "../user/account.ts";
import { namePrefixOf, type PrefixRange, rangeOf } from "./terms.ts";

/** Of each kind, as in Quay. */
const SHOWN_MAX = 10;

export interface Entity {
  readonly kind: "user" | "robot" | "team" | "org";
  readonly name: string;
  /** In the organization that was asked for; undefined when none was. */
  readonly isMember: boolean | undefined;
}

export interface EntityQuery {
  readonly prefix: string;
  /** The organization or user whose robots and teams are wanted too. */
  readonly namespace: string | undefined;
  readonly includeTeams: boolean;
  readonly includeOrgs: boolean;
}

/** Nothing for nobody: names of accounts are not public. With FEATURE_PARTIAL_USER_AUTOCOMPLETE off, users by whole name. */
export async function searchEntities(
  app: Pick<App, "config" | "db">,
  caller: Caller,
  query: EntityQuery,
): Promise<Entity[]> {
  const { principal } = caller;
  const range = namePrefixOf(query.prefix);
  if (!principal || caller.expired || !range) return [];
  const { db } = app;
  const { organization, standing } = await findScope(app, caller, query.namespace);
  const found: Entity[] = [];
  if (organization && standing.isMember && query.includeTeams) found.push(...(await teams(db, organization, range)));
  const isWhole = !app.config.FEATURE_PARTIAL_USER_AUTOCOMPLETE;
  found.push(...(await users(db, organization, isWhole ? { ...range, before: range.prefix + AFTER } : range)));
  const robotsOf = organization && standing.isMember ? organization : ownNamespace(caller, principal, query.namespace);
  if (robotsOf) found.push(...(await robots(db, robotsOf, range.prefix, organization !== undefined)));
  if (organization && standing.isAdmin && query.includeOrgs && organization.username.startsWith(range.prefix)) {
    found.push({ kind: "org", name: organization.username, isMember: true });
  }
  return found;
}

interface Scope {
  readonly organization: Account | undefined;
  readonly standing: OrganizationStanding;
}

/** The organization asked for, as far as the caller's standing there goes. */
async function findScope(
  app: Pick<App, "config" | "db">,
  caller: Caller,
  namespace: string | undefined,
): Promise<Scope> {
  const account = namespace === undefined ? undefined : await findAccount(app.db, namespace);
  if (account?.kind !== "organization") return { organization: undefined, standing: OUTSIDE };
  const isSuperuser = caller.principal?.superuser === true && app.config.FEATURE_SUPERUSERS_FULL_ACCESS;
  const standing = isSuperuser
    ? { isMember: true, isCreator: true, isAdmin: true }
    : capStanding(caller, await findStanding(app.db, account.id, caller.principal));
  return { organization: account, standing };
}

function ownNamespace(
  caller: Caller,
  principal: Principal,
  namespace: string | undefined,
): { id: number; username: string } | undefined {
  const isOwn = principal.kind === "user" && principal.username === namespace && hasScope(caller, "user:admin");
  return isOwn ? { id: principal.accountId, username: principal.username } : undefined;
}

async function teams(db: Db, organization: Account, range: PrefixRange): Promise<Entity[]> {
  const rows = await db.sql<{ name: string }>`/* search.teams_of */
    select name from team
    where organization_id = ${organization.id} and name >= ${range.prefix} and name < ${range.before}
    order by name limit ${SHOWN_MAX}`;
  return rows.map(({ name }) => ({ kind: "team", name, isMember: true }));
}

async function users(db: Db, organization: Account | undefined, range: PrefixRange): Promise<Entity[]> {
  const rows = await db.sql<{ username: string; is_member: unknown }>`/* search.users */
    select a.username, case when exists (
      select 1 from team_member m join team t on t.id = m.team_id
      where m.account_id = a.id and t.organization_id = ${organization?.id ?? 0}) then 1 else 0 end as is_member
    from account a
    where a.kind = 'user' and a.username >= ${range.prefix} and a.username < ${range.before} and a.deleted_ms is null
    order by a.username limit ${SHOWN_MAX}`;
  return rows.map((row) => ({
    kind: "user",
    name: row.username,
    isMember: organization ? toBoolean(toNumber(row.is_member)) : undefined,
  }));
}

/** By the short name, or by the full one with its `+`. */
async function robots(
  db: Db,
  owner: { id: number; username: string },
  prefix: string,
  withMembership: boolean,
): Promise<Entity[]> {
  const { prefix: from, before } = rangeOf(prefix.includes("+") ? prefix : `${owner.username}+${prefix}`);
  const rows = await db.sql<{ username: string }>`/* search.robots_of */
    select username from account
    where owner_id = ${owner.id} and username >= ${from} and username < ${before} and deleted_ms is null
    order by username limit ${SHOWN_MAX}`;
  return rows.map((row) => ({ kind: "robot", name: row.username, isMember: withMembership ? true : undefined }));
}
