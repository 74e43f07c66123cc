/**
 * Lets background work rest on a database that was moved to another one: there it would fail at every step, and what it
 * removes from a store may be in use by those who work on the new database.
 */

import type { App } from "../app.ts";
import { findMark, MOVE_CHANGED } from "../db/move/mark.ts";
import { errorFields } from "../observe/logger.ts";

type Stop = () => Promise<void>;

/** Starts the work, stops it when a move closes the database, starts it again when that is taken back. */
export function restWhileMoved(app: Pick<App, "db" | "log">, start: () => Stop): Stop {
  let stopWork: Stop | undefined = start();
  let over = false;
  let looking: Promise<void> = Promise.resolve();

  async function look(): Promise<void> {
    try {
      const mark = await findMark(app.db);
      if (mark?.state === "moved" && stopWork) {
        app.log.warn("this database was moved: pulls go on, changes are refused; set DB_URI and start again", {
          to: mark.to,
        });
        const stop = stopWork;
        stopWork = undefined;
        await stop();
      } else if (mark?.state !== "moved" && !stopWork && !over) {
        app.log.info("the move of this database was taken back");
        stopWork = start();
      }
    } catch (error) {
      app.log.warn("cannot ask whether this database was moved", errorFields(error));
    }
  }

  const unsubscribe = app.db.onChanged((keys) => {
    if (keys === undefined || keys.includes(MOVE_CHANGED)) looking = looking.then(look);
  });
  return async () => {
    over = true;
    unsubscribe();
    await looking;
    await stopWork?.();
  };
}
