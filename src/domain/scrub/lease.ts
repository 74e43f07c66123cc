/**
 * A pass over one location: whose it is, how far it has come, and when the next one is due. It stands in one row for each
 * location and goes by the database's clock, so that any instance goes on with what a dead one left.
 */

import type { Database, Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";

/** Who stops without a word loses the pass after this. */
export const LEASE_MS = 60_000;
/** A store that was away is looked at again after this. */
const AWAY_MS = 60_000;
/** The first pass waits so long, so that neither a new registry nor a restart begins with reading everything. */
const FIRST_MS = 24 * 3600 * 1000;
/** Whoever has a location next to it goes first; others wait for this share of the interval, and a day at most. */
const GRACE_SHARE = 7;

/** A scrubber that dies loses what it has read since then, which is read again. */
const PROGRESS = { durable: false } as const;

export interface Counts {
  /** Copies that were looked at. */
  readonly blobs: number;
  readonly bytes: number;
  /** Of these, found out of service or taken out of it, whether or not they were repaired. */
  readonly bad: number;
  readonly repaired: number;
  readonly unreadable: number;
}

/** A pass that this process holds. */
export interface Pass {
  readonly location: string;
  readonly owner: string;
  /** Blobs up to this id are done. */
  readonly afterId: number;
  /** Blobs after this id came later: the next pass reads them. */
  readonly lastId: number;
  readonly counts: Counts;
}

/** Gives each of these locations its row. */
export async function noteLocations(db: Database, locations: readonly string[]): Promise<void> {
  const rows = await db.sql<{ location: string }>`/* scrub.known */
    select location from scrub_pass where ${db.dialect.inList("location", locations)}`;
  const known = new Set(rows.map((row) => row.location));
  const missing = locations.filter((location) => !known.has(location));
  if (missing.length === 0) return;
  await db.tx(async (tx) => {
    for (const location of missing) {
      await tx.sql`/* scrub.note_location */
        insert into scrub_pass (location, created_ms) values (${location}, ${tx.dialect.nowMs}) on conflict do nothing`;
    }
  });
}

export interface Due {
  readonly intervalMs: number;
  /** A location that is nearer to others. */
  readonly isFar: boolean;
}

/** True when a pass over this location can be taken, or a repair is due. Costs a row and a look into an index. */
export async function isLocationDue(db: Db, location: string, due: Due): Promise<boolean> {
  const [row] = await db.sql<{ due: unknown }>`/* scrub.is_due */
    select exists (select 1 from scrub_pass where location = ${location} and ${isFree(db, due)})
        or exists (select 1 from blob_bad_copy
                   where location = ${location} and retry_ms is not null and retry_ms <= ${db.dialect.nowMs}) as due`;
  return toBoolean(row?.due);
}

/**
 * Takes the pass that is due: the one that somebody left, or a new one. Undefined when none is, or another has it. With
 * `due` undefined a new one begins now, and whoever had the location loses it.
 */
export async function takePass(db: Database, location: string, due: Due | undefined): Promise<Pass | undefined> {
  const owner = crypto.randomUUID();
  return db.tx(async (tx) => {
    const { nowMs } = tx.dialect;
    const [row] = await tx.sql<PassRow & { under_way: unknown }>`/* scrub.take */
      update scrub_pass set lease_owner = ${owner}, lease_until_ms = ${nowMs} + ${LEASE_MS}
      where location = ${location} ${due ? tx.sql`and ${isFree(tx, due)}` : tx.sql``}
      returning (started_ms is not null and ended_ms is null) as under_way, after_blob_id, last_blob_id, blobs, bytes, bad,
                repaired, unreadable`;
    if (!row) return undefined;
    if (due && toBoolean(row.under_way)) return decodePass(location, owner, row);
    const [begun] = await tx.sql<PassRow>`/* scrub.begin */
      update scrub_pass
      set started_ms = ${nowMs}, ended_ms = null, resume_ms = 0, after_blob_id = 0,
          last_blob_id = (select coalesce(max(id), 0) from blob), blobs = 0, bytes = 0, bad = 0, repaired = 0, unreadable = 0
      where location = ${location} and lease_owner = ${owner}
      returning after_blob_id, last_blob_id, blobs, bytes, bad, repaired, unreadable`;
    return begun && decodePass(location, owner, begun);
  });
}

/** Notes how far it has come and keeps it for another lease. False when it is another's. */
export async function savePass(db: Database, pass: Pass): Promise<boolean> {
  return db.tx((tx) => save(tx, pass, tx.sql`lease_until_ms = ${tx.dialect.nowMs} + ${LEASE_MS}`), PROGRESS);
}

/** Keeps it, in the middle of a large blob. False when it is another's. */
export async function keepPass(db: Database, { location, owner }: Pass): Promise<boolean> {
  const rows = await db.tx(
    async (tx) =>
      await tx.sql`/* scrub.keep */
        update scrub_pass set lease_until_ms = ${tx.dialect.nowMs} + ${LEASE_MS}
        where location = ${location} and lease_owner = ${owner} returning location`,
    PROGRESS,
  );
  return rows.length > 0;
}

/** Leaves it to whoever comes next, now or, when the store is away, a minute later. */
export async function leavePass(db: Database, pass: Pass, why: "stopped" | "away"): Promise<void> {
  const { nowMs } = db.dialect;
  const resume = why === "away" ? db.sql`${nowMs} + ${AWAY_MS}` : db.sql`${nowMs}`;
  await db.tx((tx) => save(tx, pass, tx.sql`lease_owner = null, lease_until_ms = ${nowMs}, resume_ms = ${resume}`));
}

/** Ends it. It was a full one when everything could be read. */
export async function endPass(db: Database, pass: Pass): Promise<boolean> {
  const isFull = pass.counts.unreadable === 0;
  return db.tx((tx) => {
    const { nowMs } = tx.dialect;
    const full = isFull ? tx.sql`, full_ms = ${nowMs}` : tx.sql``;
    return save(tx, pass, tx.sql`lease_owner = null, lease_until_ms = ${nowMs}, ended_ms = ${nowMs} ${full}`);
  });
}

/** Nobody has it, its store is not away, and it is under way or its time has come. */
function isFree(db: Db, { intervalMs, isFar }: Due) {
  const { nowMs } = db.dialect;
  const graceMs = isFar ? Math.min(Math.floor(intervalMs / GRACE_SHARE), FIRST_MS) : 0;
  const firstMs = Math.min(intervalMs, FIRST_MS);
  return db.sql`coalesce(lease_until_ms, 0) + ${graceMs} <= ${nowMs} and resume_ms <= ${nowMs}
    and ((started_ms is not null and ended_ms is null)
         or coalesce(started_ms + ${intervalMs}, created_ms + ${firstMs}) + ${graceMs} <= ${nowMs})`;
}

async function save(tx: Tx, { location, owner, afterId, counts }: Pass, more: ReturnType<Tx["sql"]>): Promise<boolean> {
  const rows = await tx.sql`/* scrub.save */
    update scrub_pass
    set after_blob_id = ${afterId}, blobs = ${counts.blobs}, bytes = ${counts.bytes}, bad = ${counts.bad},
        repaired = ${counts.repaired}, unreadable = ${counts.unreadable}, ${more}
    where location = ${location} and lease_owner = ${owner} returning location`;
  return rows.length > 0;
}

interface PassRow {
  after_blob_id: number;
  last_blob_id: number;
  blobs: number;
  bytes: number;
  bad: number;
  repaired: number;
  unreadable: number;
}

function decodePass(location: string, owner: string, row: PassRow): Pass {
  return {
    location,
    owner,
    afterId: toNumber(row.after_blob_id),
    lastId: toNumber(row.last_blob_id),
    counts: decodeCounts(row),
  };
}

export function decodeCounts(row: Readonly<Record<keyof Counts, unknown>>): Counts {
  const { blobs, bytes, bad, repaired, unreadable } = row;
  return {
    blobs: toNumber(blobs),
    bytes: toNumber(bytes),
    bad: toNumber(bad),
    repaired: toNumber(repaired),
    unreadable: toNumber(unreadable),
  };
}
