/** Blobs in repositories whose lease is over: those that no manifest there names are let go of. */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { errorFields } from "../../observe/logger.ts";
import { repositoryKey } from "../lookup/lookup.ts";
import { BAD_ROW_MS, inBatches, REPEATED } from "./batches.ts";
import { noteBlobs } from "./due.ts";
import { lockForGc } from "./manifests.ts";
import type { Pace } from "./pace.ts";
import { namersOf } from "./rules.ts";
import type { Tally } from "./tally.ts";

const BATCH = 100;
const LOOK = 500;

/** Looks at up to 500 links whose lease is over. Gives how many were looked at; 0 when there is nothing to do now. */
export async function collectLinks({ db, log }: Pick<App, "db" | "log">, tally: Tally, pace: Pace): Promise<number> {
  const due = await db.sql<{ repository_id: number; blob_id: number }>`/* gc.link_look */
    select repository_id, blob_id from repository_blob where lease_until_ms > 0 and lease_until_ms <= ${db.dialect.nowMs}
    order by lease_until_ms, repository_id limit ${LOOK}`;
  let looked = 0;
  for (const [repositoryId, rows] of Map.groupBy(due, (row) => toNumber(row.repository_id))) {
    looked += await inBatches(
      rows.map((row) => toNumber(row.blob_id)),
      BATCH,
      (blobIds) => pace.run(() => db.tx((tx) => look(tx, repositoryId, blobIds, tally), REPEATED)),
      async (blobId, error) => {
        const fields = { blobId, repositoryId, ...errorFields(error) };
        log.error("cannot let go of a blob; it is left alone for a while", fields);
        await db.tx(async (tx) => {
          await tx.sql`/* gc.bad_link */
            update repository_blob set lease_until_ms = ${tx.dialect.nowMs} + ${BAD_ROW_MS}
            where repository_id = ${repositoryId} and blob_id = ${blobId}`;
        });
      },
    );
  }
  return looked;
}

async function look(tx: Tx, repositoryId: number, blobIds: readonly number[], tally: Tally): Promise<number> {
  const { nowMs, inList } = tx.dialect;
  const state = await lockForGc(tx, repositoryId);
  if (state === "purged") {
    await tx.sql`/* gc.leave_links */
      update repository_blob set lease_until_ms = 0 where repository_id = ${repositoryId} and ${inList("blob_id", blobIds)}`;
    return blobIds.length;
  }
  if (state !== "locked") return 0;
  const ofThese = tx.sql`repository_id = ${repositoryId} and ${inList("blob_id", blobIds)}
    and lease_until_ms > 0 and lease_until_ms <= ${nowMs}`;
  const named = tx.sql`(select 1 from ${namersOf(tx)})`;
  const kept = await tx.sql`/* gc.keep_links */
    update repository_blob as l set lease_until_ms = 0 where ${ofThese} and exists ${named} returning blob_id`;
  const gone = await tx.sql<{ blob_id: number }>`/* gc.delete_links */
    delete from repository_blob as l where ${ofThese} and not exists ${named} returning blob_id`;
  if (gone.length > 0) {
    tally.rows("repository_blob", gone.length);
    await noteBlobs(
      tx,
      gone.map((row) => toNumber(row.blob_id)).sort((a, b) => a - b),
    );
    tx.changed(repositoryKey(repositoryId));
  }
  return kept.length + gone.length;
}
