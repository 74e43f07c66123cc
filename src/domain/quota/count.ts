/**
 * Bytes of unique blobs per repository and namespace, moved in the transaction in which a manifest begins or ends to name a
 * blob, under the repository's lock. Why no count is ever wrong: NOTES.md. Source: quay-behaviour reference, section 9.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

type CountConfig = Pick<App["config"], "FEATURE_QUOTA_MANAGEMENT" | "QUOTA_INVALIDATE_TOTALS">;

/** `counted_through` of a repository whose every blob is counted: ids stay below. */
export const COUNTED_ALL = Number.MAX_SAFE_INTEGER;

/** Blobs in one statement. */
const PIECE = 2000;

/** What a change did to its namespace's bytes: to be settled as the last statement, for that row is everybody's. */
export interface UsageChange {
  readonly namespaceId: number;
  readonly generation: number;
  readonly bytes: number;
}

interface Counting {
  readonly namespaceId: number;
  readonly generation: number;
  /** Blobs with a higher id are counted by the backfill, later. */
  readonly countedThrough: number;
}

interface Sized {
  readonly id: number;
  readonly sizeBytes: number;
}

/**
 * A manifest is about to name these blobs in its repository, which is locked. `manifestId` when it is new. Gives undefined
 * when nothing is counted there now. Without FEATURE_QUOTA_MANAGEMENT the namespace's totals are dropped instead, as QUOTA_INVALIDATE_TOTALS says.
 */
export async function countNamed(
  config: CountConfig,
  tx: Tx,
  repository: { readonly id: number; readonly namespaceId: number },
  manifestId: number | undefined,
  blobs: readonly Sized[],
): Promise<UsageChange | undefined> {
  if (!config.FEATURE_QUOTA_MANAGEMENT) {
    await dropTotals(config, tx, repository.namespaceId);
    return undefined;
  }
  const counting = (await findCounting(tx, repository.id)) ?? (await beginCounting(tx, repository, manifestId));
  if (!counting) return undefined;
  let bytes = 0;
  for (const piece of pieces(blobs)) {
    const known = await findNamed(
      tx,
      repository.id,
      piece.map(({ id }) => id),
    );
    const added = piece.filter(({ id }) => id <= counting.countedThrough && !known.has(id));
    bytes += await addToRepository(tx, repository.id, counting, added);
  }
  return { namespaceId: counting.namespaceId, generation: counting.generation, bytes };
}

/** Manifests of the repository, which is locked, have ceased to name these blobs. Others may still name some of them. */
export async function uncountUnnamed(
  config: CountConfig,
  tx: Tx,
  repositoryId: number,
  blobIds: readonly number[],
): Promise<UsageChange | undefined> {
  if (blobIds.length === 0) return undefined;
  if (!config.FEATURE_QUOTA_MANAGEMENT) {
    await dropTotals(config, tx, await findNamespace(tx, repositoryId));
    return undefined;
  }
  const counting = await findCounting(tx, repositoryId);
  if (!counting) return undefined;
  let bytes = 0;
  for (const piece of pieces(blobIds.map((id) => ({ id })))) {
    const ids = piece.map(({ id }) => id);
    const named = await findNamed(tx, repositoryId, ids);
    const removed = await findSizes(
      tx,
      ids.filter((id) => id <= counting.countedThrough && !named.has(id)),
    );
    await moveRepository(tx, repositoryId, -sum(removed));
    bytes -= await letGo(tx, counting, removed);
  }
  return { namespaceId: counting.namespaceId, generation: counting.generation, bytes };
}

