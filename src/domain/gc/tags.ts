/** Lifetimes of tags: those whose time is over end, and those that have left the time machine go. */

import type { Database, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { referenceKey } from "../lookup/lookup.ts";
import { REPEATED } from "./batches.ts";
import { noteEndedTag, noteManifests } from "./due.ts";
import { isBeyondWindow } from "./rules.ts";
import type { Tally } from "./tally.ts";

/** Lifetimes in one transaction: it holds up pushes to the repository for some milliseconds. */
const BATCH = 200;

/** Ends up to 200 lifetimes that have expired. Gives how many. */
export async function endExpiredTags(db: Database): Promise<number> {
  const { nowMs, skipLocked, inList } = db.dialect;
  // Looking costs no write lock, and most looks find nothing.
  const [due] = await db.sql`/* gc.expired_look */
    select id from tag where expires_ms is not null and end_ms is null and expires_ms <= ${nowMs} limit 1`;
  if (!due) return 0;
  return db.tx(async (tx) => {
    // Apart from the update: in one with it PostgreSQL may ask anew for each row, and the limit would hold for none.
    const expired = await tx.sql<{ id: number; repository_id: number }>`/* gc.expired */
      select id, repository_id from tag where expires_ms is not null and end_ms is null and expires_ms <= ${nowMs}
      order by expires_ms limit ${BATCH}`;
    // Their repositories before them, as a push does: it would wait for a tag of ours, and we for its repository.
    const locked = await tx.sql<{ id: number }>`/* gc.lock_expired */
      select id from repository where ${inList(
        "id",
        expired.map((row) => toNumber(row.repository_id)),
      )} order by id ${skipLocked}`;
    const repositoryIds = new Set(locked.map((row) => toNumber(row.id)));
    const ids = expired.filter((row) => repositoryIds.has(toNumber(row.repository_id))).map((row) => toNumber(row.id));
    const rows = await tx.sql<{ repository_id: number; name: string; end_ms: number }>`/* gc.end_expired */
      update tag set end_ms = case when expires_ms < start_ms then start_ms else expires_ms end
      where ${inList("id", ids)} and end_ms is null and expires_ms <= ${nowMs} returning repository_id, name, end_ms`;
    const earliest = new Map<number, number>();
    for (const row of rows) {
      const repositoryId = toNumber(row.repository_id);
      earliest.set(
        repositoryId,
        Math.min(toNumber(row.end_ms), earliest.get(repositoryId) ?? Number.POSITIVE_INFINITY),
      );
      tx.changed(referenceKey(repositoryId, row.name));
    }
    for (const [repositoryId, endMs] of [...earliest].sort(([a], [b]) => a - b)) {
      await noteEndedTag(tx, repositoryId, endMs);
    }
    return rows.length;
  }, REPEATED);
}

interface DueRepository {
  repository_id: number;
  window_s: number;
}

/**
 * Removes up to 200 lifetimes of one repository that nobody can restore any more. Gives true when there may be more to do,
 * here or in another repository.
 */
export async function removeEndedTags(db: Database, tally: Tally): Promise<boolean> {
  const [due] = await db.sql<{ repository_id: number }>`/* gc.repository_look */
    select repository_id from gc_repository where due_ms <= ${db.dialect.nowMs} order by due_ms limit 1`;
  if (!due) return false;
  return db.tx(async (tx) => {
    const { nowMs, skipLocked } = tx.dialect;
    const [repository] = await tx.sql<{ id: number; namespace_id: number; purged: unknown }>`/* gc.lock */
      select id, namespace_id, deleted_ms is not null and restore_state is null as purged from repository where id in (
        select repository_id from gc_repository where due_ms <= ${nowMs} order by due_ms limit 20)
      order by id limit 1 ${skipLocked}`;
    if (!repository) return false;
    const id = toNumber(repository.id);
    // Whoever ends a tag meanwhile notes it here: after us, or else we leave it for later and see what was noted.
    const held = await tx.sql`/* gc.hold_due */
      select repository_id from gc_repository where repository_id = ${id} ${skipLocked}`;
    if (held.length === 0) return false;
    // What a repository held that nobody can restore any more goes with it.
    if (toBoolean(repository.purged)) {
      await forget(tx, id);
      return true;
    }
    const [namespace] = await tx.sql<Pick<DueRepository, "window_s">>`/* gc.window */
      select tag_expiration_s as window_s from account where id = ${repository.namespace_id}`;
    const windowMs = toNumber(namespace?.window_s ?? 0) * 1000;
    const ended = await tx.sql<{ id: number; name: string; manifest_id: number }>`/* gc.ended_tags */
      select id, name, manifest_id from tag
      where repository_id = ${id} and ${isBeyondWindow(tx, windowMs)}
      order by end_ms limit ${BATCH}`;
    if (ended.length > 0) await remove(tx, id, ended, tally);
    await next(tx, id, windowMs);
    return true;
  }, REPEATED);
}

async function remove(
  tx: Tx,
  repositoryId: number,
  ended: readonly { id: number; name: string; manifest_id: number }[],
  tally: Tally,
): Promise<void> {
  const { inList } = tx.dialect;
  await tx.sql`/* gc.delete_tags */
    delete from tag where ${inList(
      "id",
      ended.map((row) => toNumber(row.id)),
    )}`;
  tally.rows("tag", ended.length);
  // A name that has no lifetime left has no pulls to tell of either.
  await tx.sql`/* gc.delete_tag_pulls */
    delete from tag_pull
    where repository_id = ${repositoryId} and ${inList("tag_name", [...new Set(ended.map(({ name }) => name))])}
      and not exists (select 1 from tag t where t.repository_id = ${repositoryId} and t.name = tag_pull.tag_name)`;
  await noteManifests(tx, [...new Set(ended.map((row) => toNumber(row.manifest_id)))]);
}

/** When the repository is due again. */
async function next(tx: Tx, repositoryId: number, windowMs: number): Promise<void> {
  const [row] = await tx.sql<{ end_ms: number | null }>`/* gc.next_tag */
    select min(end_ms) as end_ms from tag where repository_id = ${repositoryId} and end_ms is not null`;
  if (row?.end_ms == null) return forget(tx, repositoryId);
  await tx.sql`/* gc.postpone */
    update gc_repository set due_ms = ${toNumber(row.end_ms) + windowMs} where repository_id = ${repositoryId}`;
}

async function forget(tx: Tx, repositoryId: number): Promise<void> {
  await tx.sql`/* gc.forget */ delete from gc_repository where repository_id = ${repositoryId}`;
}
