/** The SQL of copies under scrub: which there are, how one goes out of service, and how it comes back. */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { databaseNowMs } from "../../db/now.ts";
import { hastenJob } from "../../db/queue.ts";
import type { Digest } from "../../oci/digest.ts";
import { ANONYMOUS } from "../access/actor.ts";
import { logAction } from "../audit/audit.ts";
import { type BadKind, healCopy, NOWHERE } from "../blob/bad-copies.ts";
import { placementKey } from "../lookup/lookup.ts";
import { copyKey, queueCopy, REPLICATION_QUEUE } from "../replication/targets.ts";
import type { Copy } from "./read-copy.ts";

type CopiesApp = Pick<App, "db" | "storage">;

/** A copy that has a source is tried again after this, when its repair failed. */
export const RETRY_MS = 15 * 60_000;
/** How far neighbours are looked for: a store that has few of all blobs is not worth a walk through all of them. */
const NEAR_IDS = 50_000;

export interface KnownCopy extends Copy {
  /** Out of service already. */
  readonly isBad: boolean;
}

/** Blobs of a page, and what of them is to be looked at. */
export interface Page {
  readonly copies: readonly KnownCopy[];
  /** Blobs that some repository links, and no store is recorded to have. */
  readonly lost: readonly Omit<Copy, "location">[];
  /** The last blob looked at; undefined when there was none. */
  readonly lastBlobId: number | undefined;
}

/** The next blobs after `afterId` up to `lastId`, by id, `limit` at most, as far as they concern a location. */
export async function listPage(
  db: Db,
  location: string,
  range: { readonly afterId: number; readonly lastId: number; readonly limit: number },
): Promise<Page> {
  const rows = await db.sql<{
    id: number;
    digest: string;
    size_bytes: number;
    is_here: unknown;
    is_bad: unknown;
    is_lost: unknown;
  }>`/* scrub.page */
    select b.id, b.digest, b.size_bytes,
           exists (select 1 from blob_placement p where p.blob_id = b.id and p.location = ${location}) as is_here,
           exists (select 1 from blob_bad_copy c where c.blob_id = b.id and c.location = ${location}) as is_bad,
           not exists (select 1 from blob_placement p where p.blob_id = b.id)
             and not exists (select 1 from blob_bad_copy c where c.blob_id = b.id) as is_lost
    from (select id, digest, size_bytes from blob
          where id > ${range.afterId} and id <= ${range.lastId} and state = 'live' order by id limit ${range.limit}) b
    order by b.id`;
  const blobs = rows.map((row) => ({
    blobId: toNumber(row.id),
    digest: row.digest as Digest,
    sizeBytes: toNumber(row.size_bytes),
    isHere: toBoolean(row.is_here),
    isBad: toBoolean(row.is_bad),
    isLost: toBoolean(row.is_lost),
  }));
  return {
    copies: blobs
      .filter(({ isHere, isBad }) => isHere || isBad)
      .map(({ blobId, digest, sizeBytes, isBad }) => ({ blobId, digest, sizeBytes, location, isBad })),
    lost: blobs.filter(({ isLost }) => isLost),
    lastBlobId: blobs.at(-1)?.blobId,
  };
}

/** All copies of a blob that is kept, also those that are out of service; empty when there is no such blob. */
export async function listCopiesOf(db: Db, digest: Digest): Promise<KnownCopy[]> {
  const rows = await db.sql<{ id: number; size_bytes: number; location: string; is_bad: unknown }>`/* scrub.blob */
    select b.id, b.size_bytes, p.location, false as is_bad from blob b join blob_placement p on p.blob_id = b.id
    where b.digest = ${digest} and b.state = 'live'
    union all
    select b.id, b.size_bytes, c.location, true as is_bad from blob b join blob_bad_copy c on c.blob_id = b.id
    where b.digest = ${digest} and b.state = 'live'
    order by 3`;
  return rows.map((row) => ({
    blobId: toNumber(row.id),
    digest,
    sizeBytes: toNumber(row.size_bytes),
    location: row.location,
    isBad: toBoolean(row.is_bad),
  }));
}

/** Up to twice `limit` other blobs that should be in the same store, those with the nearest ids. */
export async function listNeighbours(db: Db, { blobId, location }: Copy, limit: number): Promise<Digest[]> {
  const rows = await db.sql<{ digest: string }>`/* scrub.neighbours */
    select b.digest from (
      select blob_id from (select blob_id from blob_placement
                           where blob_id < ${blobId} and blob_id > ${blobId - NEAR_IDS} and location = ${location} order by blob_id desc limit ${limit}) below
      union all
      select blob_id from (select blob_id from blob_placement
                           where blob_id > ${blobId} and blob_id < ${blobId + NEAR_IDS} and location = ${location} order by blob_id limit ${limit}) above
    ) near join blob b on b.id = near.blob_id where b.state = 'live'`;
  return rows.map((row) => row.digest as Digest);
}

/**
 * Takes a copy out of service: no placement any more, an entry in the action log, and a job that repairs it where another
 * store has the blob. False when the blob is gone, is being collected, or has no such copy in service.
 */
export async function takeOutOfService(
  app: CopiesApp,
  copy: Copy,
  bad: { readonly kind: BadKind; readonly found: string },
): Promise<boolean> {
  return app.db.tx(async (tx) => {
    if (!(await hold(tx, copy.blobId))) return false;
    const displaced = await tx.sql`/* scrub.displace */
      delete from blob_placement where blob_id = ${copy.blobId} and location = ${copy.location} returning blob_id`;
    if (displaced.length === 0) return false;
    tx.changed(placementKey(copy.digest));
    const sources = await listSources(tx, app, copy);
    await noteBad(tx, copy, copy.location, bad, sources.length > 0);
    if (sources.length > 0) await queueCopy(tx, copy.blobId, copy.location);
    return true;
  });
}

