/** Ends upload sessions that nobody finished in time. One bounded step of the `chunk_cleanup` work. */

import type { App } from "../../app.ts";
import { errorFields } from "../../observe/logger.ts";
import { deleteUploadRow, listExpiredUploads } from "./queries.ts";

/** Sessions in one step: a step stays short, the next one goes on. */
const STEP_MAX = 100;

/** Removes up to 100 sessions whose time is over, bytes first. Gives how many; one that fails waits for the next step. */
export async function sweepUploads(app: Pick<App, "db" | "clock" | "storage" | "log">): Promise<number> {
  const expired = await listExpiredUploads(app.db, app.clock.nowMs(), STEP_MAX);
  let removed = 0;
  for (const session of expired) {
    try {
      await app.storage.driver(session.location).deleteUpload(session.id, session.storageState);
      await app.db.tx((tx) => deleteUploadRow(tx, session.id));
      removed++;
    } catch (error) {
      app.log.warn("cannot remove a stale upload", { upload: session.id, ...errorFields(error) });
    }
  }
  return removed;
}
