/**
 * The search of the page's head: some of the caller's teams, robots and namespaces, and repositories it may read. Source:
 * quay-api reference, section 16.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { type Caller, hasScope, type Principal } from "../access/actor.ts";
import type { ListedRepository } from "../repository/list.ts";
import { type Reader, readerOf } from "../repository/visible.ts";
import { searchRepositories } from "./repositories.ts";
import { namePrefixOf, type PrefixRange } from "./terms.ts";

/** Of each kind, as in Quay. */
const SHOWN_MAX = 5;

export interface FoundTeam {
  readonly name: string;
  readonly organization: string;
}

export interface FoundRobot {
  readonly name: string;
  readonly shortName: string;
  readonly owner: string;
}

export interface FoundNamespace {
  readonly name: string;
  readonly kind: "user" | "organization";
}

export interface Found {
  readonly teams: readonly FoundTeam[];
  readonly robots: readonly FoundRobot[];
  readonly repositories: readonly ListedRepository[];
  readonly namespaces: readonly FoundNamespace[];
}

/** At most five of each kind. Nothing for an empty query. */
export async function searchEverything(app: Pick<App, "config" | "db">, caller: Caller, query: string): Promise<Found> {
  if (query.trim() === "") return { teams: [], robots: [], repositories: [], namespaces: [] };
  const { db } = app;
  const range = namePrefixOf(query);
  const reader = readerOf(app.config, caller);
  const { principal } = reader;
  const asAdmin = principal !== undefined && hasScope(caller, "org:admin");
  const asOwner = principal !== undefined && hasScope(caller, "user:admin");
  const [teams, ownRobots, robots, repositories, namespaces] = await Promise.all([
    range && asAdmin ? findTeams(db, principal, range) : [],
    range && asOwner ? findOwnRobots(db, principal, range) : [],
    range && asAdmin ? findRobots(db, principal, range) : [],
    searchRepositories(app, caller, query, { skip: 0, limit: SHOWN_MAX }),
    range ? findNamespaces(db, reader, range) : [],
  ]);
  return { teams, robots: [...ownRobots, ...robots].slice(0, SHOWN_MAX), repositories, namespaces };
}

/** Teams the caller is in, and those of organizations whose admin it is. */
async function findTeams(db: Db, principal: Principal, range: PrefixRange): Promise<FoundTeam[]> {
  const { sql } = db;
  const inRange = sql`t.name >= ${range.prefix} and t.name < ${range.before}`;
  const rows = await sql<{ name: string; organization: string }>`/* search.teams */
    select t.name, o.username as organization from team_member m
    join team t on t.id = m.team_id join account o on o.id = t.organization_id
    where m.account_id = ${principal.accountId} and ${inRange}
    union
    select t.name, o.username as organization from team_member m
    join team a on a.id = m.team_id and a.role = 'admin' join account o on o.id = a.organization_id
    join team t on t.organization_id = o.id
    where m.account_id = ${principal.accountId} and ${inRange}
    order by name, organization limit ${SHOWN_MAX}`;
  return rows;
}

async function findOwnRobots(db: Db, principal: Principal, range: PrefixRange): Promise<FoundRobot[]> {
  const rows = await db.sql<{ name: string; owner: string }>`/* search.own_robots */
    select a.username as name, o.username as owner from account o join account a on a.owner_id = o.id
    where o.id = ${principal.accountId} and ${isRobot(db, range)} order by a.username limit ${SHOWN_MAX}`;
  return rows.map(toRobot);
}

/** Robots of organizations whose admin the caller is. */
async function findRobots(db: Db, principal: Principal, range: PrefixRange): Promise<FoundRobot[]> {
  const rows = await db.sql<{ name: string; owner: string }>`/* search.robots */
    select distinct a.username as name, o.username as owner from team_member m
    join team t on t.id = m.team_id and t.role = 'admin'
    join account o on o.id = t.organization_id
    join account a on a.owner_id = o.id
    where m.account_id = ${principal.accountId} and ${isRobot(db, range)} order by a.username limit ${SHOWN_MAX}`;
  return rows.map(toRobot);
}

