/** Removes a deleted repository with all that it held, in small transactions. Its blobs are collected like all others. */

import type { App } from "../../app.ts";
import type { Database, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { findDigest } from "../../oci/digest.ts";
import { settleUsage, uncountUnnamed } from "../quota/count.ts";
import { endUpload } from "../upload/end.ts";
import { claimRepository } from "./claim.ts";
import { noteBlobs } from "./due.ts";
import { deleteManifestRows } from "./manifests.ts";
import type { Tally } from "./tally.ts";

export type PurgeApp = Pick<App, "config" | "db" | "storage" | "clock" | "log">;

const MANIFESTS = 100;
const ROWS = 1000;
const UPLOADS = 20;

/**
 * Removes it as far as it is marked deleted; does nothing to one that lives or is gone. Gives the milliseconds until it may
 * be removed where it can still be restored. Throws the reason of `signal`.
 */
export async function purgeRepository(
  app: PurgeApp,
  repositoryId: number,
  tally: Tally,
  signal: AbortSignal,
  goes: "by itself" | "with its namespace" = "by itself",
): Promise<number | undefined> {
  const claim = await claimRepository(app.db, repositoryId, goes);
  if (claim === "gone") return undefined;
  if (claim !== "claimed") return claim;
  const again = async (step: () => Promise<number>): Promise<void> => {
    while ((await step()) > 0) signal.throwIfAborted();
  };
  await again(() => app.db.tx((tx) => removeManifests(app.config, tx, repositoryId, tally)));
  // Before its uploads as well: their store may be away, and what lies elsewhere need not wait for it.
  await again(() => app.db.tx((tx) => letGoOfBlobs(tx, repositoryId, tally)));
  await again(() => endUploads(app, repositoryId));
  await again(() => app.db.tx((tx) => letGoOfBlobs(tx, repositoryId, tally)));
  await again(() => app.db.tx((tx) => removePulls(tx, repositoryId)));
  await app.db.tx((tx) => removeRest(tx, repositoryId));
  tally.repositories++;
  return undefined;
}

async function removeManifests(config: App["config"], tx: Tx, repositoryId: number, tally: Tally): Promise<number> {
  // Under its lock, as everything that counts its bytes.
  await tx.sql`/* purge.lock */ select id from repository where id = ${repositoryId} ${tx.dialect.forUpdate}`;
  const rows = await tx.sql<{ id: number; digest: string }>`/* purge.manifests */
    select id, digest from manifest where repository_id = ${repositoryId} order by id limit ${MANIFESTS}`;
  if (rows.length === 0) return 0;
  const ids = rows.map((row) => toNumber(row.id));
  const tags = await tx.sql`/* purge.tags */
    delete from tag where ${tx.dialect.inList("manifest_id", ids)} returning id`;
  tally.rows("tag", tags.length);
  // Its parents may come in a later step.
  await tx.sql`/* purge.parents */
    update manifest_child set child_id = null where ${tx.dialect.inList("child_id", ids)}`;
  const digests = rows.map((row) => row.digest);
  const named = await deleteManifestRows(tx, repositoryId, ids, digests, tally);
  await settleUsage(tx, await uncountUnnamed(config, tx, repositoryId, named));
  return rows.length;
}

/** Bytes first: what a crash leaves has a row. Throws `unavailable` when its store is away. */
async function endUploads(app: PurgeApp, repositoryId: number): Promise<number> {
  return endUploadsWhere(app, app.db.sql`repository_id = ${repositoryId}`);
}

/** The same for uploads that a condition finds, up to 20 of them. Gives how many. */
export async function endUploadsWhere(
  app: Pick<App, "db" | "storage" | "clock">,
  condition: ReturnType<Database["sql"]>,
): Promise<number> {
  const { db, storage } = app;
  const rows = await db.sql<{
    id: string;
    location: string;
    storage_state: string;
    digest: string | null;
    blob_digest: string | null;
  }>`/* purge.uploads */
    select id, location, storage_state, digest, blob_digest from upload_session where ${condition} limit ${UPLOADS}`;
  for (const { id, location, ...row } of rows) {
    // A store that the config does not name any more took them with it.
    if (storage.locations.includes(location)) {
      const [digest, blobDigest] = [row.digest, row.blob_digest].map((text) => findDigest(text ?? ""));
      await endUpload(app, { id, location, storageState: row.storage_state, digest, blobDigest });
      continue;
    }
    await db.tx(async (tx) => {
      await tx.sql`/* purge.end_upload */ delete from upload_session where id = ${id}`;
    });
  }
  return rows.length;
}

async function letGoOfBlobs(tx: Tx, repositoryId: number, tally: Tally): Promise<number> {
  const rows = await tx.sql<{ blob_id: number }>`/* purge.links */
    delete from repository_blob where repository_id = ${repositoryId} and blob_id in (
      select blob_id from repository_blob where repository_id = ${repositoryId} limit ${ROWS})
    returning blob_id`;
  if (rows.length === 0) return 0;
  tally.rows("repository_blob", rows.length);
  await noteBlobs(
    tx,
    rows.map((row) => toNumber(row.blob_id)).sort((a, b) => a - b),
  );
  return rows.length;
}

/** Pull statistics may be many: one row for each name that ever was. */
async function removePulls(tx: Tx, repositoryId: number): Promise<number> {
  const ofTags = await tx.sql`/* purge.tag_pulls */
    delete from tag_pull where repository_id = ${repositoryId} and tag_name in (
      select tag_name from tag_pull where repository_id = ${repositoryId} limit ${ROWS})
    returning tag_name`;
  const ofManifests = await tx.sql`/* purge.manifest_pulls */
    delete from manifest_pull where repository_id = ${repositoryId} and manifest_digest in (
      select manifest_digest from manifest_pull where repository_id = ${repositoryId} limit ${ROWS})
    returning manifest_digest`;
  return ofTags.length + ofManifests.length;
}

async function removeRest(tx: Tx, repositoryId: number): Promise<void> {
  const own = tx.sql`where repository_id = ${repositoryId}`;
  await tx.sql`/* purge.actions */ delete from repository_action_count ${own}`;
  await tx.sql`/* purge.roles */ delete from repository_permission ${own}`;
  await tx.sql`/* purge.retired_roles */ delete from retired_role ${own}`;
  await tx.sql`/* purge.stars */ delete from star ${own}`;
  await tx.sql`/* purge.emails */ delete from authorized_email ${own}`;
  await tx.sql`/* purge.autoprune */ delete from autoprune_policy ${own}`;
  await tx.sql`/* purge.immutability */ delete from immutability_policy ${own}`;
  await tx.sql`/* purge.usage */ delete from repository_usage ${own}`;
  await tx.sql`/* purge.words */ delete from repository_word ${own}`;
  await tx.sql`/* purge.prunable */ delete from prune_repository ${own}`;
  await tx.sql`/* purge.due */ delete from gc_repository ${own}`;
  await tx.sql`/* purge.end */ delete from repository where id = ${repositoryId}`;
}
