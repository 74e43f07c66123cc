/**
 * Which blobs lack a store: walks all blobs in pages by id, so that no statement is long whatever the registry's size, and a
 * registry may go on meanwhile.
 */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Digest } from "../../oci/digest.ts";

export interface MissingBlob {
  readonly id: number;
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Of the stores asked about, those that lack it. */
  readonly missing: readonly string[];
}

/** Blobs looked at in one page. */
const PAGE = 500;

/** Pages of the blobs that lack one of `targets` and lie somewhere else; with `from`, in that store. Empty pages are left out. */
export async function* listMissing(db: Db, targets: readonly string[], from?: string): AsyncGenerator<MissingBlob[]> {
  for (let afterId = 0; ; ) {
    const blobs = await db.sql<{ id: number; digest: string; size_bytes: number }>`/* replication.blobs */
      select id, digest, size_bytes from blob where id > ${afterId} and state = 'live' order by id limit ${PAGE}`;
    const last = blobs.at(-1);
    if (!last) return;
    const places = await placesOf(db, afterId, toNumber(last.id));
    afterId = toNumber(last.id);
    const page = blobs.flatMap((row): MissingBlob[] => {
      const id = toNumber(row.id);
      const held = places.get(id) ?? new Set();
      const missing = targets.filter((target) => !held.has(target));
      const isSomewhere = from === undefined ? held.size > 0 : held.has(from);
      if (missing.length === 0 || !isSomewhere) return [];
      return [{ id, digest: row.digest as Digest, sizeBytes: toNumber(row.size_bytes), missing }];
    });
    if (page.length > 0) yield page;
  }
}

async function placesOf(db: Db, afterId: number, lastId: number): Promise<Map<number, Set<string>>> {
  const rows = await db.sql<{ blob_id: number; location: string }>`/* replication.places */
    select blob_id, location from blob_placement where blob_id > ${afterId} and blob_id <= ${lastId}`;
  const places = new Map<number, Set<string>>();
  for (const row of rows) {
    const id = toNumber(row.blob_id);
    const held = places.get(id);
    if (held) held.add(row.location);
    else places.set(id, new Set([row.location]));
  }
  return places;
}
