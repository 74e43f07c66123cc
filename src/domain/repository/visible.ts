/**
 * Which repositories a caller may read, as SQL: one range of an index for each way to a right, so that the cost of a list
 * follows its page and the caller's own grants, not the registry. The rules are those of `access.ts`, for many at once.
 */

import type { App } from "../../app.ts";
import type { Db, SqlQuery } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { type Caller, type Principal, scopesCoverRole } from "../access/actor.ts";
import type { RepositoryFacts } from "../access/facts.ts";

type Policy = Pick<App["config"], "FEATURE_ANONYMOUS_ACCESS" | "FEATURE_SUPERUSERS_FULL_ACCESS">;

/** What the caller may read by: everything, what it was given, what is public, or nothing. */
export interface Reader {
  /** Whose grants count; undefined for nobody. */
  readonly principal: Principal | undefined;
  readonly seesAll: boolean;
  readonly seesPublic: boolean;
}

/** A caller whose token is over or does not cover reading sees nothing, as when it asks for one repository by name. */
export function readerOf(policy: Policy, caller: Caller): Reader {
  if (caller.expired || !scopesCoverRole(caller, "read")) {
    return { principal: undefined, seesAll: false, seesPublic: false };
  }
  const { principal } = caller;
  const isFullSuperuser = principal?.superuser === true && policy.FEATURE_SUPERUSERS_FULL_ACCESS;
  return {
    principal,
    seesAll: principal !== undefined && (principal.globalReadonly || isFullSuperuser),
    seesPublic: principal !== undefined || policy.FEATURE_ANONYMOUS_ACCESS,
  };
}

/** A range of full names in byte order. */
export interface PathRange {
  /** From this text on, itself included. */
  readonly from: string;
  /** Up to this text, itself left out. */
  readonly before: string;
  readonly limit: number;
}

/** Below every character of a name: `path + AFTER` is the next text after a path that can be one. */
export const AFTER = "!";
/** Above every character of a name: all texts that begin with `prefix` are below `prefix + BEYOND`. */
export const BEYOND = "~";

/** All paths after `last`, or all. */
export function rangeAfter(last: string | undefined, limit: number): PathRange {
  return { from: last === undefined ? "" : last + AFTER, before: BEYOND, limit };
}

/** The paths of one namespace: one piece of the order of all paths. */
export function rangeOfNamespace(namespace: string, last: string | undefined, limit: number): PathRange {
  const first = `${namespace}/`;
  return { from: last !== undefined && last > first ? last + AFTER : first, before: first + BEYOND, limit };
}

/** Names that begin with a text, in byte order. */
export function rangeOfPrefix(prefix: string, limit: number): PathRange {
  return { from: prefix, before: prefix + BEYOND, limit };
}

/** The part of a range inside one namespace; undefined when there is none. */
function narrow(range: PathRange, namespace: string): PathRange | undefined {
  const first = `${namespace}/`;
  const from = range.from > first ? range.from : first;
  const before = range.before < first + BEYOND ? range.before : first + BEYOND;
  return from < before ? { from, before, limit: range.limit } : undefined;
}

export interface VisibleQuery {
  /** Also what is public; without it only what the caller was given. */
  readonly withPublic: boolean;
  readonly kind: RepositoryFacts["kind"] | undefined;
  readonly range: PathRange;
}

interface PathRow {
  path: string;
}

/**
 * The first paths that the caller may read, at most `range.limit` and in byte order. Each way to a right is read in its own
 * query and merged here: in a union the database sorts again what each index gives in order already, and PostgreSQL
 * would look for few grants among all repositories because a page might be full early.
 */
export async function listPaths(db: Db, reader: Reader, query: VisibleQuery): Promise<string[]> {
  const { principal } = reader;
  const inRange = rangeOf(db, query.range, query.kind);
  const { limit } = query.range;
  if (reader.seesAll) {
    return pathsOf(db.sql<PathRow>`/* repository.list_all */
      select path from repository where ${inRange} order by path limit ${limit}`);
  }
  const own = principal?.kind === "user" ? narrow(query.range, principal.username) : undefined;
  const found = await Promise.all([
    principal ? listGranted(db, principal, query) : [],
    principal ? listOfAdminTeams(db, principal, query) : [],
    principal && own ? pathsOf(ofNamespace(db, principal.accountId, own, query.kind)) : [],
    query.withPublic && reader.seesPublic
      ? pathsOf(db.sql<PathRow>`/* repository.list_public */
          select path from repository where visibility = 'public' and ${inRange} order by path limit ${limit}`)
      : [],
  ]);
  const filled = found.filter((paths) => paths.length > 0);
  const paths = filled.length === 1 ? (filled[0] ?? []) : [...new Set(filled.flat())].sort(byBytes);
  return paths.slice(0, limit);
}

/** Ids of what the account was given by a role of its own or of one of its teams, each once, as `given.repository_id`. */
export function givenTo(db: Db, principal: Principal): SqlQuery<unknown> {
  const { accountId } = principal;
  return db.sql`(
    select repository_id from repository_permission where account_id = ${accountId}
    union
    select p.repository_id from team_member m join repository_permission p on p.team_id = m.team_id
    where m.account_id = ${accountId}
  ) given`;
}

/**
 * Costs what was given: each path is asked for by the repository's id. As a join, PostgreSQL would rather read all
 * repositories, for accounts with few grants too when others have many.
 */
