/**
 * When accounts and tokens were last used: written beside the answer, never before it, and seldom. Source:
 * quay-behaviour reference, section 2 ("Last accessed").
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { Lru } from "../../lib/lru.ts";
import { errorFields } from "../../observe/logger.ts";

/** Whose time is kept: the table and its row. */
export interface Accessed {
  readonly table: "account" | "app_token" | "oauth_token";
  readonly id: number | string;
}

const REMEMBERED_MAX = 20_000;

/** What this process has touched lately, so that a busy client does not write on every request. */
export class LastAccess {
  readonly #touchedMs = new Lru<string, number>(REMEMBERED_MAX);

  /** True, once in `thresholdMs`, when the row is due. */
  isDue(accessed: Accessed, nowMs: number, thresholdMs: number): boolean {
    const key = `${accessed.table}:${accessed.id}`;
    const lastMs = this.#touchedMs.get(key);
    if (lastMs !== undefined && nowMs - lastMs < thresholdMs) return false;
    this.#touchedMs.set(key, nowMs);
    return true;
  }
}

type TouchApp = Pick<App, "config" | "db" | "clock" | "logins" | "log">;

/**
 * FEATURE_USER_LAST_ACCESSED: notes the use of an account or token, at most once in LAST_ACCESSED_UPDATE_THRESHOLD_S.
 * The caller does not wait for it, and a failure is a line in the log.
 */
export function touchLater(app: TouchApp, ...used: Accessed[]): void {
  if (!app.config.FEATURE_USER_LAST_ACCESSED || app.config.REGISTRY_STATE === "readonly") return;
  const nowMs = app.clock.nowMs();
  const thresholdMs = app.config.LAST_ACCESSED_UPDATE_THRESHOLD_S * 1000;
  const due = used.filter((accessed) => app.logins.lastAccess.isDue(accessed, nowMs, thresholdMs));
  if (due.length === 0) return;
  const work = app.db.tx(
    async (tx) => {
      for (const accessed of due) await touch(tx, accessed, nowMs, nowMs - thresholdMs);
    },
    { durable: false },
  );
  work.catch((error: unknown) => app.log.warn("cannot note a last use", errorFields(error)));
}

/** Other instances note uses too: the row says whether one did so since `beforeMs`. */
async function touch(db: Db, { table, id }: Accessed, nowMs: number, beforeMs: number): Promise<void> {
  if (table === "account") {
    await db.sql`/* last_access.account */ update account set last_accessed_ms = ${nowMs}
      where id = ${id} and (last_accessed_ms is null or last_accessed_ms <= ${beforeMs})`;
  } else if (table === "app_token") {
    await db.sql`/* last_access.app_token */ update app_token set last_accessed_ms = ${nowMs}
      where uuid = ${id} and (last_accessed_ms is null or last_accessed_ms <= ${beforeMs})`;
  } else {
    await db.sql`/* last_access.oauth_token */ update oauth_token set last_accessed_ms = ${nowMs}
      where uuid = ${id} and (last_accessed_ms is null or last_accessed_ms <= ${beforeMs})`;
  }
}
