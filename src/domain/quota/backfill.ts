/**
 * Counts namespaces whose totals nobody kept: those from before FEATURE_QUOTA_MANAGEMENT was on, and those whose totals were
 * dropped. Repository after repository, some hundred blobs in a transaction, beside pushes and from several workers at once.
 * NOTES.md tells why that is exact. Source: quay-behaviour reference, section 9.
 */

import type { App } from "../../app.ts";
import type { Database, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { errorFields } from "../../observe/logger.ts";
import { addToRepository, COUNTED_ALL, settleUsage } from "./count.ts";
import type { QuotaTally } from "./tally.ts";

type BackfillApp = Pick<App, "db" | "log">;

/** Blobs in one transaction, which holds up pushes to the repository and settles on the namespace's row. */
const BLOBS = 500;
/** Rows of earlier generations looked at in one statement. */
const OLD_ROWS = 1000;

/** Counts up to `batch` namespaces that are unfinished. Gives how many it finished; one that fails keeps no other waiting. */
export async function backfill(
  app: BackfillApp,
  batch: number,
  tally: QuotaTally,
  signal: AbortSignal,
): Promise<number> {
  const rows = await app.db.sql<{ namespace_id: number }>`/* quota.unfinished */
    select namespace_id from namespace_usage where backfill_state <> 'complete' order by namespace_id limit ${batch}`;
  let finished = 0;
  for (const row of rows) {
    const namespaceId = toNumber(row.namespace_id);
    try {
      if (await countNamespace(app.db, namespaceId, signal)) finished++;
    } catch (error) {
      if (signal.aborted) break;
      app.log.error("cannot count what a namespace uses; it is tried again", { namespaceId, ...errorFields(error) });
    }
  }
  tally.counted += finished;
  return finished;
}

/** False when its totals were dropped meanwhile or it is gone. */
async function countNamespace(db: Database, namespaceId: number, signal: AbortSignal): Promise<boolean> {
  const generation = await begin(db, namespaceId);
  if (generation === undefined) return false;
  for (let afterId = 0; ; ) {
    signal.throwIfAborted();
    const [row] = await db.sql<{ id: number }>`/* quota.uncounted_repository */
      select r.id from repository r
      left join repository_usage u on u.repository_id = r.id and u.generation = ${generation}
        and u.counted_through = ${COUNTED_ALL}
      where r.namespace_id = ${namespaceId} and r.id > ${afterId} and u.repository_id is null
      order by r.id limit 1`;
    if (!row) break;
    afterId = toNumber(row.id);
    while (await db.tx((tx) => countMore(tx, afterId, generation))) signal.throwIfAborted();
  }
  const isFinished = await db.tx(async (tx) => {
    const rows = await tx.sql`/* quota.finish */
      update namespace_usage set backfill_state = 'complete'
      where namespace_id = ${namespaceId} and generation = ${generation} and backfill_state = 'running'
      returning namespace_id`;
    return rows.length > 0;
  });
  await removeOld(db, namespaceId, generation, signal);
  return isFinished;
}

async function begin(db: Database, namespaceId: number): Promise<number | undefined> {
  return db.tx(async (tx) => {
    const [row] = await tx.sql<{ generation: number }>`/* quota.begin */
      update namespace_usage set backfill_state = 'running'
      where namespace_id = ${namespaceId} and backfill_state <> 'complete' returning generation`;
    return row && toNumber(row.generation);
  });
}

/** The next blobs of a repository. False when all are counted. */
async function countMore(tx: Tx, repositoryId: number, generation: number): Promise<boolean> {
  const [repository] = await tx.sql<{ namespace_id: number }>`/* quota.lock_repository */
    select namespace_id from repository where id = ${repositoryId} ${tx.dialect.forUpdate}`;
  if (!repository) return false;
  const namespaceId = toNumber(repository.namespace_id);
  const throughId = await countedThrough(tx, repositoryId, namespaceId, generation);
  if (throughId === undefined || throughId === COUNTED_ALL) return false;
  const rows = await tx.sql<{ blob_id: number; size_bytes: number }>`/* quota.next_blobs */
    select n.blob_id, b.size_bytes from (
      select distinct blob_id from manifest_blob where repository_id = ${repositoryId} and blob_id > ${throughId}
      order by blob_id limit ${BLOBS}) n
    join blob b on b.id = n.blob_id order by n.blob_id`;
  const blobs = rows.map((row) => ({ id: toNumber(row.blob_id), sizeBytes: toNumber(row.size_bytes) }));
  const bytes = await addToRepository(tx, repositoryId, { namespaceId, generation }, blobs);
  const isMore = blobs.length === BLOBS;
  await tx.sql`/* quota.counted_through */
    update repository_usage set counted_through = ${isMore ? (blobs.at(-1)?.id ?? 0) : COUNTED_ALL}
    where repository_id = ${repositoryId}`;
  await settleUsage(tx, { namespaceId, generation, bytes });
  return isMore;
}

/** Undefined when the generation is over. */
async function countedThrough(
  tx: Tx,
  repositoryId: number,
  namespaceId: number,
  generation: number,
): Promise<number | undefined> {
  const [row] = await tx.sql<{ counted_through: number | null }>`/* quota.progress */
    select u.counted_through from namespace_usage n
    left join repository_usage u on u.repository_id = ${repositoryId} and u.generation = n.generation
    where n.namespace_id = ${namespaceId} and n.generation = ${generation} and n.backfill_state <> 'dropped'`;
  if (!row) return undefined;
  if (row.counted_through !== null) return toNumber(row.counted_through);
  await tx.sql`/* quota.begin_count */
    insert into repository_usage (repository_id, generation, counted_through, size_bytes)
    values (${repositoryId}, ${generation}, 0, 0)
    on conflict (repository_id) do update set generation = excluded.generation, counted_through = 0, size_bytes = 0`;
  return 0;
}

/** Rows that earlier generations left. */
async function removeOld(db: Database, namespaceId: number, generation: number, signal: AbortSignal): Promise<void> {
  for (let afterId = 0; generation > 1; ) {
    signal.throwIfAborted();
    const [piece] = await db.sql<{ last: number | null }>`/* quota.old_rows */
      select max(blob_id) as last from (
        select blob_id from namespace_blob where namespace_id = ${namespaceId} and blob_id > ${afterId}
        order by blob_id limit ${OLD_ROWS}) piece`;
    if (piece?.last == null) return;
    const lastId = toNumber(piece.last);
    await db.tx(async (tx) => {
      await tx.sql`/* quota.remove_old */
        delete from namespace_blob
        where namespace_id = ${namespaceId} and blob_id > ${afterId} and blob_id <= ${lastId}
          and generation < ${generation}`;
    });
    afterId = lastId;
  }
}
