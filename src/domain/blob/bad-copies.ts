/**
 * Copies of blobs that are out of service, because their bytes are others than the digest says or not there. Such a copy is no
 * placement, so that whatever looks for bytes passes it by without asking; it stands in a table of its own until the bytes are
 * right again. Who finds them is `domain/scrub`; here is how they come back, which pushes and copies bring about too.
 */

import type { Tx } from "../../db/db.ts";
import type { Digest } from "../../oci/digest.ts";
import { ANONYMOUS } from "../access/actor.ts";
import { logAction } from "../audit/audit.ts";

/** Other bytes, another length, nothing there; `lost`: no store is recorded to have the blob at all. */
export const BAD_KINDS = ["digest", "size", "missing", "lost"] as const;
export type BadKind = (typeof BAD_KINDS)[number];

/** The location under which a blob stands that has none left. */
export const NOWHERE = "";

/** How the right bytes came: a client pushed them, another store had them, or they were found to be right after all. */
export type Healing = "pushed" | "copied" | "read";

export interface CopyOfBlob {
  readonly blobId: number;
  readonly digest: Digest;
  readonly location: string;
}

/**
 * Notes that a copy is right again, if it was out of service, with an entry in the action log. The caller has put it back
 * among the placements, in this transaction. False when it was not out of service.
 */
export async function healCopy(tx: Tx, copy: CopyOfBlob, how: Healing, nowMs: number): Promise<boolean> {
  const rows = await tx.sql<{ location: string; kind: string }>`/* blob.heal */
    delete from blob_bad_copy
    where blob_id = ${copy.blobId} and location in (${copy.location}, ${NOWHERE}) returning location, kind`;
  if (rows.length === 0) return false;
  await logAction(tx, {
    kind: "blob_copy_repaired",
    caller: ANONYMOUS,
    namespaceId: undefined,
    request: { ip: undefined, userAgent: undefined },
    nowMs,
    metadata: { digest: copy.digest, location: copy.location, kind: rows[0]?.kind, how },
  });
  return true;
}
