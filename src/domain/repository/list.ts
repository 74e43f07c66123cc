/**
 * Lists of the repositories a caller may see, one page at a time in byte order of their full names: the names alone for
 * /v2/_catalog, and rows for /api/v1. What a caller may see is `visible.ts`, what a row shows beside its name `extras.ts`.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Caller } from "../access/actor.ts";
import type { RepositoryFacts, RepositoryState } from "../access/facts.ts";
import {
  byBytes,
  isVisible,
  listPaths,
  type PathRange,
  type Reader,
  rangeAfter,
  rangeOfNamespace,
  readerOf,
} from "./visible.ts";

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
  const paths = await listPaths(app.db, readerOf(app.config, caller), {
    withPublic: app.config.FEATURE_PUBLIC_CATALOG,
    kind: "image",
    range: rangeAfter(page.last, page.limit + 1),
  });
  return { paths: paths.slice(0, page.limit), more: paths.length > page.limit };
}

/** Which repositories a list of /api/v1 is asked for. Source: quay-api reference, section 7. */
export interface ListRepositories {
  /** Only what the caller has starred. */
  readonly starred: boolean;
  readonly namespace: string | undefined;
  /** Public ones too, beside those the caller was given. */
  readonly withPublic: boolean;
  /** Undefined: of every kind. */
  readonly kind: RepositoryFacts["kind"] | undefined;
  /** The last path of the page before. */
  readonly last: string | undefined;
  readonly limit: number;
}

export interface ListedRepository {
  readonly id: number;
  readonly path: string;
  readonly namespaceId: number;
  readonly namespace: string;
  readonly namespaceKind: "user" | "organization";
  readonly name: string;
  readonly description: string;
  readonly visibility: "public" | "private";
  readonly kind: RepositoryFacts["kind"];
  readonly state: RepositoryState;
}

/** One page. `next` is the path to go on after; undefined on the last page. */
export async function listRepositories(
  app: Pick<App, "db" | "config">,
  caller: Caller,
  list: ListRepositories,
): Promise<{ repositories: ListedRepository[]; next: string | undefined }> {
  const { last, limit } = list;
  const reader = readerOf(app.config, caller);
  const range =
    list.namespace === undefined ? rangeAfter(last, limit + 1) : rangeOfNamespace(list.namespace, last, limit + 1);
  const paths = list.starred
    ? await listStarred(app.db, reader, list.kind, range)
    : await listPaths(app.db, reader, { withPublic: list.withPublic, kind: list.kind, range });
  const repositories = await findListed(app.db, paths.slice(0, limit));
  return { repositories, next: paths.length > limit ? paths[limit - 1] : undefined };
}

/** A star stays when a right ends, and shows again when it comes back. Costs what the account has starred. */
async function listStarred(
  db: Db,
  reader: Reader,
  kind: RepositoryFacts["kind"] | undefined,
  range: PathRange,
): Promise<string[]> {
  if (!reader.principal) return [];
  const ofKind = kind === undefined ? db.sql`` : db.sql`and r.kind = ${kind}`;
  const rows = await db.sql<{ path: string }>`/* repository.list_starred */
    select r.path from star s join repository r on r.id = s.repository_id
    where s.account_id = ${reader.principal.accountId} and r.deleted_ms is null
      and r.path >= ${range.from} and r.path < ${range.before} ${ofKind} and ${isVisible(db, reader)}
    order by r.path limit ${range.limit}`;
  return rows.map((row) => row.path);
}

/** Rows of living repositories by their paths, which the caller has found to be visible; in byte order. */
export async function findListed(db: Db, paths: readonly string[]): Promise<ListedRepository[]> {
  if (paths.length === 0) return [];
  const rows = await db.sql<ListedRow>`/* repository.listed */
    select r.id, r.path, r.namespace_id, a.username as namespace, a.kind as namespace_kind, r.name, r.description,
           r.visibility, r.kind, r.state
    from repository r join account a on a.id = r.namespace_id
    where ${db.dialect.inList("r.path", paths)} and r.deleted_ms is null`;
  return rows.map(decodeListed).sort((a, b) => byBytes(a.path, b.path));
}

interface ListedRow {
  id: number;
  path: string;
  namespace_id: number;
  namespace: string;
  namespace_kind: "user" | "organization";
  name: string;
  description: string;
  visibility: "public" | "private";
  kind: RepositoryFacts["kind"];
  state: RepositoryState;
}

function decodeListed(row: ListedRow): ListedRepository {
  return {
    id: toNumber(row.id),
    path: row.path,
    namespaceId: toNumber(row.namespace_id),
    namespace: row.namespace,
    namespaceKind: row.namespace_kind,
    name: row.name,
    description: row.description,
    visibility: row.visibility,
    kind: row.kind,
    state: row.state,
  };
}
