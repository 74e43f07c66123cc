/**
 * Blobs that no repository links: marked, deleted from every store, then forgotten. The mark is durable before the first
 * byte goes, and a push of the same digest waits for the end of it (`domain/blob/reserve.ts`). NOTES.md tells why nothing is
 * lost in between.
 */

import type { App } from "../../app.ts";
import type { Database, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { inLanes } from "../../lib/lanes.ts";
import { errorFields } from "../../observe/logger.ts";
import type { Digest } from "../../oci/digest.ts";
import { blobKey } from "../../storage/paths.ts";
import { NOWHERE } from "../blob/bad-copies.ts";
import { linksOf } from "./rules.ts";
import type { Tally } from "./tally.ts";

type GcApp = Pick<App, "db" | "storage" | "log">;

/** Blobs in one step. */
const BATCH = 100;
/** Deletions at once, in a store on another machine, and on the disk that pushes wait for as well. */
const LANES = { remote: 16, local: 2 } as const;
/** Who deletes has this long before another goes on with it, and renews it while a store is slow. */
const DELETE_LEASE_MS = 60_000;
const RENEW_MS = 15_000;
/** No deletion begins this long after the last renewal: another may have gone on, and a push have come since. */
const RELIABLE_MS = 30_000;
/** A blob whose bytes cannot be deleted now is tried again after this. */
const RETRY_MS = 10 * 60_000;
/** A copy to another store is under way: it sees that the blob is gone and clears away what it began. */
const COPY_WAIT_MS = 15_000;

interface Doomed {
  readonly id: number;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly locations: readonly string[];
}

/** Looks at up to 100 blobs that lost a link and deletes those without any. Gives how many were looked at. */
export async function collectBlobs(app: GcApp, tally: Tally): Promise<number> {
  const askedMs = performance.now();
  const { looked, doomed } = await mark(app.db);
  const isLocal = app.storage.locations.every((location) => app.storage.driver(location).isLocal);
  const deleted: Doomed[] = [];
  const left: Doomed[] = [];
  await keepingLease(app.db, doomed, askedMs, (isOurs) =>
    inLanes(doomed, isLocal ? LANES.local : LANES.remote, async (blob) => {
      if (isOurs()) ((await deleteBytes(app, blob)) ? deleted : left).push(blob);
    }),
  );
  // A crash before this costs one more deletion of what is not there.
  if (deleted.length > 0) await app.db.tx((tx) => forget(tx, deleted, tally), { durable: false });
  if (left.length > 0) await app.db.tx((tx) => postpone(tx, left, RETRY_MS), { durable: false });
  return looked;
}

/**
 * Runs `work` while the marks are renewed. A worker that stood still for longer than its lease must not go on deleting: the
 * bytes may be those of a later push.
 */
async function keepingLease(
  db: Database,
  blobs: readonly Doomed[],
  markedMs: number,
  work: (isOurs: () => boolean) => Promise<void>,
): Promise<void> {
  if (blobs.length === 0) return;
  let renewedMs = markedMs;
  const renew = async (): Promise<void> => {
    const askedMs = performance.now();
    if (askedMs - renewedMs > RELIABLE_MS) return;
    await db.tx((tx) => postpone(tx, blobs, DELETE_LEASE_MS), { durable: false });
    renewedMs = askedMs;
  };
  const timer = setInterval(() => void renew().catch(() => undefined), RENEW_MS);
  try {
    await work(() => performance.now() - renewedMs <= RELIABLE_MS);
  } finally {
    clearInterval(timer);
  }
}

async function mark(db: Database): Promise<{ looked: number; doomed: Doomed[] }> {
  const { nowMs, skipLocked, inList } = db.dialect;
  const [due] = await db.sql`/* gc.blob_look */
    select id from blob where lease_until_ms > 0 and lease_until_ms <= ${nowMs} limit 1`;
  if (!due) return { looked: 0, doomed: [] };
  return db.tx(async (tx) => {
    // Who is about to link one of these holds its row: it is left for the next time.
    const rows = await tx.sql<{ id: number; digest: string; size_bytes: number }>`/* gc.lock_blobs */
      select id, digest, size_bytes from blob where lease_until_ms > 0 and lease_until_ms <= ${nowMs}
      order by lease_until_ms, id limit ${BATCH} ${skipLocked}`;
    if (rows.length === 0) return { looked: 0, doomed: [] };
    const ids = rows.map((row) => toNumber(row.id));
    await tx.sql`/* gc.keep_blobs */
      update blob as b set lease_until_ms = 0
      where ${inList("id", ids)} and state = 'live' and exists (select 1 from ${linksOf(tx)})`;
    const marked = await tx.sql<{ id: number }>`/* gc.mark_blobs */
      update blob set state = 'deleting', lease_until_ms = ${nowMs} + ${DELETE_LEASE_MS}
      where ${inList("id", ids)} and lease_until_ms > 0 returning id`;
    const places = await findPlaces(
      tx,
      marked.map((row) => toNumber(row.id)),
    );
    const waiting = await postponeCopied(tx, [...places.keys()]);
    const doomed = rows.flatMap((row) => {
      const id = toNumber(row.id);
      const locations = places.get(id);
      if (!locations || waiting.has(id)) return [];
      return [{ id, digest: row.digest as Digest, sizeBytes: toNumber(row.size_bytes), locations }];
    });
    return { looked: rows.length, doomed };
  });
}

/** Where each of these blobs lies, by id; copies that are out of service have bytes too. */
async function findPlaces(tx: Tx, ids: readonly number[]): Promise<Map<number, string[]>> {
  const places = new Map<number, string[]>(ids.map((id) => [id, []]));
  const rows = await tx.sql<{ blob_id: number; location: string }>`/* gc.places */
    select blob_id, location from blob_placement where ${tx.dialect.inList("blob_id", ids)}
    union select blob_id, location from blob_bad_copy
    where ${tx.dialect.inList("blob_id", ids)} and location <> ${NOWHERE}`;
  for (const row of rows) places.get(toNumber(row.blob_id))?.push(row.location);
  return places;
}

/**
 * Those that a copy is under way of. They stay marked, so that the copy finds no blob to place, and are deleted from its
 * store as well when it has ended: it may put its bytes there at the last moment.
 */
async function postponeCopied(tx: Tx, ids: readonly number[]): Promise<Set<number>> {
  const rows = await tx.sql<{ blob_id: number }>`/* gc.copied */
    select distinct blob_id from blob_copy where ${tx.dialect.inList("blob_id", ids)}`;
  const copied = rows.map((row) => toNumber(row.blob_id));
  if (copied.length > 0) {
    await tx.sql`/* gc.places_of_copies */
      insert into blob_placement (blob_id, location)
      select blob_id, location from blob_copy where ${tx.dialect.inList("blob_id", copied)} on conflict do nothing`;
    await tx.sql`/* gc.await_copies */
      update blob set lease_until_ms = ${tx.dialect.nowMs} + ${COPY_WAIT_MS} where ${tx.dialect.inList("id", copied)}`;
  }
  return new Set(copied);
}

/** False when a store could not be told; one bad blob never stops the rest. */
async function deleteBytes({ storage, log }: GcApp, { digest, locations }: Doomed): Promise<boolean> {
  let isGone = true;
  for (const location of locations) {
    try {
      await storage.driver(location).delete(blobKey(digest));
    } catch (error) {
      isGone = false;
      log.warn("cannot delete a blob that nobody uses; it is tried again", { digest, location, ...errorFields(error) });
    }
  }
  return isGone;
}

async function forget(tx: Tx, blobs: readonly Doomed[], tally: Tally): Promise<void> {
  const ids = blobs.map(({ id }) => id);
  await tx.sql`/* gc.delete_places */ delete from blob_placement where ${tx.dialect.inList("blob_id", ids)}`;
  await tx.sql`/* gc.delete_bad_copies */ delete from blob_bad_copy where ${tx.dialect.inList("blob_id", ids)}`;
  const rows = await tx.sql`/* gc.delete_blobs */
    delete from blob where state = 'deleting' and ${tx.dialect.inList("id", ids)} returning id`;
  tally.rows("blob", rows.length);
  tally.blobs += rows.length;
  tally.bytes += blobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

async function postpone(tx: Tx, blobs: readonly Doomed[], forMs: number): Promise<void> {
  const ids = blobs.map(({ id }) => id);
  await tx.sql`/* gc.retry_blobs */
    update blob set lease_until_ms = ${tx.dialect.nowMs} + ${forMs}
    where state = 'deleting' and ${tx.dialect.inList("id", ids)}`;
}
