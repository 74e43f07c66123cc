/**
 * What waits for collection, counted through the indexes that the collection itself goes by, and never further than a bound:
 * the answer costs the same in a small registry and in a large one.
 */

import type { Db, SqlQuery } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { JOB_ATTEMPTS } from "../../db/queue.ts";

/** Counts end here, and then say "and more". */
const COUNT_MAX = 10_000;

/** A count; with `isMore` there are more than it says. */
export interface BoundedCount {
  readonly count: number;
  readonly isMore: boolean;
}

export type WaitingKind =
  | "expiring_tags"
  | "ended_tags"
  | "manifests"
  | "links"
  | "blobs"
  | "repositories"
  | "namespaces"
  | "uploads";

export interface Waiting {
  readonly kind: WaitingKind;
  /** Everything that has an appointment, those that will turn out to be kept included. */
  readonly waiting: BoundedCount;
  /** Of these, due now. */
  readonly due: BoundedCount;
  /** When the first of them is, or has been, due; epoch ms, undefined: nothing waits. */
  readonly firstDueMs: number | undefined;
  /** Tried in vain and to be tried again, of the 10,000 oldest: the log says why. */
  readonly failing: number;
}

interface Source {
  readonly kind: WaitingKind;
  readonly waiting: SqlQuery<unknown>;
  readonly due: SqlQuery<unknown>;
  readonly first: SqlQuery<unknown>;
  readonly failing?: SqlQuery<unknown>;
}

/** What follows `from`, for each kind: each is a range of one index, in its order. */
export function sourcesOf({ sql, dialect }: Db): Source[] {
  const { nowMs } = dialect;
  const purge = (kind: "repositories" | "namespaces", queue: string): Source => {
    const jobs = sql`job where queue = ${queue} and lane = ''`;
    return {
      kind,
      waiting: sql`${jobs} order by due_ms`,
      due: sql`${jobs} and due_ms <= ${nowMs} order by due_ms`,
      first: sql`select min(due_ms) from ${jobs}`,
      failing: sql`(select attempts_left, lease_until_ms from ${jobs} order by created_ms limit ${COUNT_MAX}) oldest
        where attempts_left < ${JOB_ATTEMPTS} and coalesce(lease_until_ms, 0) <= ${nowMs}`,
    };
  };
  return [
    {
      kind: "expiring_tags",
      waiting: sql`tag where end_ms is null and expires_ms > 0 order by expires_ms`,
      due: sql`tag where end_ms is null and expires_ms > 0 and expires_ms <= ${nowMs} order by expires_ms`,
      first: sql`select min(expires_ms) from tag where end_ms is null and expires_ms > 0`,
    },
    {
      kind: "ended_tags",
      waiting: sql`tag where end_ms is not null and repository_id > 0 order by repository_id, end_ms`,
      due: sql`(select repository_id from gc_repository where due_ms <= ${nowMs} order by due_ms limit ${COUNT_MAX}) g
        join repository r on r.id = g.repository_id join account a on a.id = r.namespace_id
        join tag t on t.repository_id = g.repository_id and t.end_ms <= ${nowMs} - a.tag_expiration_s * 1000`,
      first: sql`select min(due_ms) from gc_repository`,
    },
    {
      kind: "manifests",
      waiting: sql`manifest where lease_until_ms > 0 order by lease_until_ms`,
      due: sql`manifest where lease_until_ms > 0 and lease_until_ms <= ${nowMs} order by lease_until_ms`,
      first: sql`select min(lease_until_ms) from manifest where lease_until_ms > 0`,
    },
    {
      kind: "links",
      waiting: sql`repository_blob where lease_until_ms > 0 order by lease_until_ms`,
      due: sql`repository_blob where lease_until_ms > 0 and lease_until_ms <= ${nowMs} order by lease_until_ms`,
      first: sql`select min(lease_until_ms) from repository_blob where lease_until_ms > 0`,
    },
    {
      kind: "blobs",
      waiting: sql`blob where lease_until_ms > 0 order by lease_until_ms`,
      due: sql`blob where lease_until_ms > 0 and lease_until_ms <= ${nowMs} order by lease_until_ms`,
      first: sql`select min(lease_until_ms) from blob where lease_until_ms > 0`,
    },
    purge("repositories", "repositorygc"),
    purge("namespaces", "namespacegc"),
    {
      kind: "uploads",
      waiting: sql`upload_session order by expires_ms`,
      due: sql`upload_session where expires_ms <= ${nowMs} order by expires_ms`,
      first: sql`select min(expires_ms) from upload_session`,
    },
  ];
}

/** Some thirty looks into indexes of at most 10,000 entries each. */
export async function findWaiting(db: Db): Promise<Waiting[]> {
  const found: Waiting[] = [];
  for (const source of sourcesOf(db)) {
    const [row] = await db.sql<{ first_ms: number | null }>`/* gc_status.first */ select (${source.first}) as first_ms`;
    found.push({
      kind: source.kind,
      waiting: await countUpTo(db, source.waiting),
      due: await countUpTo(db, source.due),
      firstDueMs: row?.first_ms == null ? undefined : toNumber(row.first_ms),
      failing: source.failing ? (await countUpTo(db, source.failing)).count : 0,
    });
  }
  return found;
}

async function countUpTo(db: Db, from: SqlQuery<unknown>): Promise<BoundedCount> {
  const [row] = await db.sql<{ n: unknown }>`/* gc_status.count */
    select count(*) as n from (select 1 as one from ${from} limit ${COUNT_MAX + 1}) found`;
  const count = toNumber(row?.n ?? 0);
  return { count: Math.min(count, COUNT_MAX), isMore: count > COUNT_MAX };
}
