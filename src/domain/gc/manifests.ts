/**
 * Manifests that nothing keeps any more: no lifetime of a tag that could still be restored, no index, no living subject, no
 * lease. Source: quay-behaviour reference, section 8.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { errorFields } from "../../observe/logger.ts";
import { referenceKey } from "../lookup/lookup.ts";
import { settleUsage, uncountUnnamed } from "../quota/count.ts";
import { BAD_ROW_MS, inBatches, REPEATED } from "./batches.ts";
import { noteLinks, noteManifests } from "./due.ts";
import type { Pace } from "./pace.ts";
import { parentsOf, restorableUntilMs, subjectOf, tagsOf } from "./rules.ts";
import type { Tally } from "./tally.ts";

type ManifestGcApp = Pick<App, "config" | "db" | "log">;

/** Manifests looked at in one transaction: it holds up pushes to the repository for some milliseconds. */
const BATCH = 50;
/** Due manifests read at once, of as many repositories. */
const LOOK = 500;

interface DueRow {
  id: number;
  digest: string;
  deleted_ms: number | null;
  window_s: number;
  tagged: unknown;
  child: unknown;
  subject: unknown;
  now_ms: number;
}

/** Looks at up to 500 manifests whose lease is over. Gives how many were looked at; 0 when there is nothing to do now. */
export async function collectManifests(app: ManifestGcApp, tally: Tally, pace: Pace): Promise<number> {
  const { config, db, log } = app;
  const { nowMs } = db.dialect;
  const due = await db.sql<{ id: number; repository_id: number }>`/* gc.manifest_look */
    select id, repository_id from manifest where lease_until_ms is not null and lease_until_ms <= ${nowMs}
    order by lease_until_ms, id limit ${LOOK}`;
  const byRepository = Map.groupBy(due, (row) => toNumber(row.repository_id));
  let looked = 0;
  for (const [repositoryId, rows] of byRepository) {
    looked += await inBatches(
      rows.map((row) => toNumber(row.id)),
      BATCH,
      (ids) => pace.run(() => db.tx((tx) => look(config, tx, repositoryId, ids, tally), REPEATED)),
      async (id, error) => {
        log.error("cannot collect a manifest; it is left alone for a while", {
          id,
          repositoryId,
          ...errorFields(error),
        });
        await db.tx(async (tx) => {
          await tx.sql`/* gc.bad_manifest */
            update manifest set lease_until_ms = ${tx.dialect.nowMs} + ${BAD_ROW_MS} where id = ${id}`;
        });
      },
    );
  }
  return looked;
}

async function look(
  config: App["config"],
  tx: Tx,
  repositoryId: number,
  ids: readonly number[],
  tally: Tally,
): Promise<number> {
  const { nowMs, inList } = tx.dialect;
  const state = await lockForGc(tx, repositoryId);
  if (state === "purged") {
    await tx.sql`/* gc.leave_manifests */ update manifest set lease_until_ms = null where ${inList("id", ids)}`;
    return ids.length;
  }
  if (state !== "locked") return 0;
  const rows = await tx.sql<DueRow>`/* gc.manifest_kept */
    select m.id, m.digest, m.deleted_ms, a.tag_expiration_s as window_s, ${nowMs} as now_ms,
           exists (select 1 from ${tagsOf(tx)}) as tagged,
           exists (select 1 from ${parentsOf(tx)}) as child,
           exists (select 1 from ${subjectOf(tx)}) as subject
    from manifest m join repository r on r.id = m.repository_id join account a on a.id = r.namespace_id
    where ${inList("m.id", ids)} and m.lease_until_ms is not null and m.lease_until_ms <= ${nowMs}`;
  const kept: number[] = [];
  const gone: DueRow[] = [];
  for (const row of rows) {
    const restorableMs =
      row.deleted_ms === null ? 0 : restorableUntilMs(toNumber(row.deleted_ms), toNumber(row.window_s));
    if (toBoolean(row.tagged) || toBoolean(row.child) || toBoolean(row.subject)) kept.push(toNumber(row.id));
    else if (restorableMs > toNumber(row.now_ms)) await lease(tx, toNumber(row.id), restorableMs);
    else gone.push(row);
  }
  if (kept.length > 0) {
    await tx.sql`/* gc.keep_manifests */
      update manifest set lease_until_ms = null where ${inList("id", kept)}`;
  }
  if (gone.length > 0) await remove(config, tx, repositoryId, gone, tally);
  return rows.length;
}

