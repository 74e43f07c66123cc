/**
 * Closes a database that was moved: a trigger on each table fails every change, also of an instance that has not heard of
 * the move and of one whose transaction waited for the lock. Taking them away opens it again.
 */

import type { Db, Tx } from "../db.ts";
import { MOVED_STATE, MOVED_TEXT } from "../moved.ts";
import { quote } from "./rows.ts";
import type { Table } from "./schema.ts";

/**
 * What is written beside pulls. Entries that come in between the move and the instance's restart stay in the old database;
 * refusing them would refuse the pulls with strict logging.
 */
const LEFT_OPEN: ReadonlySet<string> = new Set(["action_log", "manifest_pull", "tag_pull", "repository_action_count"]);
const PREFIX = "berth_moved";
const EVENTS = ["insert", "update", "delete"] as const;

/** From the commit on nothing changes any more. Idempotent. */
export async function closeForChanges(tx: Tx, tables: readonly Table[]): Promise<void> {
  await openForChanges(tx);
  const names = tables.map(({ name }) => name).filter((name) => !LEFT_OPEN.has(name));
  if (tx.engine === "sqlite") {
    for (const name of names) {
      for (const event of EVENTS) {
        await tx.script(`create trigger ${quote(`${PREFIX}_${event}_${name}`)} before ${event} on ${quote(name)}
          begin select raise(abort, '${MOVED_TEXT}'); end`);
      }
    }
    return;
  }
  await tx.script(`create or replace function ${PREFIX}() returns trigger language plpgsql as $$
    begin raise exception '${MOVED_TEXT}' using errcode = '${MOVED_STATE}'; end $$`);
  for (const name of names) {
    await tx.script(`create trigger ${PREFIX} before ${EVENTS.join(" or ")} on ${quote(name)}
      for each row execute function ${PREFIX}()`);
  }
}

/** Takes the triggers away, if there are any. */
export async function openForChanges(tx: Tx): Promise<void> {
  for (const { trigger, table } of await listGuards(tx)) {
    await tx.script(`drop trigger ${quote(trigger)}${tx.engine === "postgres" ? ` on ${quote(table)}` : ""}`);
  }
  if (tx.engine === "postgres") await tx.script(`drop function if exists ${PREFIX}()`);
}

function listGuards(db: Db): PromiseLike<{ trigger: string; table: string }[]> {
  const prefixLength = PREFIX.length;
  if (db.engine === "sqlite") {
    return db.sql<{ trigger: string; table: string }>`/* move.guards */
      select name as "trigger", tbl_name as "table" from sqlite_schema
      where type = 'trigger' and substr(name, 1, ${prefixLength}) = ${PREFIX}`;
  }
  return db.sql<{ trigger: string; table: string }>`/* move.guards */
    select t.tgname as "trigger", c.relname as "table" from pg_trigger t
    join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = current_schema() and not t.tgisinternal and t.tgname = ${PREFIX}`;
}
