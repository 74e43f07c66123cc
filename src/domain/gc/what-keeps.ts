/**
 * What keeps manifests and links of blobs, read for many at once with the rules of the collection. What follows from it is
 * in `horizon.ts`.
 */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { linksOf, namersOf, parentsOf, restorableUntilMs, subjectOf, tagsOf } from "./rules.ts";

/** Rows read by one statement. What has more of them is kept, as far as can be told. */
const ROWS_MAX = 5000;
/** Of a lifetime without end. */
const NEVER = Number.POSITIVE_INFINITY;

/** A lifetime of a tag. Times are epoch ms. */
export interface TagKeeper {
  readonly name: string;
  /** Undefined: it lives. */
  readonly endMs: number | undefined;
  readonly expiresMs: number | undefined;
  /** When nobody can restore it any more, Infinity while it lives and does not expire. */
  readonly untilMs: number;
}

export interface ManifestKeepers {
  readonly id: number;
  readonly repositoryId: number;
  readonly digest: string;
  /** Protected until then, and then looked at; undefined: it was looked at and is kept by what follows. */
  readonly leaseMs: number | undefined;
  /** A client deleted it, and until then it can be restored. */
  readonly restorableMs: number | undefined;
  readonly tags: readonly TagKeeper[];
  readonly parentIds: readonly number[];
  readonly subjectId: number | undefined;
  readonly purge: Purge | undefined;
  /** More keeps it than was read. */
  readonly isCut: boolean;
}

/** A blob in a repository. */
export interface LinkKeepers {
  readonly repositoryId: number;
  readonly blobId: number;
  /** 0: it was looked at and is kept by the manifests that name it. */
  readonly leaseMs: number;
  readonly namerIds: readonly number[];
  readonly purge: Purge | undefined;
  readonly isCut: boolean;
}

/** The repository was deleted, and what it held goes with it. */
export interface Purge {
  /** When; Infinity: the job was given up. */
  readonly atMs: number;
  /** It can be restored until then. So long single things are collected from it as before. */
  readonly isRestorable: boolean;
}

/** When tags leave the time machine: one that lives and expires does so after its end. */
export function tagKeeper(
  row: { name: string; start_ms: number; end_ms: number | null; expires_ms: number | null },
  windowSeconds: number,
): TagKeeper {
  const expiresMs = row.expires_ms === null ? undefined : toNumber(row.expires_ms);
  const endMs = row.end_ms === null ? undefined : toNumber(row.end_ms);
  const overMs = endMs ?? (expiresMs === undefined ? undefined : Math.max(expiresMs, toNumber(row.start_ms)));
  const untilMs = overMs === undefined ? NEVER : restorableUntilMs(overMs, windowSeconds);
  return { name: row.name, endMs, expiresMs, untilMs };
}

interface ManifestRow {
  id: number;
  repository_id: number;
  digest: string;
  lease_until_ms: number | null;
  deleted_ms: number | null;
  window_s: number;
  subject_id: number | null;
  namespace_id: number;
  deleted: number;
  restorable: number;
}

/** What keeps these manifests, by id; those that are gone are left out. A bounded list; at most 5,000 tags and parents. */
export async function findManifestKeepers(db: Db, ids: readonly number[]): Promise<Map<number, ManifestKeepers>> {
  const { sql } = db;
  const these = db.dialect.inList("m.id", ids);
  const rows = await sql<ManifestRow>`/* gc_explain.manifests */
    select m.id, m.repository_id, m.digest, m.lease_until_ms, m.deleted_ms, a.tag_expiration_s as window_s,
           (select s.id from ${subjectOf(db)}) as subject_id, r.namespace_id, ${deletion(db)}
    from manifest m join repository r on r.id = m.repository_id join account a on a.id = r.namespace_id
    where ${these}`;
  const tags = await sql<Parameters<typeof tagKeeper>[0] & { manifest_id: number }>`/* gc_explain.tags */
    select t.manifest_id, t.name, t.start_ms, t.end_ms, t.expires_ms from manifest m, ${tagsOf(db)} and ${these}
    limit ${ROWS_MAX}`;
  const parents = await sql<{ child_id: number; parent_id: number }>`/* gc_explain.parents */
    select c.child_id, c.manifest_id as parent_id from manifest m, ${parentsOf(db)} and ${these} limit ${ROWS_MAX}`;
  const tagsBy = Map.groupBy(tags, (row) => toNumber(row.manifest_id));
  const parentsBy = Map.groupBy(parents, (row) => toNumber(row.child_id));
  const purges = await findPurges(db, rows);
  const isCut = tags.length === ROWS_MAX || parents.length === ROWS_MAX;
  return new Map(
    rows.map((row) => {
      const id = toNumber(row.id);
      const windowS = toNumber(row.window_s);
      const keepers: ManifestKeepers = {
        id,
        repositoryId: toNumber(row.repository_id),
        digest: row.digest,
        leaseMs: row.lease_until_ms === null ? undefined : toNumber(row.lease_until_ms),
        restorableMs: row.deleted_ms === null ? undefined : restorableUntilMs(toNumber(row.deleted_ms), windowS),
        tags: (tagsBy.get(id) ?? []).map((tag) => tagKeeper(tag, windowS)),
        parentIds: [...new Set((parentsBy.get(id) ?? []).map((parent) => toNumber(parent.parent_id)))],
        subjectId: row.subject_id === null ? undefined : toNumber(row.subject_id),
        purge: purges.get(toNumber(row.repository_id)),
        isCut,
      };
      return [id, keepers];
    }),
  );
}