/** Notes that no store is recorded to have a blob that somebody links. False when that is known, or not so any more. */
export async function noteLost(app: CopiesApp, blob: Omit<Copy, "location">): Promise<boolean> {
  return app.db.tx(async (tx) => {
    if (!(await hold(tx, blob.blobId))) return false;
    const [needed] = await tx.sql`/* scrub.is_lost */
      select 1 as found from repository_blob l where l.blob_id = ${blob.blobId} and l.deleted_ms is null
        and not exists (select 1 from blob_placement p where p.blob_id = l.blob_id)
        and not exists (select 1 from blob_bad_copy c where c.blob_id = l.blob_id) limit 1`;
    if (!needed) return false;
    tx.changed(placementKey(blob.digest));
    await noteBad(tx, blob, NOWHERE, { kind: "lost", found: "" }, false);
    return true;
  });
}

/** Queues the repair of a copy that is out of service, to be tried now. False when no other store of this config has the blob. */
export async function queueRepair(app: CopiesApp, copy: Copy): Promise<boolean> {
  return app.db.tx(async (tx) => {
    if ((await listSources(tx, app, copy)).length === 0) return false;
    await queueCopy(tx, copy.blobId, copy.location);
    // One that failed a moment ago waits for minutes otherwise.
    await hastenJob(tx, REPLICATION_QUEUE, copyKey(copy.blobId, copy.location));
    return true;
  });
}

/** Puts a copy back whose bytes were found to be right. False when the blob or the note is gone. */
export async function putBack(app: CopiesApp, copy: Copy): Promise<boolean> {
  return app.db.tx(async (tx) => {
    if (!(await hold(tx, copy.blobId))) return false;
    if (!(await healCopy(tx, copy, "read", await databaseNowMs(tx)))) return false;
    await tx.sql`/* scrub.place */
      insert into blob_placement (blob_id, location) values (${copy.blobId}, ${copy.location}) on conflict do nothing`;
    tx.changed(placementKey(copy.digest));
    return true;
  });
}

export async function isInService(db: Db, { blobId, location }: Copy): Promise<boolean> {
  const rows = await db.sql`/* scrub.in_service */
    select blob_id from blob_placement where blob_id = ${blobId} and location = ${location}`;
  return rows.length > 0;
}

/** Takes up to `limit` copies of a location whose repair is due again; each is due once more later, unless it is repaired. */
export async function takeRetries(app: CopiesApp, location: string, limit: number): Promise<KnownCopy[]> {
  const { nowMs, inList } = app.db.dialect;
  const due = await app.db.sql<{ blob_id: number; digest: string; size_bytes: number }>`/* scrub.due_repairs */
    select c.blob_id, b.digest, b.size_bytes from blob_bad_copy c join blob b on b.id = c.blob_id
    where c.location = ${location} and c.retry_ms is not null and c.retry_ms <= ${nowMs} and b.state = 'live'
    order by c.retry_ms limit ${limit}`;
  if (due.length === 0) return [];
  const ids = due.map((row) => toNumber(row.blob_id));
  const taken = await app.db.tx(
    async (tx) =>
      await tx.sql<{ blob_id: number }>`/* scrub.take_repairs */
        update blob_bad_copy set retry_ms = ${nowMs} + ${RETRY_MS}
        where location = ${location} and retry_ms <= ${nowMs} and ${inList("blob_id", ids)} returning blob_id`,
  );
  const own = new Set(taken.map((row) => toNumber(row.blob_id)));
  return due
    .map((row) => ({
      blobId: toNumber(row.blob_id),
      digest: row.digest as Digest,
      sizeBytes: toNumber(row.size_bytes),
      location,
      isBad: true,
    }))
    .filter(({ blobId }) => own.has(blobId));
}

/** True when the blob is kept; nobody links, places or collects it until our end. */
async function hold(tx: Tx, blobId: number): Promise<boolean> {
  const rows = await tx.sql`/* scrub.hold */
    select id from blob where id = ${blobId} and state = 'live' ${tx.dialect.forUpdate}`;
  return rows.length > 0;
}

/** Other stores that this instance can read the blob from. */
async function listSources(tx: Tx, { storage }: CopiesApp, { blobId, location }: Copy): Promise<string[]> {
  const rows = await tx.sql<{ location: string }>`/* scrub.sources */
    select location from blob_placement where blob_id = ${blobId} and location <> ${location}`;
  return rows.map((row) => row.location).filter((name) => storage.locations.includes(name));
}

async function noteBad(
  tx: Tx,
  blob: Omit<Copy, "location">,
  location: string,
  { kind, found }: { readonly kind: BadKind; readonly found: string },
  hasSource: boolean,
): Promise<void> {
  const nowMs = await databaseNowMs(tx);
  await tx.sql`/* scrub.note */
    insert into blob_bad_copy (blob_id, location, kind, found, found_ms, retry_ms)
    values (${blob.blobId}, ${location}, ${kind}, ${found}, ${nowMs}, ${hasSource ? nowMs + RETRY_MS : null})
    on conflict (blob_id, location) do nothing`;
  await logAction(tx, {
    kind: "blob_copy_bad",
    caller: ANONYMOUS,
    namespaceId: undefined,
    request: { ip: undefined, userAgent: undefined },
    nowMs,
    metadata: { digest: blob.digest, location, kind, found, size: blob.sizeBytes },
  });
}
