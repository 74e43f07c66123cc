/** How the scrub of each location stands, for the API, the command line and metrics. */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import type { BadKind } from "../blob/bad-copies.ts";
import { type Counts, decodeCounts } from "./lease.ts";

export interface LocationStatus {
  readonly location: string;
  /** A pass is under way; `isHeld` when somebody works on it now. */
  readonly isUnderWay: boolean;
  readonly isHeld: boolean;
  /** Share of the blobs that the pass under way has come past, from 0 to 1; 1 when none is. */
  readonly progress: number;
  /** Of the pass under way, or of the last one; undefined before the first. Epoch ms by the database's clock. */
  readonly startedMs: number | undefined;
  readonly endedMs: number | undefined;
  readonly counts: Counts;
  /** The end of the last pass that could read everything. */
  readonly fullMs: number | undefined;
  /** Since then, or since the location was first heard of. */
  readonly ageMs: number;
  /** Copies that are out of service now, by what is wrong with them. */
  readonly badCopies: Readonly<Partial<Record<BadKind, number>>>;
}

export interface BadCopy {
  readonly digest: string;
  /** Empty for a blob that no store is recorded to have. */
  readonly location: string;
  readonly kind: BadKind;
  readonly foundMs: number;
}

export interface BadCount {
  readonly location: string;
  readonly kind: BadKind;
  readonly count: number;
}

type StatusApp = Pick<App, "db" | "storage">;

/** One entry for each location of this config, in its order. */
export async function scrubStatus({ db, storage }: StatusApp): Promise<LocationStatus[]> {
  const { nowMs } = db.dialect;
  const rows = await db.sql<Record<string, unknown> & { location: string }>`/* scrub.status */
    select location, created_ms, started_ms, ended_ms, full_ms, after_blob_id, last_blob_id, blobs, bytes, bad, repaired,
           unreadable, coalesce(lease_until_ms, 0) > ${nowMs} as is_held, ${nowMs} as now_ms
    from scrub_pass where ${db.dialect.inList("location", storage.locations)}`;
  const bad = await countBadCopies(db);
  return storage.locations.map((location) => {
    const row = rows.find((each) => each.location === location);
    const own = bad.filter((each) => each.location === location).map(({ kind, count }) => [kind, count] as const);
    return decodeStatus(location, row, Object.fromEntries(own));
  });
}

/** How many copies are out of service, by location and kind: reads an index of them, and they are few. */
export async function countBadCopies(db: Db): Promise<BadCount[]> {
  const rows = await db.sql<{ location: string; kind: string; count: number }>`/* scrub.bad_count */
    select location, kind, count(*) as count from blob_bad_copy group by location, kind order by location, kind`;
  return rows.map((row) => ({ location: row.location, kind: row.kind as BadKind, count: toNumber(row.count) }));
}

/** The copies that are out of service, by location, `limit` at most. */
export async function listBadCopies(db: Db, limit: number): Promise<BadCopy[]> {
  const rows = await db.sql<{ digest: string; location: string; kind: string; found_ms: number }>`/* scrub.bad_list */
    select b.digest, c.location, c.kind, c.found_ms from blob_bad_copy c join blob b on b.id = c.blob_id
    order by c.location, c.kind, c.blob_id limit ${limit}`;
  return rows.map((row) => ({
    digest: row.digest,
    location: row.location,
    kind: row.kind as BadKind,
    foundMs: toNumber(row.found_ms),
  }));
}

function decodeStatus(
  location: string,
  row: Record<string, unknown> | undefined,
  badCopies: LocationStatus["badCopies"],
): LocationStatus {
  const optional = (value: unknown) => (value === null || value === undefined ? undefined : toNumber(value));
  const startedMs = optional(row?.started_ms);
  const endedMs = optional(row?.ended_ms);
  const fullMs = optional(row?.full_ms);
  const nowMs = toNumber(row?.now_ms ?? 0);
  const isUnderWay = startedMs !== undefined && endedMs === undefined;
  const [after, last] = [toNumber(row?.after_blob_id ?? 0), toNumber(row?.last_blob_id ?? 0)];
  return {
    location,
    isUnderWay,
    isHeld: row !== undefined && toBoolean(row.is_held),
    progress: isUnderWay && last > 0 ? Math.min(1, after / last) : isUnderWay ? 0 : 1,
    startedMs,
    endedMs,
    counts: decodeCounts({
      blobs: row?.blobs ?? 0,
      bytes: row?.bytes ?? 0,
      bad: row?.bad ?? 0,
      repaired: row?.repaired ?? 0,
      unreadable: row?.unreadable ?? 0,
    }),
    fullMs,
    ageMs: Math.max(0, nowMs - (fullMs ?? toNumber(row?.created_ms ?? nowMs))),
    badCopies,
  };
}
