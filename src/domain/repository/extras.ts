/**
 * What lists and searches show of repositories beside their rows: when a tag was last set, how much is going on, stars and
 * bytes. Each is one query for a whole page, by the ids on it.
 */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

const DAY_MS = 24 * 3600 * 1000;
/** Pulls and pushes of this many days make a repository's popularity, as in Quay. */
const POPULARITY_DAYS = 7;

/** When a tag was last set, epoch ms; repositories that never had one are left out. */
export async function findLastModified(db: Db, ids: readonly number[]): Promise<ReadonlyMap<number, number>> {
  const rows = await db.sql<{ id: number; value: number | null }>`/* repository.last_modified */
    select r.id, (select max(t.start_ms) from tag t where t.repository_id = r.id and t.hidden = false) as value
    from repository r where ${db.dialect.inList("r.id", ids)}`;
  return toMap(rows);
}

/** Pulls and pushes of the last seven days; repositories without any are left out. */
export async function findPopularity(
  db: Db,
  ids: readonly number[],
  nowMs: number,
): Promise<ReadonlyMap<number, number>> {
  const firstDay = Math.floor(nowMs / DAY_MS) - POPULARITY_DAYS;
  const rows = await db.sql<{ id: number; value: number }>`/* repository.popularity */
    select repository_id as id, cast(sum(action_count) as bigint) as value from repository_action_count
    where ${db.dialect.inList("repository_id", ids)} and day >= ${firstDay} group by repository_id`;
  return toMap(rows);
}

/** How many accounts have starred each. */
export async function countStars(db: Db, ids: readonly number[]): Promise<ReadonlyMap<number, number>> {
  const rows = await db.sql<{ id: number; value: number }>`/* repository.star_counts */
    select repository_id as id, count(*) as value from star
    where ${db.dialect.inList("repository_id", ids)} group by repository_id`;
  return toMap(rows);
}

/** Those of them that the account has starred. */
export async function findStarredIds(db: Db, accountId: number, ids: readonly number[]): Promise<ReadonlySet<number>> {
  const rows = await db.sql<{ id: number }>`/* repository.starred_ids */
    select repository_id as id from star
    where account_id = ${accountId} and ${db.dialect.inList("repository_id", ids)}`;
  return new Set(rows.map((row) => toNumber(row.id)));
}

export interface Usage {
  readonly sizeBytes: number;
  /** The quota of its namespace; undefined when it has none of its own. */
  readonly limitBytes: number | undefined;
}

/** Bytes as they were counted so far; 0 where nothing was. Counts of an earlier generation are none. */
export async function findUsage(db: Db, ids: readonly number[]): Promise<ReadonlyMap<number, Usage>> {
  const rows = await db.sql<{
    id: number;
    size_bytes: number | null;
    limit_bytes: number | null;
  }>`/* repository.usage */
    select r.id, u.size_bytes, q.limit_bytes from repository r
    left join namespace_usage n on n.namespace_id = r.namespace_id
    left join repository_usage u on u.repository_id = r.id and u.generation = n.generation
    left join namespace_quota q on q.namespace_id = r.namespace_id
    where ${db.dialect.inList("r.id", ids)}`;
  return new Map(
    rows.map((row) => [
      toNumber(row.id),
      {
        sizeBytes: toNumber(row.size_bytes ?? 0),
        limitBytes: row.limit_bytes === null ? undefined : toNumber(row.limit_bytes),
      },
    ]),
  );
}

export interface DayCount {
  /** Midnight UTC. */
  readonly dayMs: number;
  readonly count: number;
}

/** Pulls and pushes of the last `days` days, today with what it has so far; days without any count 0. Oldest first. */
export async function listDayCounts(
  db: Db,
  repositoryId: number,
  range: { days: number; nowMs: number },
): Promise<DayCount[]> {
  const today = Math.floor(range.nowMs / DAY_MS);
  const first = today - range.days + 1;
  const rows = await db.sql<{ day: number; action_count: number }>`/* repository.day_counts */
    select day, action_count from repository_action_count
    where repository_id = ${repositoryId} and day >= ${first} and day <= ${today}`;
  const counts = new Map(rows.map((row) => [toNumber(row.day), toNumber(row.action_count)]));
  return Array.from({ length: range.days }, (_, index) => ({
    dayMs: (first + index) * DAY_MS,
    count: counts.get(first + index) ?? 0,
  }));
}

function toMap(rows: readonly { id: number; value: number | null }[]): ReadonlyMap<number, number> {
  const known = rows.filter((row) => row.value !== null);
  return new Map(known.map((row) => [toNumber(row.id), toNumber(row.value)]));
}