/** Moves the namespace's bytes. Gives what it uses now, undefined where nothing was counted. */
export async function settleUsage(tx: Tx, change: UsageChange | undefined): Promise<number | undefined> {
  if (!change) return undefined;
  const { namespaceId, generation, bytes } = change;
  const [row] =
    bytes === 0
      ? await tx.sql<{ size_bytes: number }>`/* quota.size */
          select size_bytes from namespace_usage where namespace_id = ${namespaceId} and generation = ${generation}`
      : await tx.sql<{ size_bytes: number }>`/* quota.move_namespace */
          update namespace_usage set size_bytes = size_bytes + ${bytes}
          where namespace_id = ${namespaceId} and generation = ${generation} returning size_bytes`;
  return row && toNumber(row.size_bytes);
}

/**
 * Adds up to 2,000 blobs that were not counted in the repository, whose lock is held, in the order of their ids. Gives the
 * bytes of those that are new to the namespace.
 */
export async function addToRepository(
  tx: Tx,
  repositoryId: number,
  { namespaceId, generation }: Omit<Counting, "countedThrough">,
  added: readonly Sized[],
): Promise<number> {
  if (added.length === 0) return 0;
  await moveRepository(tx, repositoryId, sum(added));
  const rows = await tx.sql<{ blob_id: number; repository_count: number }>`/* quota.count_blobs */
    insert into namespace_blob (namespace_id, blob_id, generation, repository_count)
    values ${tx.dialect.rows(added.map(({ id }) => [namespaceId, id, generation, 1]))}
    on conflict (namespace_id, blob_id) do update set
      repository_count = case when namespace_blob.generation = excluded.generation
                              then namespace_blob.repository_count + 1 else 1 end,
      generation = excluded.generation
    where namespace_blob.generation <= excluded.generation
    returning blob_id, repository_count`;
  const first = new Set(rows.filter((row) => toNumber(row.repository_count) === 1).map((row) => toNumber(row.blob_id)));
  return sum(added.filter(({ id }) => first.has(id)));
}

async function letGo(tx: Tx, { namespaceId, generation }: Counting, removed: readonly Sized[]): Promise<number> {
  if (removed.length === 0) return 0;
  const these = tx.sql`namespace_id = ${namespaceId} and generation = ${generation} and ${tx.dialect.inList(
    "blob_id",
    removed.map(({ id }) => id),
  )}`;
  await tx.sql`/* quota.lock_blobs */
    select blob_id from namespace_blob where ${these} order by blob_id ${tx.dialect.forUpdate}`;
  await tx.sql`/* quota.uncount_blobs */
    update namespace_blob set repository_count = repository_count - 1 where ${these}`;
  const gone = await tx.sql<{ blob_id: number }>`/* quota.forget_blobs */
    delete from namespace_blob where ${these} and repository_count <= 0 returning blob_id`;
  const ids = new Set(gone.map((row) => toNumber(row.blob_id)));
  return sum(removed.filter(({ id }) => ids.has(id)));
}

async function findCounting(tx: Tx, repositoryId: number): Promise<Counting | undefined> {
  const [row] = await tx.sql<{
    namespace_id: number;
    generation: number;
    counted_through: number;
  }>`/* quota.counting */
    select n.namespace_id, n.generation, u.counted_through
    from repository r
    join namespace_usage n on n.namespace_id = r.namespace_id
    join repository_usage u on u.repository_id = r.id and u.generation = n.generation
    where r.id = ${repositoryId} and n.backfill_state <> 'dropped'`;
  return (
    row && {
      namespaceId: toNumber(row.namespace_id),
      generation: toNumber(row.generation),
      countedThrough: toNumber(row.counted_through),
    }
  );
}

