/** The SQL of tags: lifetimes begin and end, nothing is overwritten. */

import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import type { TagName } from "../../oci/reference.ts";
import { notePrunable } from "../autoprune/due.ts";
import { noteEndedTag } from "../gc/due.ts";

export interface CurrentTag {
  readonly id: number;
  readonly manifestId: number;
  readonly startMs: number;
  readonly expiresMs: number | undefined;
  /** The tag's own flag; policies may make it immutable as well. */
  readonly immutable: boolean;
  /** An admin exempted this lifetime from the policies. */
  readonly immutabilityLifted: boolean;
}

interface TagRow {
  id: number;
  manifest_id: number;
  start_ms: number;
  expires_ms: number | null;
  immutable: unknown;
  immutability_lifted: unknown;
}

/** The tag's current lifetime, also when it has expired and nobody has ended it yet; locked inside a transaction. */
export async function findCurrentTag(db: Db, repositoryId: number, name: TagName): Promise<CurrentTag | undefined> {
  const lock = "isTransaction" in db ? db.dialect.forUpdate : db.sql``;
  const [row] = await db.sql<TagRow>`/* tag.current */
    select id, manifest_id, start_ms, expires_ms, immutable, immutability_lifted from tag
    where repository_id = ${repositoryId} and name = ${name} and end_ms is null ${lock}`;
  return row && decodeTag(row);
}

/** True when the tag had a lifetime before: a pull then says that it has expired, not that it is unknown. */
export async function hadTag(db: Db, repositoryId: number, name: TagName): Promise<boolean> {
  // "<> true", because with "= false" SQLite walks all of the repository in the index of the newest.
  const rows = await db.sql`/* tag.had */
    select 1 as one from tag where repository_id = ${repositoryId} and name = ${name} and hidden <> true limit 1`;
  return rows.length > 0;
}

/**
 * Ends a lifetime. One that had expired already ended then, and none ends before it began: the instance that began it may
 * have a clock ahead of ours.
 */
export async function endTag(tx: Tx, tag: CurrentTag, nowMs: number): Promise<void> {
  const endMs = Math.max(tag.startMs, Math.min(nowMs, tag.expiresMs ?? nowMs));
  const rows = await tx.sql<{ repository_id: number }>`/* tag.end */
    update tag set end_ms = ${endMs} where id = ${tag.id} and end_ms is null returning repository_id`;
  for (const row of rows) await noteEndedTag(tx, toNumber(row.repository_id), endMs);
}

export interface NewTag {
  repositoryId: number;
  name: TagName;
  manifestId: number;
  startMs: number;
  expiresMs: number | undefined;
  reversion: boolean;
  immutable: boolean;
  immutabilityLifted: boolean;
}

/**
 * Begins a lifetime. The caller has ended the one before; should its end lie ahead, by another instance's clock, the new one
 * begins then, so that the newest is always the last.
 */
export async function insertTag(tx: Tx, tag: NewTag): Promise<CurrentTag> {
  const [row] = await tx.sql<TagRow>`/* tag.insert */
    insert into tag (repository_id, name, manifest_id, start_ms, expires_ms, reversion, immutable, immutability_lifted)
    select ${tag.repositoryId}, ${tag.name}, ${tag.manifestId},
           case when last.end_ms > ${tag.startMs} then last.end_ms else ${tag.startMs} end, ${tag.expiresMs ?? null},
           ${tag.reversion}, ${tag.immutable}, ${tag.immutabilityLifted}
    from (select 1 as one) one left join (
      select end_ms from tag where repository_id = ${tag.repositoryId} and name = ${tag.name}
      order by start_ms desc limit 1) last on true
    returning id, manifest_id, start_ms, expires_ms, immutable, immutability_lifted`;
  if (!row) throw new Error("insert into tag returned no row");
  await notePrunable(tx, tag.repositoryId);
  return decodeTag(row);
}

/** Sets or clears the planned end of a current lifetime. */
export async function setTagExpiry(tx: Tx, tag: CurrentTag, expiresMs: number | undefined): Promise<void> {
  await tx.sql`/* tag.set_expiry */ update tag set expires_ms = ${expiresMs ?? null} where id = ${tag.id}`;
}

export async function setTagProtection(
  tx: Tx,
  tag: CurrentTag,
  protection: { immutable: boolean; immutabilityLifted: boolean },
): Promise<void> {
  await tx.sql`/* tag.set_protection */
    update tag set immutable = ${protection.immutable}, immutability_lifted = ${protection.immutabilityLifted}
    where id = ${tag.id}`;
}

/** Living, visible tags after `last` in byte order, at most `limit`. */
export async function listTagNames(
  db: Db,
  repositoryId: number,
  page: { last: string; limit: number; nowMs: number },
): Promise<string[]> {
  const rows = await db.sql<{ name: string }>`/* tag.list */
    select name from tag
    where repository_id = ${repositoryId} and end_ms is null and name > ${page.last} and hidden = false
      and (expires_ms is null or expires_ms > ${page.nowMs})
    order by name limit ${page.limit}`;
  return rows.map((row) => row.name);
}

/** Current tags of a manifest, hidden ones too. */
export async function listTagsOfManifest(db: Db, manifestId: number): Promise<{ name: TagName; tag: CurrentTag }[]> {
  const rows = await db.sql<TagRow & { name: string }>`/* tag.of_manifest */
    select id, name, manifest_id, start_ms, expires_ms, immutable, immutability_lifted from tag
    where manifest_id = ${manifestId} and end_ms is null`;
  return rows.map((row) => ({ name: row.name as TagName, tag: decodeTag(row) }));
}

/**
 * Current tags of the indexes that hold a manifest, at any depth, with the tag's name; hidden ones left out. A cross join,
 * because SQLite takes its order as given: from the few parents to their tags, and not from all tags of the registry.
 */
export async function listTagsOfParents(db: Db, manifestId: number): Promise<{ name: TagName; tag: CurrentTag }[]> {
  const rows = await db.sql<TagRow & { name: string }>`/* tag.of_parents */
    with recursive parents (id) as (
      select manifest_id from manifest_child where child_id = ${manifestId}
      union
      select c.manifest_id from manifest_child c join parents p on c.child_id = p.id
    )
    select t.id, t.name, t.manifest_id, t.start_ms, t.expires_ms, t.immutable, t.immutability_lifted
    from parents p cross join tag t
    where t.manifest_id = p.id and t.end_ms is null and t.hidden <> true`;
  return rows.map((row) => ({ name: row.name as TagName, tag: decodeTag(row) }));
}

function decodeTag(row: TagRow): CurrentTag {
  return {
    id: toNumber(row.id),
    manifestId: toNumber(row.manifest_id),
    startMs: toNumber(row.start_ms),
    expiresMs: row.expires_ms === null ? undefined : toNumber(row.expires_ms),
    immutable: toBoolean(row.immutable),
    immutabilityLifted: toBoolean(row.immutability_lifted),
  };
}