/** Links of these blobs with the manifests that name them; at most 5,000 of each. */
export async function findLinkKeepers(db: Db, blobIds: readonly number[]): Promise<LinkKeepers[]> {
  const these = db.dialect.inList("b.id", blobIds);
  const rows = await db.sql<{
    repository_id: number;
    blob_id: number;
    lease_until_ms: number;
    namespace_id: number;
    deleted: number;
    restorable: number;
  }>`/* gc_explain.links */
    select l.repository_id, l.blob_id, l.lease_until_ms, r.namespace_id, ${deletion(db)}
    from blob b, repository r, ${linksOf(db)} and r.id = l.repository_id and ${these} limit ${ROWS_MAX}`;
  const namers = await db.sql<{ repository_id: number; blob_id: number; manifest_id: number }>`/* gc_explain.namers */
    select n.repository_id, n.blob_id, n.manifest_id
    from repository_blob l, ${namersOf(db)} and ${db.dialect.inList("l.blob_id", blobIds)} limit ${ROWS_MAX}`;
  const keyOf = (row: { repository_id: number; blob_id: number }) => `${row.repository_id} ${row.blob_id}`;
  const namersBy = Map.groupBy(namers, keyOf);
  const purges = await findPurges(db, rows);
  const isCut = rows.length === ROWS_MAX || namers.length === ROWS_MAX;
  return rows.map((row) => ({
    repositoryId: toNumber(row.repository_id),
    blobId: toNumber(row.blob_id),
    leaseMs: toNumber(row.lease_until_ms),
    namerIds: (namersBy.get(keyOf(row)) ?? []).map((namer) => toNumber(namer.manifest_id)),
    purge: purges.get(toNumber(row.repository_id)),
    isCut,
  }));
}

/** Of a repository `r`: numbers, since booleans are none on SQLite. */
function deletion({ sql }: Db) {
  return sql`case when r.deleted_ms is not null then 1 else 0 end as deleted,
    case when r.restore_state is not null then 1 else 0 end as restorable`;
}

/** When deleted repositories go, by id: with their own job or their namespace's, whichever is first. */
async function findPurges(
  db: Db,
  rows: readonly { repository_id: number; namespace_id: number; deleted: number; restorable: number }[],
): Promise<Map<number, Purge>> {
  const deleted = rows.filter((row) => toNumber(row.deleted) === 1);
  if (deleted.length === 0) return new Map();
  const repositories = await findPurgeTimes(db, "repositorygc", new Set(deleted.map((row) => row.repository_id)));
  const namespaces = await findPurgeTimes(db, "namespacegc", new Set(deleted.map((row) => row.namespace_id)));
  return new Map(
    deleted.map((row) => {
      const times = [repositories.get(toNumber(row.repository_id)), namespaces.get(toNumber(row.namespace_id))];
      const purge = {
        atMs: Math.min(...times.map((time) => time ?? NEVER)),
        isRestorable: toNumber(row.restorable) === 1,
      };
      return [toNumber(row.repository_id), purge];
    }),
  );
}

/** Due times of the jobs that remove these, by id. One that runs now is due; one that was given up is left out. */
export async function findPurgeTimes(
  db: Db,
  queue: "repositorygc" | "namespacegc",
  ids: ReadonlySet<number>,
): Promise<Map<number, number>> {
  const { nowMs, inList } = db.dialect;
  const rows = await db.sql<{ key: string; due_ms: number; runs: number }>`/* gc_explain.purges */
    select dedupe_key as key, due_ms, case when lease_until_ms > ${nowMs} then 1 else 0 end as runs
    from job where queue = ${queue} and ${inList("dedupe_key", [...ids].map(String))}
      and (attempts_left > 0 or lease_until_ms > ${nowMs})`;
  return new Map(rows.map((row) => [Number(row.key), toNumber(row.runs) === 1 ? 0 : toNumber(row.due_ms)]));
}
