/** Ends uploads that nobody finished: those with a session, and what a crash left in a store without one. */

import type { App } from "../../app.ts";
import type { Database } from "../../db/db.ts";
import { errorFields } from "../../observe/logger.ts";
import { endUpload } from "./end.ts";
import { listExpiredUploads } from "./queries.ts";

type SweepApp = Pick<App, "config" | "db" | "clock" | "storage" | "log" | "state">;

/** Sessions or leftovers in one step: a step stays short, the next one goes on. */
const STEP_MAX = 100;
/** Nobody's bytes are this much older than the longest session: instances' and stores' clocks differ. */
const LEFTOVER_MARGIN_MS = 60 * 60_000;
const CLEANED = "uploads_cleaned";

/**
 * Removes up to 100 sessions of each store whose time is over, bytes first. Gives how many; one that fails waits for the next
 * round, and a store that is away keeps no other's waiting.
 */
export async function sweepUploads(app: SweepApp): Promise<number> {
  let removed = 0;
  for (const location of app.storage.locations) {
    if (!app.storage.isUp(location)) continue;
    for (const session of await listExpiredUploads(app.db, location, app.clock.nowMs(), STEP_MAX)) {
      try {
        await endUpload(app, session);
        removed++;
      } catch (error) {
        app.log.warn("cannot remove a stale upload", { upload: session.id, ...errorFields(error) });
      }
    }
  }
  return removed;
}

/**
 * CLEAN_BLOB_UPLOAD_FOLDER: removes what a store keeps of uploads that no session tells of any more. One of the instances
 * does it, once in BLOBUPLOAD_CLEANUP_FREQUENCY; what it costs goes by the uploads that are under way, not by the blobs.
 */
export async function cleanStores(app: SweepApp): Promise<void> {
  const { config, storage, state, log } = app;
  if (!config.CLEAN_BLOB_UPLOAD_FOLDER) return;
  if (!(await takeTurn(app.db, config.BLOBUPLOAD_CLEANUP_FREQUENCY * 1000))) return;
  const beforeMs = app.clock.nowMs() - config.BLOBUPLOAD_DELETION_DATE_THRESHOLD * 60_000 - LEFTOVER_MARGIN_MS;
  for (const location of storage.locations.filter((name) => storage.isUp(name))) {
    try {
      let total = 0;
      for (let removed = 1; removed > 0 && !state.draining; total += removed) {
        removed = await storage.driver(location).cleanUploads(beforeMs, STEP_MAX);
      }
      if (total > 0) log.info("removed what was left of uploads", { location, count: total });
    } catch (error) {
      log.warn("cannot remove what is left of uploads", { location, ...errorFields(error) });
    }
  }
}

/** True for one of the instances that ask within `everyMs`, by the database's clock. */
async function takeTurn(db: Database, everyMs: number): Promise<boolean> {
  const { nowMs } = db.dialect;
  return db.tx(async (tx) => {
    const rows = await tx.sql`/* upload.clean_turn */
      insert into setting (key, value) values (${CLEANED}, cast(${nowMs} as text))
      on conflict (key) do update set value = excluded.value
      where cast(setting.value as bigint) <= cast(excluded.value as bigint) - ${everyMs} returning key`;
    return rows.length > 0;
  });
}
