/**
 * The registry's size: the bytes of its distinct blobs, counted when a superuser asks. Blobs are read in pieces by id, and
 * the sum so far is kept in a row, so that a count goes on after a restart and no statement is ever long.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { errorFields } from "../../observe/logger.ts";

const KEY = "registry_size";
/** Blobs summed in one statement: some ten milliseconds. */
const PIECE = 20_000;
/** A count that has not moved for this long was left by an instance that is gone. */
const ABANDONED_MS = 60_000;

interface Count {
  /** The last finished count, undefined before the first. */
  readonly finished?: { readonly sizeBytes: number; readonly endedMs: number };
  /** The one under way; `afterId` is undefined until it has begun. */
  readonly current?: { readonly afterId?: number; readonly sumBytes: number; readonly movedMs: number };
}

export interface RegistrySize {
  readonly sizeBytes: number;
  /** When the last count ended, epoch ms; undefined: never. */
  readonly lastRanMs: number | undefined;
  readonly queued: boolean;
  readonly running: boolean;
}

export async function getRegistrySize(db: Db): Promise<RegistrySize> {
  const { finished, current } = (await read(db)).count;
  return {
    sizeBytes: finished?.sizeBytes ?? 0,
    lastRanMs: finished?.endedMs,
    queued: current !== undefined && current.afterId === undefined,
    running: current?.afterId !== undefined,
  };
}

/** Asks for a count. False when one is queued or under way already. */
export async function requestRegistrySize(app: Pick<App, "db" | "clock">): Promise<boolean> {
  const { text, count, nowMs } = await read(app.db);
  if (count.current) return false;
  return write(app, text, { ...count, current: { sumBytes: 0, movedMs: nowMs } });
}

type CountApp = Pick<App, "db" | "clock" | "state">;

/**
 * Does what there is to count, until it is done, another instance does it, or this one stops. Every piece is written over
 * exactly the state it was read from, so that two at once never add a piece twice.
 */
export async function countRegistrySize(app: CountApp, isOwn: boolean): Promise<void> {
  let mayTake = isOwn;
  while (!app.state.draining) {
    const { text, count, nowMs } = await read(app.db);
    const { current } = count;
    if (!current) return;
    if (!mayTake && nowMs - current.movedMs < ABANDONED_MS) return;
    mayTake = true;
    if (!(await write(app, text, await nextPiece(app, count, current, nowMs)))) return;
  }
}

/** The same beside an answer: failures are a line in the log, and the maintenance goes on with the rest. */
export function countRegistrySizeLater(app: CountApp & Pick<App, "log">): void {
  countRegistrySize(app, true).catch((error: unknown) => {
    if (!app.state.draining) app.log.warn("cannot count the registry's size", errorFields(error));
  });
}

async function nextPiece(
  app: CountApp,
  count: Count,
  current: NonNullable<Count["current"]>,
  nowMs: number,
): Promise<Count> {
  const afterId = current.afterId ?? 0;
  const [row] = await app.db.sql<{ size: number; blobs: number; last: number | null }>`/* registry_size.piece */
    select cast(coalesce(sum(case when state = 'live' then size_bytes else 0 end), 0) as bigint) as size,
           count(*) as blobs, max(id) as last
    from (select id, size_bytes, state from blob where id > ${afterId} order by id limit ${PIECE}) piece`;
  const sumBytes = current.sumBytes + toNumber(row?.size ?? 0);
  if (toNumber(row?.blobs ?? 0) < PIECE) return { finished: { sizeBytes: sumBytes, endedMs: nowMs } };
  return { ...count, current: { afterId: toNumber(row?.last), sumBytes, movedMs: nowMs } };
}

/** The state, and what time it is for the database: instances must agree on how long ago a count moved. */
async function read(db: Db): Promise<{ text: string | undefined; count: Count; nowMs: number }> {
  const [row] = await db.sql<{ value: string | null; now_ms: number }>`/* registry_size.read */
    select ${db.dialect.nowMs} as now_ms, (select value from setting where key = ${KEY}) as value`;
  // Written below and by nobody else.
  const text = row?.value ?? undefined;
  const count = text === undefined ? {} : (JSON.parse(text) as Count);
  return { text, count, nowMs: toNumber(row?.now_ms ?? 0) };
}

/** False when the state is another one by now. */
async function write(app: Pick<App, "db">, before: string | undefined, after: Count): Promise<boolean> {
  const value = JSON.stringify(after);
  return app.db.tx(async (tx) => {
    const rows =
      before === undefined
        ? await tx.sql`/* registry_size.begin */
            insert into setting (key, value) values (${KEY}, ${value}) on conflict do nothing returning key`
        : await tx.sql`/* registry_size.write */
            update setting set value = ${value} where key = ${KEY} and value = ${before} returning key`;
    return rows.length === 1;
  });
}
