/**
 * A push and the collection of the same digest. Whoever is about to rely on bytes that are there, or to write them, first
 * makes sure that nobody deletes them: a blob that is kept gets a lease, and one that is being deleted is waited for. With
 * the lease the collection leaves it alone until the push has linked it. Why that is enough: `domain/gc/NOTES.md`.
 */

import type { Database, Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";

/** From a reservation, or from the first row of a blob, until the collection looks at it. */
const RESERVED_MS = 60_000;
/** A reservation this much younger is as good as a new one. */
const RENEW_MS = 20_000;
/**
 * For how long a reservation may be relied on. The rest is room: a blob that came and went since then took longer than this,
 * so no bytes were deleted under the one who reserved.
 */
export const RELIABLE_MS = 30_000;
/** Deleting a blob takes as long as a store takes for it; a worker that died is replaced after its lease. */
const WAIT_MS = 10_000;
const LOOK_MS = 100;

/** The database's time from now until which a new blob is left alone. */
export function firstLease(db: Db) {
  return db.sql`${db.dialect.nowMs} + ${RESERVED_MS}`;
}

/**
 * Resolves when the digest may be stored and relied on for `RELIABLE_MS` from the time it gives (of `performance.now()`).
 * Throws `unavailable` while it is being deleted.
 */
export async function reserveBlob(db: Database, digest: Digest): Promise<number> {
  const { nowMs } = db.dialect;
  const untilMs = performance.now() + WAIT_MS;
  for (let askedMs = performance.now(); askedMs < untilMs; askedMs = performance.now()) {
    const [row] = await db.sql<{ id: number; state: string; left_ms: number }>`/* blob.reserved */
      select id, state, lease_until_ms - ${nowMs} as left_ms from blob where digest = ${digest}`;
    if (!row || (row.state === "live" && toNumber(row.left_ms) > RESERVED_MS - RENEW_MS)) return askedMs;
    if (row.state === "live") {
      const rows = await db.tx(
        async (tx) =>
          await tx.sql`/* blob.reserve */
            update blob set lease_until_ms = ${nowMs} + ${RESERVED_MS} where id = ${row.id} and state = 'live' returning id`,
      );
      if (rows.length > 0) return askedMs;
    } else await Bun.sleep(LOOK_MS);
  }
  throw beingDeleted(digest);
}

export function beingDeleted(digest: Digest): RegistryError {
  return new RegistryError("unavailable", {
    message: `blob "${digest}" is just being deleted because nothing used it; push it again`,
    detail: { digest },
  });
}
