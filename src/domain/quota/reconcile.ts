/**
 * Every night all totals are counted afresh beside the kept ones, without a lock: each statement sees one moment, in which
 * both must agree. A namespace where they do not is reported, and counted again by the backfill.
 */

import type { App } from "../../app.ts";
import type { Database, Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { errorFields } from "../../observe/logger.ts";
import { dropNamespace } from "./count.ts";
import type { QuotaTally } from "./tally.ts";

type ReconcileApp = Pick<App, "db" | "log">;

/** Blobs of a namespace in one statement. */
const BLOBS = 500;
/** Namespaces read at once. */
const NAMESPACES = 100;

/** What is wrong, in the words of the log. */
interface Drift {
  readonly of: "repository" | "blobs of repository" | "blob" | "namespace";
  readonly id: number;
  readonly kept: number;
  readonly counted: number;
}

/** Compares every namespace whose totals are complete. Throws when the database does not answer. */
export async function reconcile(app: ReconcileApp, tally: QuotaTally, signal: AbortSignal): Promise<void> {
  for (let afterId = 0; ; ) {
    const rows = await app.db.sql<{ namespace_id: number }>`/* quota.complete */
      select namespace_id from namespace_usage where namespace_id > ${afterId} and backfill_state = 'complete'
      order by namespace_id limit ${NAMESPACES}`;
    for (const row of rows) {
      signal.throwIfAborted();
      afterId = toNumber(row.namespace_id);
      await compare(app, afterId, tally, signal);
    }
    if (rows.length === 0) return;
  }
}

async function compare(
  { db, log }: ReconcileApp,
  namespaceId: number,
  tally: QuotaTally,
  signal: AbortSignal,
): Promise<void> {
  let drift: Drift | undefined;
  try {
    drift = await findDrift(db, namespaceId, signal);
  } catch (error) {
    if (signal.aborted) throw error;
    log.error("cannot compare what a namespace uses with what was counted", { namespaceId, ...errorFields(error) });
    return;
  }
  tally.compared++;
  if (!drift) return;
  tally.drifted++;
  log.error("the bytes that were counted for a namespace are wrong; they are counted again", {
    namespaceId,
    wrong: `${drift.of} ${drift.id}`,
    kept: drift.kept,
    counted: drift.counted,
  });
  await db.tx((tx) => dropNamespace(tx, namespaceId));
}

/** The first thing that does not agree, undefined when everything does. */
export async function findDrift(db: Database, namespaceId: number, signal: AbortSignal): Promise<Drift | undefined> {
  for (let afterId = 0; ; ) {
    signal.throwIfAborted();
    const found = await compareRepository(db, namespaceId, afterId);
    if (!found) break;
    if (found.kept !== found.counted) return found;
    afterId = found.id;
  }
  for (let afterId = 0; ; ) {
    signal.throwIfAborted();
    const { lastId, wrong } = await compareBlobs(db, namespaceId, afterId);
    if (wrong) return wrong;
    if (lastId === undefined) break;
    afterId = lastId;
  }
  const total = await compareTotal(db, namespaceId);
  return total && total.kept !== total.counted ? total : undefined;
}

/** The next repository. One that nobody counted is wrong in a namespace that is complete, unless it holds nothing. */
async function compareRepository(db: Db, namespaceId: number, afterId: number): Promise<Drift | undefined> {
  const [row] = await db.sql<{
    id: number;
    kept: number | null;
    counted: number;
    missing: number;
  }>`/* quota.compare_repository */
    select r.id, u.size_bytes as kept,
           (select count(*) from (select distinct m.blob_id from manifest_blob m where m.repository_id = r.id) named
            where not exists (select 1 from namespace_blob k where k.namespace_id = r.namespace_id
                                and k.blob_id = named.blob_id and k.generation = n.generation)) as missing,
           (select cast(coalesce(sum(b.size_bytes), 0) as bigint) from blob b
            where b.id in (select m.blob_id from manifest_blob m where m.repository_id = r.id)) as counted
    from repository r
    join namespace_usage n on n.namespace_id = r.namespace_id and n.backfill_state = 'complete'
    left join repository_usage u on u.repository_id = r.id and u.generation = n.generation
    where r.namespace_id = ${namespaceId} and r.id > ${afterId} order by r.id limit 1`;
  if (!row) return undefined;
  const missing = toNumber(row.missing);
  if (missing > 0) return { of: "blobs of repository", id: toNumber(row.id), kept: 0, counted: missing };
  return { of: "repository", id: toNumber(row.id), kept: toNumber(row.kept ?? 0), counted: toNumber(row.counted) };
}

/** In how many repositories the next blobs are named. */
async function compareBlobs(
  db: Db,
  namespaceId: number,
  afterId: number,
): Promise<{ lastId: number | undefined; wrong: Drift | undefined }> {
  const rows = await db.sql<{ blob_id: number; repository_count: number; counted: number }>`/* quota.compare_blobs */
    select k.blob_id, k.repository_count,
           (select count(*) from repository_blob l join repository r on r.id = l.repository_id
            where l.blob_id = k.blob_id and r.namespace_id = ${namespaceId}
              and exists (select 1 from manifest_blob m
                          where m.repository_id = l.repository_id and m.blob_id = l.blob_id)) as counted
    from namespace_blob k
    join namespace_usage n on n.namespace_id = k.namespace_id and n.generation = k.generation
      and n.backfill_state = 'complete'
    where k.namespace_id = ${namespaceId} and k.blob_id > ${afterId} order by k.blob_id limit ${BLOBS}`;
  const drifts = rows.map(
    (row): Drift => ({
      of: "blob",
      id: toNumber(row.blob_id),
      kept: toNumber(row.repository_count),
      counted: toNumber(row.counted),
    }),
  );
  return { lastId: drifts.at(-1)?.id, wrong: drifts.find(({ kept, counted }) => kept !== counted) };
}

/** The total from what is named, not from the counts of blobs: a blob without a count would be missing in both. */
async function compareTotal(db: Db, namespaceId: number): Promise<Drift | undefined> {
  const [row] = await db.sql<{ kept: number; counted: number }>`/* quota.compare_total */
    select n.size_bytes as kept,
           (select cast(coalesce(sum(b.size_bytes), 0) as bigint) from blob b
            where b.id in (select m.blob_id from repository r join manifest_blob m on m.repository_id = r.id
                           where r.namespace_id = ${namespaceId})) as counted
    from namespace_usage n where n.namespace_id = ${namespaceId} and n.backfill_state = 'complete'`;
  return row && { of: "namespace", id: namespaceId, kept: toNumber(row.kept), counted: toNumber(row.counted) };
}
