/**
 * Where each blob should be, and the jobs that bring it there: one for each store that lacks it, in that store's lane of
 * Quay's queue. Quay queues when a manifest is written; here it is when a blob is placed, in the same transaction: earlier,
 * once for each blob, and nothing that was acknowledged can be forgotten.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { enqueue } from "../../db/queue.ts";

export const REPLICATION_QUEUE = "imagestoragereplication";

/**
 * DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS, and the store that this instance prefers: a push that had to go elsewhere is
 * brought home. Namespaces have no regions of their own here.
 */
export function replicationTargets({ config, storage }: Pick<App, "config" | "storage">): string[] {
  return [...new Set([...config.DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS, storage.preferred.location])];
}

/** Queues what a blob that has just been placed lacks. Costs nothing without FEATURE_STORAGE_REPLICATION. */
export async function queueReplication(
  tx: Tx,
  app: Pick<App, "config" | "storage">,
  blobId: number,
  location: string,
): Promise<void> {
  if (!app.config.FEATURE_STORAGE_REPLICATION) return;
  const targets = replicationTargets(app).filter((target) => target !== location);
  if (targets.length === 0) return;
  const rows = await tx.sql<{ location: string }>`/* replication.placements */
    select location from blob_placement where blob_id = ${blobId}`;
  const held = new Set(rows.map((row) => row.location));
  for (const target of targets) if (!held.has(target)) await queueCopy(tx, blobId, target);
}

/** What names the copy of a blob to a store in the queue. */
export function copyKey(blobId: number, location: string): string {
  return `${location}/${blobId}`;
}

/** Queues the copy of one blob to one store, unless it waits already. */
export function queueCopy(tx: Tx, blobId: number, location: string): Promise<void> {
  return enqueue(tx, {
    queue: REPLICATION_QUEUE,
    lane: location,
    dedupeKey: copyKey(blobId, location),
    payload: { blobId },
  });
}