/** A robot `a` of `o` whose short or full name begins so: a range of the index of robots by owner. */
function isRobot(db: Db, { prefix }: PrefixRange) {
  const [owner = "", short] = prefix.split("+", 2);
  const isOwner = short === undefined ? db.sql`true` : db.sql`o.username = ${owner}`;
  const begin = short ?? prefix;
  return db.sql`${isOwner} and a.deleted_ms is null
    and a.username >= o.username || ${`+${begin}`} and a.username < o.username || ${`+${begin}~`}`;
}

function toRobot(row: { name: string; owner: string }): FoundRobot {
  return { ...row, shortName: row.name.slice(row.owner.length + 1) };
}

/**
 * Namespaces the caller has something to see in: its own, its organizations, and those of repositories that are public or
 * that it was given. A namespace with nothing for it is not there.
 */
async function findNamespaces(db: Db, reader: Reader, range: PrefixRange): Promise<FoundNamespace[]> {
  const { sql } = db;
  const { principal } = reader;
  const isNamed = sql`a.username >= ${range.prefix} and a.username < ${range.before} and a.deleted_ms is null`;
  if (reader.seesAll) {
    const ofKind = (kind: "user" | "organization") => sql`
      select a.username, a.kind from account a where a.kind = ${kind} and ${isNamed}
      order by a.username limit ${SHOWN_MAX}`;
    const rows = await sql<{ username: string; kind: FoundNamespace["kind"] }>`/* search.all_namespaces */
      select username, kind from (${ofKind("user")}) s1 union all select username, kind from (${ofKind("organization")}) s2
      order by username limit ${SHOWN_MAX}`;
    return rows.map(toNamespace);
  }
  const ids = new Set<number>();
  if (principal) {
    const rows = await sql<{ id: number }>`/* search.own_namespaces */
      select a.id, a.username from account a where a.id = ${principal.accountId} and ${isNamed}
      union
      select a.id, a.username from team_member m join team t on t.id = m.team_id join account a on a.id = t.organization_id
      where m.account_id = ${principal.accountId} and ${isNamed}
      union
      select a.id, a.username from repository_permission p join repository r on r.id = p.repository_id
      join account a on a.id = r.namespace_id
      where p.account_id = ${principal.accountId} and r.deleted_ms is null and ${isNamed}
      order by username limit ${SHOWN_MAX}`;
    for (const row of rows) ids.add(toNumber(row.id));
  }
  if (reader.seesPublic) for (const id of await findPublicNamespaces(db, range)) ids.add(id);
  if (ids.size === 0) return [];
  const rows = await sql<{ username: string; kind: FoundNamespace["kind"] }>`/* search.namespaces */
    select username, kind from account where ${db.dialect.inList("id", [...ids])} order by username limit ${SHOWN_MAX}`;
  return rows.map(toNamespace);
}

/** Hops through the index of public repositories from one namespace to the next: as many steps as namespaces shown. */
async function findPublicNamespaces(db: Db, range: PrefixRange): Promise<number[]> {
  const rows = await db.sql<{ namespace_id: number }>`/* search.public_namespaces */
    with recursive hop (path, n) as (
      select (select min(r.path) from repository r where r.visibility = 'public' and r.deleted_ms is null
              and r.path >= ${range.prefix} and r.path < ${range.before}), 1
      union all
      select (select min(r.path) from repository r where r.visibility = 'public' and r.deleted_ms is null
              and r.path >= (select a.username || '/~' from repository x join account a on a.id = x.namespace_id
                             where x.path = hop.path)
              and r.path < ${range.before}), n + 1
      from hop where hop.path is not null and n < ${SHOWN_MAX}
    )
    select x.namespace_id from hop join repository x on x.path = hop.path`;
  return rows.map((row) => toNumber(row.namespace_id));
}

function toNamespace(row: { username: string; kind: FoundNamespace["kind"] }): FoundNamespace {
  return { name: row.username, kind: row.kind };
}
