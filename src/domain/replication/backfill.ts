/** Queues the copies that existing blobs lack, such as after a store was added: what Quay's `util.backfillreplication` does. */

import type { App } from "../../app.ts";
import type { Digest } from "../../oci/digest.ts";
import { listMissing } from "./missing.ts";
import { queueCopy, replicationTargets } from "./targets.ts";

/**
 * Queues a job for each target that a blob lacks, page by page, and tells of each such blob. Those that wait already stay as
 * they are; those that were given up are tried anew. Gives how many blobs lacked something.
 */
export async function backfill(
  app: Pick<App, "config" | "db" | "storage">,
  onBlob: (digest: Digest) => void,
): Promise<number> {
  let blobs = 0;
  for await (const page of listMissing(app.db, replicationTargets(app))) {
    await app.db.tx(async (tx) => {
      for (const { id, missing } of page) for (const location of missing) await queueCopy(tx, id, location);
    });
    for (const { digest } of page) onBlob(digest);
    blobs += page.length;
  }
  return blobs;
}
