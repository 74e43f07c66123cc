/**
 * Blobs that no repository links: marked, deleted from every store, then forgotten. The mark is durable before the first
 * byte goes, and a push of the same digest waits for the end of it (`domain/blob/reserve.ts`). NOTES.md tells why nothing is
 * lost in between.
 */

import type { App } from "../../app.ts";
import type { Database, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { inLanes } from "../../lib/lanes.ts";
import { errorFields } from "../../observe/logger.ts";
import type { Digest } from "../../oci/digest.ts";
import { blobKey } from "../../storage/paths.ts";
import { NOWHERE } from "../blob/bad-copies.ts";
import { copyKey, REPLICATION_QUEUE } from "../replication/targets.ts";
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
/** Of a store that is away its own probes know sooner when it is back: until then nobody can push what is marked. */
const AWAY_MS = 15_000;
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
  const { looked, doomed, leaseMs } = await mark(app);
  if (doomed.length === 0) return looked;
  const isLocal = app.storage.locations.every((location) => app.storage.driver(location).isLocal);
  const deleted: Doomed[] = [];
  const left = { failed: [] as Doomed[], away: [] as Doomed[] };
  const hold = new Hold(app.db, doomed, { askedMs, leaseMs });
  try {
    await inLanes(doomed, isLocal ? LANES.local : LANES.remote, async (blob) => {
      const end = await deleteBytes(app, blob, hold);
      if (end !== "lost") (end === "gone" ? deleted : left[end]).push(blob);
    });
  } finally {
    await hold.end();
  }
  // A crash before this costs one more deletion of what is not there.
  if (deleted.length > 0) {
    await app.db.tx((tx) => forget(tx, deleted, hold.leaseMs, app.storage.locations, tally), { durable: false });
  }
  await postponeLeft(app.db, left.failed, hold.leaseMs, RETRY_MS);
  await postponeLeft(app.db, left.away, hold.leaseMs, AWAY_MS);
  return looked;
}

/**
 * The marks of one step, renewed while it lasts. A worker that stood still for longer than its lease must not go on deleting:
 * the bytes may be those of a later push. Nor may it end the marks, which are another's by then: a push that finds no row
 * would store bytes that this other one is about to delete. So whatever it does to them asks for the lease that it set.
 */
class Hold {
  readonly #db: Database;
  readonly #blobs: readonly Doomed[];
  readonly #timer: ReturnType<typeof setInterval>;
  #renewing: Promise<void> = Promise.resolve();
  #renewedMs: number;
  #leaseMs: number;

  constructor(db: Database, blobs: readonly Doomed[], since: { readonly askedMs: number; readonly leaseMs: number }) {
    this.#db = db;
    this.#blobs = blobs;
    this.#renewedMs = since.askedMs;
    this.#leaseMs = since.leaseMs;
    this.#timer = setInterval(() => {
      this.#renewing = this.#renewing.then(() => this.#renew()).catch(() => undefined);
    }, RENEW_MS);
  }

  /** How long the marks last, in the database's time: what tells them from another's. */
  get leaseMs(): number {
    return this.#leaseMs;
  }

  get isOurs(): boolean {
    return performance.now() - this.#renewedMs <= RELIABLE_MS;
  }

  /** Resolves when nothing is renewed any more. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    await this.#renewing;
  }

  async #renew(): Promise<void> {
    const askedMs = performance.now();
    if (!this.isOurs) return;
    const leaseMs = await this.#db.tx((tx) => postpone(tx, this.#blobs, this.#leaseMs, DELETE_LEASE_MS), {
      durable: false,
    });
    if (leaseMs === undefined) return;
    this.#leaseMs = leaseMs;
    this.#renewedMs = askedMs;
  }
}

interface Marked {
  readonly looked: number;
  readonly doomed: readonly Doomed[];
  /** How long the marks of the doomed last. */
  readonly leaseMs: number;
}

