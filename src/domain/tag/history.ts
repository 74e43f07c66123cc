/**
 * The history of a repository's tags: every lifetime that has not been collected, living and dead, newest first. Pages have
 * numbers because Quay's have; what is skipped is walked in an index without touching rows, and its length is bounded.
 * Source: quay-api reference, section 8; quay-behaviour, section 6.
 */

import type { App } from "../../app.ts";
import type { Db, SqlQuery } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { loadImmutabilityRules } from "../immutability/rules.ts";
import { wasAlive } from "./as-of.ts";

export const HISTORY_PAGE_MAX = 100;
/**
 * How deep pages go: a walk of this many index entries takes some ten milliseconds. Whoever needs more of one repository
 * asks for tags by name.
 */
export const HISTORY_DEPTH_MAX = 200_000;

/** One lifetime of a tag. */
export interface TagLifetime {
  readonly name: string;
  readonly digest: Digest;
  readonly isList: boolean;
  /** Compressed bytes of an image's layers; null for lists. */
  readonly sizeBytes: number | null;
  readonly startMs: number;
  /** When it ended, or is planned to end. */
  readonly endMs: number | undefined;
  readonly reversion: boolean;
  readonly immutable: boolean;
}

export interface HistoryFilter {
  /** Only lifetimes of this tag. */
  readonly name?: string | undefined;
  /** Only tags whose name holds this text, in any letter case, among the newest `HISTORY_DEPTH_MAX` lifetimes. */
  readonly contains?: string | undefined;
  readonly onlyAlive?: boolean | undefined;
  /** Only lifetimes that were there at this time, among the `HISTORY_DEPTH_MAX` that began last before it. */
  readonly asOfMs?: number | undefined;
}

/**
 * Page `page` (from 1) of `limit` lifetimes. `more` tells that another page follows. Throws `invalid_request` past
 * `HISTORY_DEPTH_MAX`.
 */
export async function listTagHistory(
  app: Pick<App, "config" | "db" | "clock">,
  repository: RepositoryFacts,
  filter: HistoryFilter,
  page: { page: number; limit: number },
): Promise<{ lifetimes: TagLifetime[]; more: boolean }> {
  const offset = (page.page - 1) * page.limit;
  if (offset + page.limit > HISTORY_DEPTH_MAX) {
    throw new RegistryError("invalid_request", {
      message: `Pages reach as far as ${HISTORY_DEPTH_MAX} tags; look for tags by name with filter_tag_name`,
    });
  }
  const ids = pageOfIds(app.db, repository.id, filter, { offset, limit: page.limit + 1, nowMs: app.clock.nowMs() });
  const rows = await app.db.sql<LifetimeRow>`/* tag.history */
    select t.name, t.start_ms, t.end_ms, t.expires_ms, t.reversion, t.immutable, t.immutability_lifted,
           m.digest, m.kind, m.layers_size_bytes, m.compressed_size_bytes
    from (${ids}) p join tag t on t.id = p.id join manifest m on m.id = t.manifest_id
    order by t.start_ms desc, t.id desc`;
  const rules = await loadImmutabilityRules(app.config, app.db, repository);
  const lifetimes = rows.slice(0, page.limit).map((row) => {
    const protection = {
      immutable: toBoolean(row.immutable),
      immutabilityLifted: toBoolean(row.immutability_lifted),
    };
    // What is over can neither change nor be protected.
    return decodeLifetime(row, row.end_ms === null && rules.isImmutable(row.name, protection));
  });
  return { lifetimes, more: rows.length > page.limit };
}

/** Ids of one page from the index that serves the filter. */
function pageOfIds(
  db: Db,
  repositoryId: number,
  filter: HistoryFilter,
  page: { offset: number; limit: number; nowMs: number },
): SqlQuery<unknown> {
  const alive = filter.onlyAlive
    ? db.sql`and end_ms is null and (expires_ms is null or expires_ms > ${page.nowMs})`
    : db.sql``;
  // "<> true" keeps SQLite from walking all of a repository in the index of the newest, which a name does not narrow.
  if (filter.asOfMs !== undefined) return pageOfIdsAsOf(db, repositoryId, { ...filter, asOfMs: filter.asOfMs }, page);
  const which = filter.name === undefined ? db.sql`hidden = false` : db.sql`hidden <> true and name = ${filter.name}`;
  if (filter.contains === undefined) {
    return db.sql`
      select id from tag where repository_id = ${repositoryId} and ${which} ${alive}
      order by start_ms desc, id desc limit ${page.limit} offset ${page.offset}`;
  }
  const isNamed = nameContains(db, filter.contains);
  return db.sql`
    select id from (
      select id, start_ms, name from tag where repository_id = ${repositoryId} and ${which} ${alive}
      order by start_ms desc, id desc limit ${HISTORY_DEPTH_MAX}
    ) newest
    where ${isNamed}
    order by start_ms desc, id desc limit ${page.limit} offset ${page.offset}`;
}

function nameContains(db: Db, text: string): SqlQuery<unknown> {
  const pattern = `%${text.toLowerCase().replace(/[%_!]/g, "!$&")}%`;
  return db.sql`lower(name) like ${pattern} escape '!'`;
}

/** The same of what was there at an instant. */
function pageOfIdsAsOf(
  db: Db,
  repositoryId: number,
  filter: HistoryFilter & { asOfMs: number },
  page: { offset: number; limit: number; nowMs: number },
): SqlQuery<unknown> {
  const which = filter.name === undefined ? db.sql`hidden = false` : db.sql`hidden <> true and name = ${filter.name}`;
  const isNamed = filter.contains === undefined ? db.sql`true` : nameContains(db, filter.contains);
  const alive = filter.onlyAlive
    ? db.sql`and end_ms is null and (expires_ms is null or expires_ms > ${page.nowMs})`
    : db.sql``;
  return db.sql`
    select id from (
      select id, name, start_ms, end_ms, expires_ms, hidden from tag
      where repository_id = ${repositoryId} and ${which} and start_ms <= ${filter.asOfMs}
      order by start_ms desc, id desc limit ${HISTORY_DEPTH_MAX}
    ) older
    where ${wasAlive(db, filter.asOfMs)} and ${isNamed} ${alive}
    order by start_ms desc, id desc limit ${page.limit} offset ${page.offset}`;
}

interface LifetimeRow {
  name: string;
  start_ms: unknown;
  end_ms: unknown;
  expires_ms: unknown;
  reversion: unknown;
  immutable: unknown;
  immutability_lifted: unknown;
  digest: string;
  kind: "image" | "index";
  layers_size_bytes: unknown;
  compressed_size_bytes: unknown;
}

function decodeLifetime(row: LifetimeRow, immutable: boolean): TagLifetime {
  const endMs = row.end_ms ?? row.expires_ms;
  const isList = row.kind === "index";
  return {
    name: row.name,
    digest: row.digest as Digest,
    isList,
    // Of images pushed before layers were summed, the config's few kilobytes count too.
    sizeBytes: isList ? null : toNumber(row.compressed_size_bytes ?? row.layers_size_bytes),
    startMs: toNumber(row.start_ms),
    endMs: endMs === null ? undefined : toNumber(endMs),
    reversion: toBoolean(row.reversion),
    immutable,
  };
}
