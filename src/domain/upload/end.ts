/**
 * Ends an upload whose bytes nobody wants, and sees to what a request of it may have stored before it died or failed: a whole
 * blob without a row. That one gets its row here, and with it a lease; the collection deletes it like any other that no
 * repository links, under the rules that protect pushes of the same digest (`domain/gc/NOTES.md`).
 */

import type { App } from "../../app.ts";
import type { Digest } from "../../oci/digest.ts";
import { blobKey } from "../../storage/paths.ts";
import { findPlacement, putBlob } from "../blob/queries.ts";
import { deleteUploadRow, noteBlobDigest, type UploadSession } from "./queries.ts";

type EndApp = Pick<App, "db" | "storage" | "clock">;

/** What of a session tells where its bytes are. */
export type StoredUpload = Pick<UploadSession, "id" | "location" | "storageState" | "digest" | "blobDigest">;

/** After power loss it is ended once more, and so is what a note is about. */
const PROGRESS = { durable: false } as const;

/** Drops the bytes, then the row: what a crash leaves has a row. Throws `unavailable` when the store is away. */
export async function endUpload(app: EndApp, session: StoredUpload, claimId?: string): Promise<void> {
  await app.storage.driver(session.location).deleteUpload(session.id, session.storageState);
  for (const digest of new Set([session.blobDigest, session.digest])) {
    if (digest) await adoptBlob(app, session.location, digest);
  }
  await app.db.tx((tx) => deleteUploadRow(tx, session.id, claimId), PROGRESS);
}

/**
 * Notes in the session's row which blob is about to be made of it, so that `endUpload` knows where to look. Most uploads have
 * it there already: as the digest of all that was stored, or since the request that brought both. False when the session is
 * over.
 */
export async function noteBlob(app: EndApp, session: UploadSession, digest: Digest): Promise<boolean> {
  const { id, location, blobDigest } = session;
  if (digest === session.digest || digest === blobDigest) return true;
  if (blobDigest) await adoptBlob(app, location, blobDigest);
  return app.db.tx((tx) => noteBlobDigest(tx, id, digest), PROGRESS);
}

/** Gives a blob that a store holds the row that it lacks; does nothing when there is one, or no such blob. */
export async function adoptBlob(app: EndApp, location: string, digest: Digest): Promise<void> {
  const { db, storage, clock } = app;
  if (await findPlacement(db, digest, location)) return;
  // Under its digest a store shows nothing but whole blobs, whose digest was checked.
  const found = await storage.driver(location).find(blobKey(digest));
  if (!found) return;
  await db.tx((tx) => putBlob(tx, { digest, sizeBytes: found.sizeBytes, location, nowMs: clock.nowMs() }));
}
