/**
 * Finding repositories by the words of their names. Each way to a right is a range of the word index, so a search costs what
 * it shows and what the caller was given, and nothing that is hidden is counted, skipped over or paged past.
 */

import type { App } from "../../app.ts";
import type { Db, SqlQuery } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Caller, Principal } from "../access/actor.ts";
import { findListed, type ListedRepository } from "../repository/list.ts";
import {
  BEYOND,
  byBytes,
  chunksOf,
  givenTo,
  joined,
  listAdminOrganizationIds,
  listPaths,
  type Reader,
  rangeAfter,
  rangeOfPrefix,
  readerOf,
} from "../repository/visible.ts";
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
  const sources = await wordSources(db, reader, terms, count);
  const found = await Promise.all(sources.map((source) => matchesOf(db, source)));
  const matches = found.flat().sort((a, b) => byBytes(a.word, b.word) || a.id - b.id);
  return matches.map((match) => match.path);
}

async function matchesOf(db: Db, source: SqlQuery<unknown>): Promise<Match[]> {
  const rows = await db.sql<{ id: number; word: string; path: string }>`/* search.repositories */ ${source}`;
  return rows.map((row) => ({ id: toNumber(row.id), word: row.word, path: row.path }));
}

/** Queries of which each gives matches by word and id, at most `count`; together they hold the first. */
async function wordSources(db: Db, reader: Reader, terms: string[], count: number): Promise<SqlQuery<unknown>[]> {
  const { sql } = db;
  const { principal } = reader;
  const inRange = wordsFrom(db, terms);
  const shown = (where: SqlQuery<unknown>) =>
    matching(
      db,
      sql`select w.repository_id, w.word from repository_word w where ${where} and ${inRange}`,
      terms,
      count,
    );
  if (reader.seesAll) return [shown(sql`true`)];
  const sources: SqlQuery<unknown>[] = [];
  if (principal) {
    sources.push(ofGranted(db, principal, terms, count));
    const own = principal.kind === "user" ? [principal.accountId] : [];
    for (const ids of chunksOf([...own, ...(await listAdminOrganizationIds(db, principal))])) {
      const parts = ids.map((id) => sql`select id, word, path from (${shown(sql`w.namespace_id = ${id}`)}) s`);
      const all = joined(db, parts, (left, right) => sql`${left} union all ${right}`);
      if (all) sources.push(sql`select id, word, path from (${all}) u order by word, id limit ${count}`);
    }
  }
  if (reader.seesPublic) sources.push(shown(sql`w.public = true`));
  return sources;
}

/** Each given repository is asked for its first word in the range: costs what was given, as `listGranted` does. */
function ofGranted(db: Db, principal: Principal, terms: string[], count: number): SqlQuery<unknown> {
  const first = db.sql`
    select given.repository_id, coalesce((
      select min(w.word) from repository_word w join repository r on r.id = w.repository_id and r.deleted_ms is null
      where w.repository_id = given.repository_id and ${wordsFrom(db, terms)}), ${BEYOND}) as word
    from ${givenTo(db, principal)} order by word, repository_id limit ${terms.length === 1 ? count : CANDIDATES_MAX}`;
  return matching(db, db.sql`select repository_id, word from (${first}) f where word < ${BEYOND}`, terms, count);
}

/** Words of `w` that begin with the longest term. */
function wordsFrom(db: Db, terms: string[]): SqlQuery<unknown> {
  const { prefix, before } = rangeOf(terms[0] ?? "");
  return db.sql`w.word >= ${prefix} and w.word < ${before}`;
}

/** The repositories behind words: each once, by its first word that matches, and only with all other terms too. */
function matching(db: Db, words: SqlQuery<unknown>, terms: string[], count: number): SqlQuery<unknown> {
  const { sql } = db;
  const [first = "", ...others] = terms;
  const { prefix } = rangeOf(first);
  // One word needs no bound: nearly each row is shown. Of several, the others may match nothing.
  const bounded =
    others.length === 0 ? words : sql`select * from (${words}) b order by word, repository_id limit ${CANDIDATES_MAX}`;
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