/** A repository is counted from its first manifest on; one that had some before waits for the backfill. */
async function beginCounting(
  tx: Tx,
  repository: { readonly id: number; readonly namespaceId: number },
  manifestId: number | undefined,
): Promise<Counting | undefined> {
  const { namespaceId } = repository;
  if (manifestId === undefined) return undefined;
  const others = await tx.sql`/* quota.other_manifest */
    select id from manifest where repository_id = ${repository.id} and id <> ${manifestId} limit 1`;
  if (others.length > 0) return undefined;
  await noteNamespace(tx, namespaceId);
  const [row] = await tx.sql<{ generation: number }>`/* quota.begin_repository */
    insert into repository_usage (repository_id, generation, counted_through, size_bytes)
    select cast(${repository.id} as bigint), generation, cast(${COUNTED_ALL} as bigint), 0 from namespace_usage
    where namespace_id = ${namespaceId} and backfill_state <> 'dropped'
    on conflict (repository_id) do update set
      generation = excluded.generation, counted_through = excluded.counted_through, size_bytes = 0
    returning generation`;
  return row && { namespaceId, generation: toNumber(row.generation), countedThrough: COUNTED_ALL };
}

/** A namespace that was never counted waits for the backfill from now on. */
export async function noteNamespace(tx: Tx, namespaceId: number): Promise<void> {
  await tx.sql`/* quota.note_namespace */
    insert into namespace_usage (namespace_id) values (${namespaceId}) on conflict do nothing`;
}

/** Nobody counts while the feature is off: what was counted before would be wrong when it is on again. */
async function dropTotals(config: CountConfig, tx: Tx, namespaceId: number | undefined): Promise<void> {
  if (!config.QUOTA_INVALIDATE_TOTALS || namespaceId === undefined) return;
  // Looked at first: a write would make all pushes to the namespace wait for one row.
  const counted = await tx.sql`/* quota.is_counted */
    select 1 as one from namespace_usage where namespace_id = ${namespaceId} and backfill_state <> 'dropped'`;
  if (counted.length > 0) await dropNamespace(tx, namespaceId);
}

/** From here on nothing that was counted in the namespace counts; the backfill counts it afresh. */
export async function dropNamespace(tx: Tx, namespaceId: number): Promise<void> {
  await tx.sql`/* quota.drop */
    update namespace_usage set generation = generation + 1, size_bytes = 0, backfill_state = 'dropped'
    where namespace_id = ${namespaceId} and backfill_state <> 'dropped'`;
}

async function findNamespace(tx: Tx, repositoryId: number): Promise<number | undefined> {
  const [row] = await tx.sql<{ namespace_id: number }>`/* quota.namespace */
    select namespace_id from repository where id = ${repositoryId}`;
  return row && toNumber(row.namespace_id);
}

/** Those of the blobs that a manifest of the repository names. */
async function findNamed(tx: Tx, repositoryId: number, blobIds: readonly number[]): Promise<ReadonlySet<number>> {
  const rows = await tx.sql<{ blob_id: number }>`/* quota.named */
    select distinct blob_id from manifest_blob
    where repository_id = ${repositoryId} and ${tx.dialect.inList("blob_id", blobIds)}`;
  return new Set(rows.map((row) => toNumber(row.blob_id)));
}

async function findSizes(tx: Tx, ids: readonly number[]): Promise<Sized[]> {
  if (ids.length === 0) return [];
  const rows = await tx.sql<{ id: number; size_bytes: number }>`/* quota.sizes */
    select id, size_bytes from blob where ${tx.dialect.inList("id", ids)}`;
  return rows.map((row) => ({ id: toNumber(row.id), sizeBytes: toNumber(row.size_bytes) }));
}

async function moveRepository(tx: Tx, repositoryId: number, bytes: number): Promise<void> {
  if (bytes === 0) return;
  await tx.sql`/* quota.move_repository */
    update repository_usage set size_bytes = size_bytes + ${bytes} where repository_id = ${repositoryId}`;
}

/** Bounded statements, in one order everywhere: two changes of a namespace wait for each other and never both. */
function* pieces<T extends { readonly id: number }>(blobs: readonly T[]): Generator<T[]> {
  const sorted = [...blobs].sort((a, b) => a.id - b.id);
  for (let at = 0; at < sorted.length; at += PIECE) yield sorted.slice(at, at + PIECE);
}

function sum(blobs: readonly Sized[]): number {
  return blobs.reduce((total, { sizeBytes }) => total + sizeBytes, 0);
}
