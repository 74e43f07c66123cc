/**
 * What was freed, for those who look: sums of each day and the last round of each instance, in rows, so that they outlive
 * processes and are one for all instances. They are written beside the work: a crash loses the last seconds of them.
 */

import { hostname } from "node:os";
import type { Database, Db, SqlValue } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { databaseNowMs } from "../../db/now.ts";
import type { Tally } from "./tally.ts";

const DAY_MS = 24 * 3600 * 1000;
/** A long round is written this often. */
const NOTE_MS = 10_000;
/** A round that has not been heard of for this long died with its instance. */
const LOST_MS = 60_000;
/** Instances that have collected nothing for so long are forgotten. */
const ROUND_KEPT_MS = 7 * DAY_MS;
/** Rounds that are shown. */
const ROUNDS_MAX = 20;

/** Names this process among the instances. */
export const INSTANCE = `${hostname()}:${process.pid}`;

/** Runs `work` and writes down what it adds to `tally`: nothing when that is nothing. Throws what `work` throws. */
export async function noteRound(db: Database, tally: Tally, work: () => Promise<void>): Promise<void> {
  const startedMs = performance.now();
  let noted: Amounts = new Map();
  let writing: Promise<void> = Promise.resolve();
  const note = (ended: boolean): Promise<void> => {
    writing = writing.then(async () => {
      if (tally.isEmpty) return;
      const amounts = amountsOf(tally);
      await write(db, amounts, noted, { forMs: performance.now() - startedMs, ended });
      noted = amounts;
    });
    return writing;
  };
  // One that fails is made up for by the next.
  const timer = setInterval(() => void note(false).catch(() => undefined), NOTE_MS);
  try {
    await work();
  } finally {
    clearInterval(timer);
    writing = writing.catch(() => undefined);
    await note(true);
  }
}

type Amounts = ReadonlyMap<string, number>;

/** Adds what `amounts` has beyond those that were `noted` already. */
async function write(
  db: Database,
  amounts: Amounts,
  noted: Amounts,
  round: { readonly forMs: number; readonly ended: boolean },
): Promise<void> {
  const nowMs = await databaseNowMs(db);
  const day = Math.floor(nowMs / DAY_MS);
  // In one order, so that two instances do not wait for each other.
  const added = [...amounts]
    .map(([kind, amount]): [number, string, number] => [day, kind, amount - (noted.get(kind) ?? 0)])
    .filter(([, , amount]) => amount > 0)
    .sort(([, a], [, b]) => (a < b ? -1 : 1));
  const rows = [...amounts].reduce((sum, [kind, amount]) => sum + (kind.startsWith("rows:") ? amount : 0), 0);
  const startedMs = Math.round(nowMs - round.forMs);
  const sums = [rows, amounts.get("blobs") ?? 0, amounts.get("bytes") ?? 0];
  const row: SqlValue[] = [INSTANCE, startedMs, nowMs, round.ended, ...sums];
  await db.tx(
    async (tx) => {
      if (added.length > 0) {
        await tx.sql`/* gc_freed.add */
          insert into gc_freed (day, kind, amount) values ${tx.dialect.rows(added)}
          on conflict (day, kind) do update set amount = gc_freed.amount + excluded.amount`;
      }
      await tx.sql`/* gc_round.note */
        insert into gc_round (instance, started_ms, noted_ms, ended, row_count, blob_count, size_bytes)
        values ${tx.dialect.rows([row])}
        on conflict (instance) do update
        set started_ms = excluded.started_ms, noted_ms = excluded.noted_ms, ended = excluded.ended,
            row_count = excluded.row_count, blob_count = excluded.blob_count, size_bytes = excluded.size_bytes`;
      await tx.sql`/* gc_round.forget */ delete from gc_round where noted_ms < ${nowMs - ROUND_KEPT_MS}`;
    },
    { durable: false },
  );
}