async function mark({ db, storage, log }: GcApp): Promise<Marked> {
  const nothing = { looked: 0, doomed: [], leaseMs: 0 };
  const { nowMs, skipLocked, inList } = db.dialect;
  const [due] = await db.sql`/* gc.blob_look */
    select id from blob where lease_until_ms > 0 and lease_until_ms <= ${nowMs} limit 1`;
  if (!due) return nothing;
  return db.tx(async (tx) => {
    // Who is about to link one of these holds its row: it is left for the next time.
    const rows = await tx.sql<{ id: number; digest: string; size_bytes: number }>`/* gc.lock_blobs */
      select id, digest, size_bytes from blob where lease_until_ms > 0 and lease_until_ms <= ${nowMs}
      order by lease_until_ms, id limit ${BATCH} ${skipLocked}`;
    if (rows.length === 0) return nothing;
    const ids = rows.map((row) => toNumber(row.id));
    await tx.sql`/* gc.keep_blobs */
      update blob as b set lease_until_ms = 0
      where ${inList("id", ids)} and state = 'live' and exists (select 1 from ${linksOf(tx)})`;
    const away = await leaveThoseAway(tx, storage, ids);
    if (away > 0)
      log.warn("blobs that nobody uses lie in a store that is away; they are deleted later", { blobs: away });
    const marked = await tx.sql<{ id: number; lease_until_ms: number }>`/* gc.mark_blobs */
      update blob set state = 'deleting', lease_until_ms = ${nowMs} + ${DELETE_LEASE_MS}
      where ${inList("id", ids)} and lease_until_ms > 0 and lease_until_ms <= ${nowMs} returning id, lease_until_ms`;
    const markedIds = marked.map((row) => toNumber(row.id));
    const waiting = await postponeCopied(tx, markedIds);
    const places = await findPlaces(tx, markedIds);
    const doomed = rows.flatMap((row) => {
      const id = toNumber(row.id);
      const locations = places.get(id);
      if (!locations || waiting.has(id)) return [];
      return [{ id, digest: row.digest as Digest, sizeBytes: toNumber(row.size_bytes), locations }];
    });
    return { looked: rows.length, doomed, leaseMs: toNumber(marked[0]?.lease_until_ms ?? 0) };
  });
}

/**
 * Of these, those that lie in a store which does not work now, or which this config does not name: they stay as they are for a
 * while. Marked they could not be deleted, and nobody could push them for as long as that store is away. Gives how many.
 */
