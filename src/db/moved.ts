/**
 * How a database that was moved refuses changes: triggers that the move leaves behind (`move/guard.ts`) fail every write,
 * whichever instance tries it and whatever it has heard, and this says what such a failure looks like.
 */

import { RegistryError } from "../errors.ts";

/** What the triggers say; SQLite has no codes of its own for it. */
export const MOVED_TEXT = "berth: this database was moved";
/** SQLSTATE of the same on PostgreSQL: a class that is nobody's. */
export const MOVED_STATE = "BM001";

/** True when `error` is what a moved database refuses a change with, as `movedError` made it. */
export function isMoved(error: unknown): boolean {
  return error instanceof RegistryError && error.code === "unavailable" && error.detail.moved === true;
}

/** What a client is told: that waiting here does not help, and not where the database went. */
export function movedError(cause: unknown): RegistryError {
  return new RegistryError("unavailable", {
    message:
      "The registry has moved to another database: this instance answers pulls, but takes no changes until it is started with the new DB_URI.",
    detail: { moved: true },
    cause,
  });
}

/** For what is only noted beside an answer, such as a failed log-in: a moved database goes on answering without it. */
export async function unlessMoved(work: Promise<void>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!isMoved(error)) throw error;
  });
}