async function lease(tx: Tx, id: number, untilMs: number): Promise<void> {
  await tx.sql`/* gc.postpone_manifest */ update manifest set lease_until_ms = ${untilMs} where id = ${id}`;
}

async function remove(
  config: App["config"],
  tx: Tx,
  repositoryId: number,
  manifests: readonly Pick<DueRow, "id" | "digest">[],
  tally: Tally,
): Promise<void> {
  const { inList } = tx.dialect;
  const ids = manifests.map((row) => toNumber(row.id));
  const digests = manifests.map((row) => row.digest);
  // What these kept is due now: an index its images, a subject its referrers, each its blobs.
  const kin = await tx.sql<{ id: number }>`/* gc.kin */
    select child_id as id from manifest_child where child_id is not null and ${inList("manifest_id", ids)}
    union
    select id from manifest where repository_id = ${repositoryId} and subject_digest is not null
      and ${inList("subject_digest", digests)}`;
  const named = await deleteManifestRows(tx, repositoryId, ids, digests, tally);
  if (kin.length > 0) {
    await noteManifests(
      tx,
      kin.map((row) => toNumber(row.id)),
    );
  }
  if (named.length > 0) await noteLinks(tx, repositoryId, named);
  for (const digest of digests) tx.changed(referenceKey(repositoryId, digest));
  await settleUsage(tx, await uncountUnnamed(config, tx, repositoryId, named));
}

/** Deletes manifests with all that is written of them. No tag points at them. Gives the ids of the blobs they named. */
export async function deleteManifestRows(
  tx: Tx,
  repositoryId: number,
  ids: readonly number[],
  digests: readonly string[],
  tally: Tally,
): Promise<number[]> {
  const { inList } = tx.dialect;
  const ofThese = inList("manifest_id", ids);
  const labels = await tx.sql`/* gc.delete_labels */ delete from label where ${ofThese} returning id`;
  const named = await tx.sql<{ blob_id: number }>`/* gc.delete_named */
    delete from manifest_blob where ${ofThese} returning blob_id`;
  await tx.sql`/* gc.delete_awaited */ delete from manifest_missing_blob where ${ofThese}`;
  await tx.sql`/* gc.delete_children */ delete from manifest_child where ${ofThese}`;
  await tx.sql`/* gc.delete_manifest_pulls */
    delete from manifest_pull where repository_id = ${repositoryId} and ${inList("manifest_digest", digests)}`;
  await tx.sql`/* gc.delete_manifests */ delete from manifest where ${inList("id", ids)}`;
  tally.rows("label", labels.length);
  tally.rows("manifest", ids.length);
  return [...new Set(named.map((row) => toNumber(row.blob_id)))];
}

/**
 * The lock under which repositories change; "busy" when somebody has it now. What a "purged" one holds goes with it as a whole,
 * and must not stand before everybody else's until then: a caller takes its appointments away. In one that can be restored
 * time goes on.
 */
export async function lockForGc(tx: Tx, repositoryId: number): Promise<"locked" | "busy" | "purged"> {
  const [row] = await tx.sql<{ purged: unknown }>`/* gc.lock_repository */
    select deleted_ms is not null and restore_state is null as purged from repository
    where id = ${repositoryId} ${tx.dialect.skipLocked}`;
  if (!row) return "busy";
  return toBoolean(row.purged) ? "purged" : "locked";
}