async function leaveThoseAway(tx: Tx, storage: GcApp["storage"], ids: readonly number[]): Promise<number> {
  const { nowMs, inList } = tx.dialect;
  const usable = storage.locations.filter((location) => storage.isUp(location));
  const rows = await tx.sql`/* gc.leave_away */
    update blob as b set lease_until_ms = ${nowMs} + ${RETRY_MS}
    where ${inList("id", ids)} and state = 'live' and lease_until_ms > 0 and (
      exists (select 1 from blob_placement p where p.blob_id = b.id and not (${inList("p.location", usable)}))
      or exists (select 1 from blob_bad_copy c
                 where c.blob_id = b.id and c.location <> ${NOWHERE} and not (${inList("c.location", usable)}))
      or exists (select 1 from blob_copy k where k.blob_id = b.id and not (${inList("k.location", usable)})))
    returning id`;
  return rows.length;
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
 * Those that somebody is copying. They stay marked, so that the copy finds no blob to place, and are deleted from its store as
 * well when it has ended: it may put its bytes there at the last moment. A copy that nobody is at, because it was given up or
 * waits for its turn, may have put them there too, and is not waited for: none begins of a marked blob.
 */
async function postponeCopied(tx: Tx, ids: readonly number[]): Promise<Set<number>> {
  const { nowMs, inList } = tx.dialect;
  const rows = await tx.sql<{ blob_id: number; running: unknown }>`/* gc.copied */
    select c.blob_id, exists (select 1 from ${jobsOf(tx)} and j.lease_until_ms > ${nowMs}) as running
    from blob_copy c where ${inList("c.blob_id", ids)}`;
  if (rows.length === 0) return new Set();
  await tx.sql`/* gc.places_of_copies */
    insert into blob_placement (blob_id, location)
    select blob_id, location from blob_copy where ${inList("blob_id", ids)} on conflict do nothing`;
  const running = new Set(rows.filter((row) => toBoolean(row.running)).map((row) => toNumber(row.blob_id)));
  await tx.sql`/* gc.await_copies */
    update blob set lease_until_ms = ${nowMs} + ${COPY_WAIT_MS} where ${inList("id", [...running])}`;
  return running;
}

/** The job `j` of the copy `c`; a condition may follow. */
function jobsOf({ sql }: Tx) {
  return sql`job j where j.queue = ${REPLICATION_QUEUE} and j.dedupe_key = c.location || '/' || cast(c.blob_id as text)`;
}

/** One bad blob never stops the rest. "away" when it waits for a store alone, "lost" when the mark may be another's. */
async function deleteBytes(
  { storage, log }: GcApp,
  { digest, locations }: Doomed,
  hold: Hold,
): Promise<"gone" | "failed" | "away" | "lost"> {
  let end: "gone" | "failed" | "away" = "gone";
  const isAway = (location: string) => storage.locations.includes(location) && !storage.isUp(location);
  for (const location of locations) {
    if (!hold.isOurs) return "lost";
    if (isAway(location)) {
      if (end === "gone") end = "away";
      continue;
    }
    try {
      await storage.driver(location).delete(blobKey(digest));
    } catch (error) {
      if (end !== "failed") end = isAway(location) ? "away" : "failed";
      log.warn("cannot delete a blob that nobody uses; it is tried again", { digest, location, ...errorFields(error) });
    }
  }
  return end;
}

async function forget(
  tx: Tx,
  blobs: readonly Doomed[],
  leaseMs: number,
  locations: readonly string[],
  tally: Tally,
): Promise<void> {
  const { inList, forUpdate, nowMs } = tx.dialect;
  const rows = await tx.sql<{ id: number }>`/* gc.still_marked */
    select id from blob where ${isOurs(tx, blobs, leaseMs)} order by id ${forUpdate}`;
  const ids = rows.map((row) => toNumber(row.id));
  await tx.sql`/* gc.delete_places */ delete from blob_placement where ${inList("blob_id", ids)}`;
  await tx.sql`/* gc.delete_bad_copies */ delete from blob_bad_copy where ${inList("blob_id", ids)}`;
  // Copies that wait or run are ended by their jobs; a job that was given up would be told of for ever.
  const keys = locations.length > 1 ? ids.flatMap((id) => locations.map((location) => copyKey(id, location))) : [];
  if (keys.length > 0) {
    await tx.sql`/* gc.delete_given_up */
      delete from job where queue = ${REPLICATION_QUEUE} and ${inList("dedupe_key", keys)}
        and attempts_left = 0 and coalesce(lease_until_ms, 0) <= ${nowMs}`;
  }
  await tx.sql`/* gc.delete_copies */
    delete from blob_copy as c
    where ${inList("c.blob_id", ids)} and not exists (select 1 from ${jobsOf(tx)} and j.attempts_left > 0)`;
  await tx.sql`/* gc.delete_blobs */ delete from blob where ${inList("id", ids)}`;
  const ours = new Set(ids);
  tally.rows("blob", ids.length);
  tally.blobs += ids.length;
  tally.bytes += blobs.reduce((sum, { id, sizeBytes }) => sum + (ours.has(id) ? sizeBytes : 0), 0);
}

async function postponeLeft(db: Database, blobs: readonly Doomed[], leaseMs: number, forMs: number): Promise<void> {
  if (blobs.length > 0) await db.tx((tx) => postpone(tx, blobs, leaseMs, forMs), { durable: false });
}

/** Gives how long the marks that are still ours last from now on; undefined when none is. */
async function postpone(tx: Tx, blobs: readonly Doomed[], leaseMs: number, forMs: number): Promise<number | undefined> {
  const [row] = await tx.sql<{ lease_until_ms: number }>`/* gc.retry_blobs */
    update blob set lease_until_ms = ${tx.dialect.nowMs} + ${forMs} where ${isOurs(tx, blobs, leaseMs)}
    returning lease_until_ms`;
  return row && toNumber(row.lease_until_ms);
}

/** Nobody has taken these marks over: who does makes them last longer. */
function isOurs(tx: Tx, blobs: readonly Doomed[], leaseMs: number) {
  const ids = blobs.map(({ id }) => id);
  return tx.sql`state = 'deleting' and lease_until_ms = ${leaseMs} and ${tx.dialect.inList("id", ids)}`;
}