function amountsOf(tally: Tally): Amounts {
  const { blobs, bytes, repositories, namespaces } = tally;
  const rows = [...tally.rowsByTable].map(([table, count]): [string, number] => [`rows:${table}`, count]);
  return new Map([...Object.entries({ blobs, bytes, repositories, namespaces }), ...rows]);
}

/** What went in a time. */
export interface Freed {
  readonly bytes: number;
  readonly blobs: number;
  readonly repositories: number;
  readonly namespaces: number;
  readonly rows: number;
  readonly rowsByTable: Readonly<Record<string, number>>;
}

export interface FreedTotals {
  /** Start of the day (UTC) on which something was freed first, epoch ms; undefined: nothing ever was. */
  readonly sinceMs: number | undefined;
  readonly total: Freed;
  /** This day and the six before it. */
  readonly week: Freed;
  /** Since midnight, UTC. */
  readonly today: Freed;
}

/** Reads some rows for each day. */
export async function findFreed(db: Db, nowMs: number): Promise<FreedTotals> {
  const today = Math.floor(nowMs / DAY_MS);
  const rows = await db.sql<{ kind: string; total: unknown; week: unknown; today: unknown; since: unknown }>`
    /* gc_freed.sums */
    select kind, cast(sum(amount) as bigint) as total,
           cast(coalesce(sum(amount) filter (where day > ${today - 7}), 0) as bigint) as week,
           cast(coalesce(sum(amount) filter (where day >= ${today}), 0) as bigint) as today, min(day) as since
    from gc_freed group by kind`;
  const since = rows.map((row) => toNumber(row.since) * DAY_MS);
  const sumOf = (span: "total" | "week" | "today"): Freed => {
    const amounts = new Map(rows.map((row) => [row.kind, toNumber(row[span])]));
    const tables = [...amounts].filter(([kind, amount]) => kind.startsWith("rows:") && amount > 0);
    return {
      bytes: amounts.get("bytes") ?? 0,
      blobs: amounts.get("blobs") ?? 0,
      repositories: amounts.get("repositories") ?? 0,
      namespaces: amounts.get("namespaces") ?? 0,
      rows: tables.reduce((sum, [, amount]) => sum + amount, 0),
      rowsByTable: Object.fromEntries(tables.map(([kind, amount]) => [kind.slice("rows:".length), amount])),
    };
  };
  return {
    sinceMs: since.length === 0 ? undefined : Math.min(...since),
    total: sumOf("total"),
    week: sumOf("week"),
    today: sumOf("today"),
  };
}

/** The last round of an instance in which it collected something. Times are epoch ms by the database's clock. */
export interface Round {
  readonly instance: string;
  readonly startedMs: number;
  readonly durationMs: number;
  /** "lost": its instance ended without a word. */
  readonly state: "running" | "ended" | "lost";
  readonly rows: number;
  readonly blobs: number;
  readonly bytes: number;
}

/** Of each instance that has collected something in the last seven days, the latest first; at most 20. */
export async function findRounds(db: Db, nowMs: number): Promise<Round[]> {
  const rows = await db.sql<{
    instance: string;
    started_ms: number;
    noted_ms: number;
    ended: unknown;
    row_count: number;
    blob_count: number;
    size_bytes: number;
  }>`/* gc_round.list */
    select instance, started_ms, noted_ms, ended, row_count, blob_count, size_bytes
    from gc_round order by noted_ms desc, instance limit ${ROUNDS_MAX}`;
  return rows.map((row) => {
    const [startedMs, notedMs] = [toNumber(row.started_ms), toNumber(row.noted_ms)];
    const running = nowMs - notedMs > LOST_MS ? "lost" : "running";
    return {
      instance: row.instance,
      startedMs,
      durationMs: notedMs - startedMs,
      state: toBoolean(row.ended) ? "ended" : running,
      rows: toNumber(row.row_count),
      blobs: toNumber(row.blob_count),
      bytes: toNumber(row.size_bytes),
    };
  });
}
