/**
 * Which repositories a caller may read, as SQL: one range of an index for each way to a right, so that the cost of a list
 * follows its page and the caller's own grants, not the registry. The rules are those of `access.ts`, for many at once.
 */

import type { App } from "../../app.ts";
import type { Db, SqlQuery } from "../../db/db.ts";
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

export interface VisibleQuery {
  /** Also what is public; without it only what the caller was given. */
  readonly withPublic: boolean;
  readonly kind: RepositoryFacts["kind"] | undefined;
  readonly range: PathRange;
}

/**
 * Queries of which each gives `path` in byte order, at most `range.limit`; together they hold the first that the caller may
 * read. To be merged by the caller: in a union the database sorts again what each index gives in order already.
 */
export function visiblePaths(db: Db, reader: Reader, query: VisibleQuery): SqlQuery<{ path: string }>[] {
  const { sql } = db;
  const { limit } = query.range;
  const { principal } = reader;
  const inRange = rangeOf(db, query);
  if (reader.seesAll) {
    return [
      sql`/* repository.list_all */ select r.path from repository r where ${inRange} order by r.path limit ${limit}`,
    ];
  }
  const sources: SqlQuery<{ path: string }>[] = [];
  if (principal) {
    const byRole = sql`select r.path from repository_permission p join repository r on r.id = p.repository_id
      where p.account_id = ${principal.accountId} and ${inRange} order by r.path limit ${limit}`;
    // Several teams may give the same repository: each is one row of the page.
    const byTeam = sql`select distinct r.path from team_member m
      join repository_permission p on p.team_id = m.team_id
      join repository r on r.id = p.repository_id
      where m.account_id = ${principal.accountId} and ${inRange} order by r.path limit ${limit}`;
    sources.push(sql`/* repository.list_granted */
      select path from (${byRole}) s1 union all select path from (${byTeam}) s2
      union all select path from (${ofAdminTeams(db, principal, query)}) s3`);
  }
  if (principal?.kind === "user") {
    sources.push(sql`/* repository.list_own */ select r.path from repository r
      where r.namespace_id = ${principal.accountId} and ${inRange} order by r.path limit ${limit}`);
  }
  if (query.withPublic && reader.seesPublic) {
    sources.push(sql`/* repository.list_public */ select r.path from repository r
      where r.visibility = 'public' and ${inRange} order by r.path limit ${limit}`);
  }
  return sources;
}

/**
 * What admins of organizations see of those: as many of each as the page holds, out of as many organizations as it can
 * hold, because a namespace's paths stand together in the order. Without that bound a page would sort all they own.
 */
function ofAdminTeams(db: Db, principal: Principal, query: VisibleQuery): SqlQuery<{ path: string }> {
  const { sql } = db;
  const { from, before, limit } = query.range;
  const inRange = rangeOf(db, query);
  return sql`select r.path from (
      select o.id from team_member m
      join team t on t.id = m.team_id and t.role = 'admin'
      join account o on o.id = t.organization_id
      where m.account_id = ${principal.accountId}
        and o.username || ${`/${BEYOND}`} > ${from} and o.username || '/' < ${before}
        and exists (select 1 from repository e where e.namespace_id = o.id and ${inRange})
      group by o.id, o.username
      order by o.username || '/' limit ${limit}
    ) mine join repository r on r.namespace_id = mine.id
    where ${inRange} and r.path <= coalesce((
      select c.path from repository c where c.namespace_id = mine.id and ${inRange}
      order by c.path limit 1 offset ${limit - 1}), ${BEYOND})
    order by r.path limit ${limit}`;
}

/** Without an alias: in each place the innermost table with these columns is repository. */
function rangeOf(db: Db, { range, kind }: VisibleQuery): SqlQuery<unknown> {
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
