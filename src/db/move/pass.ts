/**
 * One pass over one table: range by range the hashes of both databases are compared, and where they differ the target is
 * brought to what the source has. Two walks, so that unique values never collide: after the first every row of the target
 * stands in the source like that, and a part of a sound table takes the rest of it.
 */

import type { Database, Db, SqlValue } from "../db.ts";
import {
  deleteRows,
  digestRange,
  findPageEnd,
  insertRows,
  isEmpty,
  type Key,
  keyOf,
  listHashes,
  type Range,
  type RangeDigest,
  readRows,
} from "./rows.ts";
import type { Table } from "./schema.ts";
import { type Claim, requireClaim } from "./target.ts";

export interface PassResult {
  /** Rows of the source that were looked at. */
  rows: number;
  inserted: number;
  /** Rows of the target that the source does not have, or has otherwise: those come again among the inserted. */
  deleted: number;
  /** Over the hashes of the source's ranges. */
  hash: string;
}

export interface PassInput {
  /** What is read: the source's pool, or its transaction while it is closed for changes. */
  readonly from: Db;
  readonly to: Database;
  readonly claim: Claim;
  readonly table: Table;
  /** Reads again what was written and throws when it is not what the source has. For a source that stands still. */
  readonly verify: boolean;
  /** Called after each range with the rows in it. */
  onRows(rows: number): void;
}

/** Ranges in work at once: one database's half of one runs while the other's half of the next does. */
const AT_ONCE = 3;

/** Brings the target's table to what the source's holds now. What changes meanwhile is the next pass's. */
export async function passTable(input: PassInput): Promise<PassResult> {
  const { from, to, table } = input;
  if (!input.verify && (await isEmpty(to, table))) return copyAll(input);
  const result: PassResult = { rows: 0, inserted: 0, deleted: 0, hash: "" };
  const hasher = new Bun.CryptoHasher("sha256");
  const different: Range[] = [];
  await eachRange(from, table, async (range) => {
    const [here, there] = await digestBoth(from, to, table, range);
    result.rows += here.count;
    if (here.hash !== there.hash) {
      different.push(range);
      result.deleted += await deleteStale(input, range);
    }
    input.onRows(here.count);
    return () => hasher.update(here.hash);
  });
  for (const range of different) result.inserted += await insertMissing(input, range);
  if (input.verify) {
    for (const range of different) await requireEqual(input, range);
  }
  result.hash = hasher.digest("hex");
  return result;
}

/** Both at once: SQLite's half runs on this thread while PostgreSQL works on its own. */
export async function digestBoth(from: Db, to: Db, table: Table, range: Range): Promise<[RangeDigest, RangeDigest]> {
  const there = digestRange(to, table, range);
  const both = await Promise.all([digestRange(from, table, range), there]);
  return both;
}

/**
 * Works on the ranges of the source's table, some at once. What the work gives is called in the order of the ranges. After
 * a failure nothing new begins, and it throws when what runs has ended.
 */
export async function eachRange(from: Db, table: Table, work: (range: Range) => Promise<() => void>): Promise<void> {
  const running: Promise<() => void>[] = [];
  try {
    for await (const range of ranges(from, table)) {
      if (running.length >= AT_ONCE) (await running.shift())?.();
      running.push(work(range));
    }
    while (running.length > 0) (await running.shift())?.();
  } finally {
    await Promise.allSettled(running);
  }
}

/** The source's table cut into ranges that are small enough to be held in memory. */
async function* ranges(from: Db, table: Table): AsyncGenerator<Range> {
  for (let after: Key | undefined; ; ) {
    const until = await findPageEnd(from, table, after);
    yield { after, until };
    if (until === undefined) return;
    after = until;
  }
}

/** An empty table has nothing to compare. */
async function copyAll({ from, to, claim, table, onRows }: PassInput): Promise<PassResult> {
  const result: PassResult = { rows: 0, inserted: 0, deleted: 0, hash: "" };
  await eachRange(from, table, async (range) => {
    const rows = await readRows(from, table, range);
    if (rows.length > 0) await write(to, claim, (tx) => insertRows(tx, table, rows));
    result.rows += rows.length;
    result.inserted += rows.length;
    onRows(rows.length);
    return () => undefined;
  });
  return result;
}

async function deleteStale({ from, to, claim, table }: PassInput, range: Range): Promise<number> {
  const wanted = await hashesOf(from, table, range);
  let deleted = 0;
  for await (const page of listHashes(to, table, range)) {
    const stale = page.filter(({ key, hash }) => wanted.get(textOf(key)) !== hash).map(({ key }) => key);
    if (stale.length === 0) continue;
    await write(to, claim, (tx) => deleteRows(tx, table, stale));
    deleted += stale.length;
  }
  return deleted;
}

async function insertMissing({ from, to, claim, table }: PassInput, range: Range): Promise<number> {
  const there = new Set<string>();
  for await (const page of listHashes(to, table, range)) for (const { key } of page) there.add(textOf(key));
  const missing = (await readRows(from, table, range)).filter((row) => !there.has(textOf(keyOf(table, row))));
  if (missing.length > 0) await write(to, claim, (tx) => insertRows(tx, table, missing));
  return missing.length;
}

async function requireEqual({ from, to, table }: PassInput, range: Range): Promise<void> {
  const [here, there] = await digestBoth(from, to, table, range);
  if (here.hash === there.hash) return;
  const keys = (key: Key | undefined) => (key === undefined ? "the end" : textOf(key));
  throw new Error(
    `Table "${table.name}" came out different between ${keys(range.after)} and ${keys(range.until)} (${here.count} rows here, ${there.count} there). The source stays in use; nothing is lost.`,
  );
}

async function hashesOf(db: Db, table: Table, range: Range): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  for await (const page of listHashes(db, table, range))
    for (const { key, hash } of page) hashes.set(textOf(key), hash);
  return hashes;
}

/** Rows that power loss takes back come again with the next run; the end of the move is durable. */
async function write(to: Database, claim: Claim, work: Parameters<Database["tx"]>[0]): Promise<void> {
  await to.tx(
    async (tx) => {
      await requireClaim(tx, claim);
      await work(tx);
    },
    { durable: false },
  );
}

/** A key as a text of its own, to find it in a map. */
export function textOf(key: readonly SqlValue[]): string {
  return JSON.stringify(key);
}
