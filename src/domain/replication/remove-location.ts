/**
 * Forgets a store: its placements, its jobs and what was begun in it, and no byte of it. What Quay's `util.removelocation`
 * does, which also keeps blobs that lie only there.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { REPLICATION_QUEUE } from "./targets.ts";

/** Placements removed in one transaction. */
const BATCH = 500;
/** Blobs that are named to an operator. */
const NAMED_MAX = 10;

type RemoveApp = Pick<App, "db" | "storage">;

export interface OnlyThere {
  readonly total: number;
  readonly totalBytes: number;
  /** Digests of some. */
  readonly some: readonly string[];
}

/** Live blobs that lie in this location and in no other one of the config. */
export async function findOnlyThere({ db, storage }: RemoveApp, location: string): Promise<OnlyThere> {
  const others = storage.locations.filter((name) => name !== location);
  const alone = db.sql`
    from blob_placement p join blob b on b.id = p.blob_id
    where p.location = ${location} and b.state = 'live' and not exists (
      select 1 from blob_placement o where o.blob_id = p.blob_id and ${db.dialect.inList("o.location", others)})`;
  const [sums] = await db.sql<{ total: number; bytes: number | null }>`/* location.only_there */
    select count(*) as total, sum(b.size_bytes) as bytes ${alone}`;
  const some = await db.sql<{ digest: string }>`/* location.some_only_there */
    select b.digest ${alone} order by b.id limit ${NAMED_MAX}`;
  return {
    total: toNumber(sums?.total ?? 0),
    totalBytes: toNumber(sums?.bytes ?? 0),
    some: some.map(({ digest }) => digest),
  };
}

/** True when anything is recorded of the location. */
export async function isKnownLocation(db: Db, location: string): Promise<boolean> {
  const rows = await db.sql`/* location.known */
    select 1 as found from blob_placement where location = ${location}
    union all select 1 from job where queue = ${REPLICATION_QUEUE} and lane = ${location}
    union all select 1 from upload_session where location = ${location}
    union all select 1 from blob_bad_copy where location = ${location} limit 1`;
  return rows.length > 0;
}

/**
 * Removes the placements page by page, each only if its blob lies elsewhere at that moment, and then what else names the
 * location. Gives how many blobs could not be let go of; nothing but placements was removed then.
 */
export async function removeLocation(
  app: RemoveApp,
  location: string,
  onPlacement: (blobId: number) => void,
): Promise<number> {
  const others = app.storage.locations.filter((name) => name !== location);
  for (let afterId = 0; ; ) {
    const page = await app.db.sql<{ blob_id: number }>`/* location.page */
      select blob_id from blob_placement where location = ${location} and blob_id > ${afterId}
      order by blob_id limit ${BATCH}`;
    const lastId = page.at(-1)?.blob_id;
    if (lastId === undefined) break;
    const removed = await app.db.tx((tx) => removePage(tx, location, others, afterId, toNumber(lastId)));
    for (const id of removed) onPlacement(id);
    afterId = toNumber(lastId);
  }
  const { total } = await findOnlyThere(app, location);
  if (total === 0) await app.db.tx((tx) => forget(tx, location));
  return total;
}

async function removePage(
  tx: Tx,
  location: string,
  others: readonly string[],
  afterId: number,
  lastId: number,
): Promise<number[]> {
  const rows = await tx.sql<{ blob_id: number }>`/* location.remove */
    delete from blob_placement
    where location = ${location} and blob_id > ${afterId} and blob_id <= ${lastId}
      and (exists (select 1 from blob_placement o
                   where o.blob_id = blob_placement.blob_id and ${tx.dialect.inList("o.location", others)})
           or not exists (select 1 from blob b where b.id = blob_placement.blob_id and b.state = 'live'))
    returning blob_id`;
  return rows.map((row) => toNumber(row.blob_id)).sort((a, b) => a - b);
}

/** What was begun in the location and can neither go on nor be cleaned up any more. */
async function forget(tx: Tx, location: string): Promise<void> {
  await tx.sql`/* location.end_jobs */ delete from job where queue = ${REPLICATION_QUEUE} and lane = ${location}`;
  await tx.sql`/* location.end_copies */ delete from blob_copy where location = ${location}`;
  await tx.sql`/* location.end_bad_copies */ delete from blob_bad_copy where location = ${location}`;
  await tx.sql`/* location.end_scrub */ delete from scrub_pass where location = ${location}`;
  await tx.sql`/* location.end_uploads */ delete from upload_session where location = ${location}`;
  await tx.sql`/* location.end_exports */ delete from log_export where location = ${location}`;
  await tx.sql`/* location.end_rotation */
    update log_rotation set upload_id = null, upload_location = null, upload_state = null
    where upload_location = ${location}`;
}
