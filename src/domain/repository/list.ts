/**
 * The repositories a caller may pull, one page at a time in byte order of their full names. Each way to a right is read
 * through its own index and cut at the page, so the cost follows the page and the caller's own grants, not the registry.
 */

import type { App } from "../../app.ts";
import type { SqlQuery } from "../../db/db.ts";
import type { Caller } from "../access/actor.ts";

export interface RepositoryPage {
  readonly paths: string[];
  readonly more: boolean;
}

/** Spec: distribution-spec (catalog, kept from Docker's API). Public repositories only with FEATURE_PUBLIC_CATALOG. */
export async function listVisibleRepositories(
  app: Pick<App, "db" | "config">,
  caller: Caller,
  page: { limit: number; last: string | undefined },
): Promise<RepositoryPage> {
  if (page.limit === 0) return { paths: [], more: false };
  // Merged here: in a union the database sorts again what each index gives in order already.
  const sources = visibleSources(app, caller, page.last ?? "", page.limit + 1);
  const found = await Promise.all(sources.map((source) => namesOf(app, source)));
  const paths = found.length === 1 ? (found[0] ?? []) : [...new Set(found.flat())].sort(byBytes);
  return { paths: paths.slice(0, page.limit), more: paths.length > page.limit };
}

async function namesOf(app: Pick<App, "db">, source: SqlQuery<unknown>): Promise<string[]> {
  const rows = await app.db.sql<{ path: string }>`/* repository.list */ ${source}`;
  return rows.map((row) => row.path);
}

/** Names are ASCII, so the order of JavaScript's strings is the order of bytes and of both databases. */
function byBytes(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function visibleSources(
  app: Pick<App, "db" | "config">,
  caller: Caller,
  last: string,
  limit: number,
): SqlQuery<unknown>[] {
  const { sql } = app.db;
  const { principal } = caller;
  const { config } = app;
  const isPublicListed = config.FEATURE_PUBLIC_CATALOG && (principal !== undefined || config.FEATURE_ANONYMOUS_ACCESS);
  const publicOnes = sql`select path from repository
    where visibility = 'public' and deleted_ms is null and path > ${last} order by path limit ${limit}`;
  if (!principal || caller.expired) return isPublicListed && !caller.expired ? [publicOnes] : [];
  if (principal.globalReadonly || (principal.superuser && config.FEATURE_SUPERUSERS_FULL_ACCESS)) {
    return [sql`select path from repository where deleted_ms is null and path > ${last} order by path limit ${limit}`];
  }
  const id = principal.accountId;
  const byRole = sql`select r.path from repository_permission p join repository r on r.id = p.repository_id
    where p.account_id = ${id} and r.deleted_ms is null and r.path > ${last} order by r.path limit ${limit}`;
  const byTeam = sql`select r.path from team_member m
    join repository_permission p on p.team_id = m.team_id
    join repository r on r.id = p.repository_id
    where m.account_id = ${id} and r.deleted_ms is null and r.path > ${last} order by r.path limit ${limit}`;
  const byAdminTeam = sql`select r.path from team_member m
    join team t on t.id = m.team_id and t.role = 'admin'
    join repository r on r.namespace_id = t.organization_id
    where m.account_id = ${id} and r.deleted_ms is null and r.path > ${last} order by r.path limit ${limit}`;
  const sources = [
    sql`select path from (${byRole}) s1 union all select path from (${byTeam}) s2
      union all select path from (${byAdminTeam}) s3`,
  ];
  if (principal.kind === "user") {
    sources.push(sql`select path from repository
      where namespace_id = ${id} and deleted_ms is null and path > ${last} order by path limit ${limit}`);
  }
  if (isPublicListed) sources.push(publicOnes);
  return sources;
}