async function listGranted(db: Db, principal: Principal, { range, kind }: VisibleQuery): Promise<string[]> {
  const paths = await pathsOf(db.sql<PathRow>`/* repository.list_granted */
    select coalesce((
      select path from repository where id = given.repository_id and ${rangeOf(db, range, kind)}), ${BEYOND}) as path
    from ${givenTo(db, principal)} order by path limit ${range.limit}`);
  return paths.filter((path) => path !== BEYOND);
}

/** Organizations read in one query. */
const NAMESPACES_AT_ONCE = 32;

/**
 * What admins of organizations see of those. A namespace's paths stand together in the order, so the organizations are gone
 * through one after the other until the page is full.
 */
async function listOfAdminTeams(db: Db, principal: Principal, { range, kind }: VisibleQuery): Promise<string[]> {
  const organizations = await listAdminOrganizations(db, principal, range, kind);
  const paths: string[] = [];
  for (const some of chunksOf(organizations)) {
    const parts = some.flatMap(({ id, name }) => {
      const within = narrow(range, name);
      return within ? [db.sql`select path from (${ofNamespace(db, id, within, kind)}) s`] : [];
    });
    const all = joined(db, parts, (left, right) => db.sql`${left} union all ${right}`);
    if (!all) continue;
    const found = db.sql<PathRow>`/* repository.list_of_admin */
      select path from (${all}) u order by path limit ${range.limit}`;
    paths.push(...(await pathsOf(found)));
    if (paths.length >= range.limit) break;
  }
  return paths;
}

/** Those with a repository in the range, in the order of paths: no more are needed to fill it. */
async function listAdminOrganizations(
  db: Db,
  principal: Principal,
  range: PathRange,
  kind: RepositoryFacts["kind"] | undefined,
): Promise<{ id: number; name: string }[]> {
  const rows = await db.sql<{ id: number; username: string }>`/* repository.admin_organizations */
    select o.id, o.username from team_member m
    join team t on t.id = m.team_id and t.role = 'admin'
    join account o on o.id = t.organization_id
    where m.account_id = ${principal.accountId}
      and o.username || ${`/${BEYOND}`} > ${range.from} and o.username || '/' < ${range.before}
      and exists (select 1 from repository where namespace_id = o.id and ${rangeOf(db, range, kind)})
    group by o.id, o.username order by o.username || '/' limit ${range.limit}`;
  return rows.map((row) => ({ id: toNumber(row.id), name: row.username }));
}

function ofNamespace(
  db: Db,
  namespaceId: number,
  range: PathRange,
  kind: RepositoryFacts["kind"] | undefined,
): SqlQuery<PathRow> {
  return db.sql<PathRow>`/* repository.list_own */
    select path from repository where namespace_id = ${namespaceId} and ${rangeOf(db, range, kind)}
    order by path limit ${range.limit}`;
}

async function pathsOf(query: SqlQuery<PathRow>): Promise<string[]> {
  return (await query).map((row) => row.path);
}

/** Lists of a length that one statement may hold. */
export function chunksOf<T>(items: readonly T[], size = NAMESPACES_AT_ONCE): T[][] {
  const count = Math.ceil(items.length / size);
  return Array.from({ length: count }, (_, index) => items.slice(index * size, (index + 1) * size));
}

/** Fragments put together two and two, so that many of them do not nest deeply. Undefined when there are none. */
export function joined(
  db: Db,
  parts: readonly SqlQuery<unknown>[],
  join: (left: SqlQuery<unknown>, right: SqlQuery<unknown>) => SqlQuery<unknown>,
): SqlQuery<unknown> | undefined {
  if (parts.length <= 1) return parts[0];
  const middle = Math.ceil(parts.length / 2);
  const left = joined(db, parts.slice(0, middle), join);
  const right = joined(db, parts.slice(middle), join);
  return left && right && join(left, right);
}

/** Organizations whose admin the account is. Costs its own memberships. */
export async function listAdminOrganizationIds(db: Db, principal: Principal): Promise<number[]> {
  const rows = await db.sql<{ id: number }>`/* repository.all_admin_organizations */
    select distinct t.organization_id as id from team_member m join team t on t.id = m.team_id
    where m.account_id = ${principal.accountId} and t.role = 'admin' order by id`;
  return rows.map((row) => toNumber(row.id));
}

/** Without an alias: in each place the innermost table with these columns is repository. */
function rangeOf(db: Db, range: PathRange, kind: RepositoryFacts["kind"] | undefined): SqlQuery<unknown> {
  const ofKind = kind === undefined ? db.sql`` : db.sql`and kind = ${kind}`;
  return db.sql`deleted_ms is null and path >= ${range.from} and path < ${range.before} ${ofKind}`;
}

/** True of a row `r` of repository that the caller may read: for rows found in another way, such as its stars. */
export function isVisible(db: Db, reader: Reader): SqlQuery<unknown> {
  const { sql } = db;
  const { principal } = reader;
  if (reader.seesAll) return sql`true`;
  const isPublic = reader.seesPublic ? sql`r.visibility = 'public'` : sql`false`;
  if (!principal) return isPublic;
  const id = principal.accountId;
  return sql`(${isPublic} or r.namespace_id = ${id}
    or exists (select 1 from repository_permission p where p.account_id = ${id} and p.repository_id = r.id)
    or exists (select 1 from team_member m join repository_permission p on p.team_id = m.team_id
               where m.account_id = ${id} and p.repository_id = r.id)
    or exists (select 1 from team_member m join team t on t.id = m.team_id
               where m.account_id = ${id} and t.organization_id = r.namespace_id and t.role = 'admin'))`;
}

/** Names are ASCII, so the order of JavaScript's strings is the order of bytes and of both databases. */
export function byBytes(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
