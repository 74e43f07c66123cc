/**
 * What a database knows of its moves: one row of `setting`, which is never copied. It tells an unfinished target from a
 * finished one, keeps two moves apart, and lets instances refuse to start where they should not.
 */

import { z } from "zod";
import { ConfigError } from "../../config/error.ts";
import type { Db, Tx } from "../db.ts";
import { schemaVersion } from "../migrate.ts";
import { MARK_KEY } from "./rows.ts";

/** What `tx.changed` calls a change of the mark. */
export const MOVE_CHANGED = "move";

/** A foreign key that is off while rows come in. */
export interface Constraint {
  readonly table: string;
  readonly name: string;
  readonly definition: string;
}

export type Mark =
  /** A source that is being copied, or was once. `id` names it to its targets. */
  | { readonly state: "source"; readonly id: string }
  /** A source that has been left: `to` is the new address without its password. */
  | { readonly state: "moved"; readonly id: string; readonly to: string; readonly atMs: number }
  /** A target that is not finished. `run` is the process that may write to it; `id` and `from` name its source. */
  | {
      readonly state: "target";
      readonly id: string;
      readonly from: string;
      readonly run: string;
      readonly constraints: readonly Constraint[];
    };

function parseMark(text: string): Mark {
  const id = z.string();
  const constraint = z.object({ table: z.string(), name: z.string(), definition: z.string() });
  return z
    .discriminatedUnion("state", [
      z.object({ state: z.literal("source"), id }),
      z.object({ state: z.literal("moved"), id, to: z.string(), atMs: z.number() }),
      z.object({
        state: z.literal("target"),
        id,
        from: z.string(),
        run: z.string(),
        constraints: z.array(constraint),
      }),
    ])
    .parse(JSON.parse(text));
}

/** The mark of a database with a schema. */
export async function findMark(db: Db): Promise<Mark | undefined> {
  const [row] = await db.sql<{ value: string }>`/* move.mark */ select value from setting where key = ${MARK_KEY}`;
  return row && parseMark(row.value);
}

/** The same inside a transaction: nobody else changes it until that ends. */
export async function lockMark(tx: Tx): Promise<Mark | undefined> {
  const [row] = await tx.sql<{ value: string }>`/* move.lock_mark */
    select value from setting where key = ${MARK_KEY}${tx.dialect.forUpdate}`;
  return row && parseMark(row.value);
}

export async function putMark(tx: Tx, mark: Mark): Promise<void> {
  await tx.sql`/* move.put_mark */ insert into setting (key, value) values (${MARK_KEY}, ${JSON.stringify(mark)})
    on conflict (key) do update set value = excluded.value`;
  tx.changed(MOVE_CHANGED);
}

export async function removeMark(tx: Tx): Promise<void> {
  await tx.sql`/* move.remove_mark */ delete from setting where key = ${MARK_KEY}`;
  tx.changed(MOVE_CHANGED);
}

/**
 * Called before an instance or a command uses a database. Throws ConfigError when it was moved to another one, or is the
 * target of a move that has not ended: what would be written there would be lost.
 */
export async function requireUsable(db: Db): Promise<void> {
  const mark = (await schemaVersion(db)) === 0 ? undefined : await findMark(db);
  if (mark?.state === "moved") throw new ConfigError([{ key: "DB_URI", message: `DB_URI: ${describeMoved(mark)}` }]);
  if (mark?.state !== "target") return;
  const message = `DB_URI: the move from "${mark.from}" into this database has not ended; run "berth migrate --from … --to …" once more until it says that it is done, or go on with the database that DB_URI named before.`;
  throw new ConfigError([{ key: "DB_URI", message }]);
}

/** For operators: where a database went and what to do. */
export function describeMoved({ to, atMs }: Extract<Mark, { state: "moved" }>): string {
  const at = new Date(atMs).toISOString();
  return `this database was moved to "${to}" at ${at}; set DB_URI to that one and start again. To go back to this one, without what was changed there since: berth migrate --reopen`;
}
