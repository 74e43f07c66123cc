/**
 * Finding repositories by the words of their names. Each way to a right is a range of the word index, so a search costs what
 * it shows and what the caller was given, and nothing that is hidden is counted, skipped over or paged past.
 */

import type { App } from "../../app.ts";
import type { Db, SqlQuery } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Caller, Principal } from "../access/actor.ts";
import { findListed, type ListedRepository, listPaths } from "../repository/list.ts";
import { BEYOND, byBytes, type Reader, rangeAfter, rangeOfPrefix, readerOf } from "../repository/visible.ts";
import { rangeOf, termsOf } from "./terms.ts";

/** How deep one can page: SEARCH_MAX_RESULT_PAGE_COUNT × SEARCH_RESULTS_PER_PAGE is 100 unless configured higher. */
const MATCHES_MAX = 1000;
/** Names with the longest of several words that are looked through for the others, for each way to a right. */
const CANDIDATES_MAX = 5000;

/**
 * Repositories with a word that begins with the longest term of the query and one for each of the others, by word; for
 * `namespace/na…` also those whose full name begins so. Everything the caller may read for an empty query.
 */
export async function searchRepositories(
  app: Pick<App, "db" | "config">,
  caller: Caller,
  query: string,
  page: { skip: number; limit: number },
): Promise<ListedRepository[]> {
  const terms = termsOf(query);
  const count = Math.min(page.skip + page.limit, MATCHES_MAX);
  if (!terms || page.skip >= count) return [];
  const paths = await findPaths(app.db, readerOf(app.config, caller), terms, count);
  const shown = paths.slice(page.skip);
  const rows = new Map((await findListed(app.db, shown)).map((row) => [row.path, row]));
  return shown.flatMap((path) => rows.get(path) ?? []);
}

async function findPaths(db: Db, reader: Reader, terms: string[], count: number): Promise<string[]> {
  const all = { withPublic: true, kind: undefined };
  const [first] = terms;
  if (first === undefined) return listPaths(db, reader, { ...all, range: rangeAfter(undefined, count) });
  const byPath =
    terms.length === 1 && first.includes("/")
      ? await listPaths(db, reader, { ...all, range: rangeOfPrefix(first, count) })
      : [];
  const byWord = await findByWord(db, reader, terms, count);
  return [...new Set([...byPath, ...byWord])].slice(0, count);
}

interface Match {
  readonly id: number;
  readonly word: string;
  readonly path: string;
}

async function findByWord(db: Db, reader: Reader, terms: string[], count: number): Promise<string[]> {
  const found = await Promise.all(wordSources(db, reader, terms, count).map((source) => matchesOf(db, source)));
  const matches = found.flat().sort((a, b) => byBytes(a.word, b.word) || a.id - b.id);
  return matches.map((match) => match.path);
}

async function matchesOf(db: Db, source: SqlQuery<unknown>): Promise<Match[]> {
  const rows = await db.sql<{ id: number; word: string; path: string }>`/* search.repositories */ ${source}`;
  return rows.map((row) => ({ id: toNumber(row.id), word: row.word, path: row.path }));
}

/** Queries of which each gives matches by word and id, at most `count`; together they hold the first. */
function wordSources(db: Db, reader: Reader, terms: string[], count: number): SqlQuery<unknown>[] {
  const { sql } = db;
  const { principal } = reader;
  const shown = (from: SqlQuery<unknown>) => matching(db, from, terms, count);
  if (reader.seesAll) return [shown(sql`repository_word w where true`)];
  const sources: SqlQuery<unknown>[] = [];
  if (principal) {
    const byRole = shown(sql`repository_permission p join repository_word w on w.repository_id = p.repository_id
      where p.account_id = ${principal.accountId}`);
    const byTeam = shown(sql`(
        select distinct p.repository_id from team_member m join repository_permission p on p.team_id = m.team_id
        where m.account_id = ${principal.accountId}) mine
      join repository_word w on w.repository_id = mine.repository_id where true`);
    const byAdminTeam = shown(ofAdminTeams(db, principal, terms[0] ?? "", count));
    sources.push(sql`select id, word, path from (${byRole}) s1 union select id, word, path from (${byTeam}) s2
      union select id, word, path from (${byAdminTeam}) s3 order by word, id limit ${count}`);
  }
  if (principal?.kind === "user") {
    sources.push(shown(sql`repository_word w where w.namespace_id = ${principal.accountId}`));
  }
  if (reader.seesPublic) sources.push(shown(sql`repository_word w where w.public = true`));
  return sources;
}

/** Words of the caller's organizations, of each only as many as could be shown. */
function ofAdminTeams(db: Db, principal: Principal, term: string, count: number): SqlQuery<unknown> {
  const { prefix, before } = rangeOf(term);
  return db.sql`(select distinct t.organization_id as id from team_member m join team t on t.id = m.team_id
      where m.account_id = ${principal.accountId} and t.role = 'admin') mine
    join repository_word w on w.namespace_id = mine.id
    where w.word <= coalesce((
      select c.word from repository_word c
      where c.namespace_id = mine.id and c.word >= ${prefix} and c.word < ${before}
      order by c.word, c.repository_id limit 1 offset ${CANDIDATES_MAX + count}), ${BEYOND})`;
}

/** The repositories behind words: each once, by its first word that matches, and only with all other terms too. */
function matching(db: Db, from: SqlQuery<unknown>, terms: string[], count: number): SqlQuery<unknown> {
  const { sql } = db;
  const [first = "", ...others] = terms;
  const { prefix, before } = rangeOf(first);
  const candidates = sql`select w.repository_id, w.word from ${from} and w.word >= ${prefix} and w.word < ${before}`;
  // One word needs no bound: nearly each row is shown. Of several, the others may match nothing.
  const bounded =
    others.length === 0
      ? candidates
      : sql`select repository_id, word from (${candidates}) f order by word, repository_id limit ${CANDIDATES_MAX}`;
  let isMatch = sql`r.deleted_ms is null and not exists (
    select 1 from repository_word d where d.repository_id = w.repository_id and d.word >= ${prefix} and d.word < w.word)`;
  for (const other of others.map(rangeOf)) {
    isMatch = sql`${isMatch} and exists (
      select 1 from repository_word o
      where o.repository_id = w.repository_id and o.word >= ${other.prefix} and o.word < ${other.before})`;
  }
  return sql`select r.id, w.word, r.path from (${bounded}) w join repository r on r.id = w.repository_id
    where ${isMatch} order by w.word, w.repository_id limit ${count}`;
}
