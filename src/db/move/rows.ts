/**
 * Rows of any table by ranges of its primary key: where a page ends, its hash, its rows, and how rows are written and
 * deleted. Both engines cut and hash alike, so that equal ranges are told without sending them anywhere.
 */

import type { Db, SqlQuery, SqlValue, Tx } from "../db.ts";
import { toBoolean, toNumber } from "../decode.ts";
import { fragment } from "../sql.ts";
import { type Column, leaseColumns, type Table } from "./schema.ts";

/** Rows in one range at most: some hundred ranges for a registry of a hundred thousand images. */
export const ROWS_MAX = 2_000;
/** Bytes of one range at most, as far as one row is not larger: that is what a move holds in memory, some times over. */
const BYTES_MAX = 8 * 1024 * 1024;
/** Values in one statement, as `dialect.rows` takes them. */
const VALUES_MAX = 10_000;

/** Values of a primary key, in the order of the key's columns. */
export type Key = readonly SqlValue[];

/** Rows with a key above `after` and not above `until`; without one there is no bound on that side. */
export interface Range {
  readonly after: Key | undefined;
  readonly until: Key | undefined;
}

export interface RangeDigest {
  readonly count: number;
  /** SHA-256 over the rows in the order of their keys, in hex. */
  readonly hash: string;
}

/** Values in the order of the table's columns. */
export type Row = readonly SqlValue[];

/** One row as the two databases compare it. */
export interface RowHash {
  readonly key: Key;
  readonly hash: string;
}

/** The row in `setting` by which a move knows its databases: each has its own. */
export const MARK_KEY = "move";

/** Where the range ends that begins above `after`: a key, or undefined when the rest of the table fits. */
export async function findPageEnd(db: Db, table: Table, after: Key | undefined): Promise<Key | undefined> {
  const where = whereRange(db, table, { after, until: undefined });
  const order = orderBy(db, table);
  const wide = table.columns.filter(({ kind }) => kind === "text" || kind === "bytes");
  if (wide.length === 0) {
    const rows = await db.sql`/* move.page_end */ select ${keyList(table)} from ${nameOf(table)}
      where ${where} order by ${order} limit 1 offset ${ROWS_MAX - 1}`;
    return rows[0] && decodeKey(table, rows[0]);
  }
  const size = raw(wide.map(({ name }) => `coalesce(octet_length(${quote(name)}), 0)`).join(" + "));
  const rows = await db.sql`/* move.page_sizes */ select ${keyList(table)}, ${size} as row_bytes
    from ${nameOf(table)} where ${where} order by ${order} limit ${ROWS_MAX}`;
  let bytes = 0;
  for (const row of rows) {
    bytes += toNumber(row.row_bytes);
    if (bytes >= BYTES_MAX) return decodeKey(table, row);
  }
  const last = rows[rows.length - 1];
  return rows.length < ROWS_MAX || last === undefined ? undefined : decodeKey(table, last);
}

/** Count and hash of a range. More rows than a range can have at the source count as one more: they differ anyway. */
export async function digestRange(db: Db, table: Table, range: Range): Promise<RangeDigest> {
  const where = whereRange(db, table, range);
  const order = orderBy(db, table);
  const text = rowText(db, table);
  if (db.engine === "postgres") {
    const [row] = await db.sql`/* move.digest */
      select count(*) as count, encode(sha256(convert_to(coalesce(string_agg(r, '' order by place), ''), 'UTF8')), 'hex') as hash
      from (select ${text} as r, row_number() over (order by ${order}) as place
            from ${nameOf(table)} where ${where} order by ${order} limit ${ROWS_MAX + 1}) page`;
    return { count: toNumber(row?.count), hash: String(row?.hash) };
  }
  const rows = await db.sql<{ r: string }>`/* move.digest */
    select ${text} as r from ${nameOf(table)} where ${where} order by ${order} limit ${ROWS_MAX + 1}`;
  const hasher = new Bun.CryptoHasher("sha256");
  for (const { r } of rows) hasher.update(r);
  return { count: rows.length, hash: hasher.digest("hex") };
}

/** Keys and hashes of the rows in a range, ROWS_MAX at a time. */
export async function* listHashes(db: Db, table: Table, range: Range): AsyncGenerator<RowHash[]> {
  const order = orderBy(db, table);
  const text = rowText(db, table);
  const hash = db.engine === "postgres" ? fragment(["encode(sha256(convert_to(", ", 'UTF8')), 'hex')"], [text]) : text;
  for (let { after } = range; ; ) {
    const where = whereRange(db, table, { after, until: range.until });
    const rows = await db.sql`/* move.hashes */ select ${keyList(table)}, ${hash} as row_hash
      from ${nameOf(table)} where ${where} order by ${order} limit ${ROWS_MAX}`;
    const page = rows.map((row) => ({
      key: decodeKey(table, row),
      hash: db.engine === "postgres" ? String(row.row_hash) : sha256(String(row.row_hash)),
    }));
    if (page.length > 0) yield page;
    if (page.length < ROWS_MAX) return;
    after = page[page.length - 1]?.key;
  }
}

/** The rows of one range of the source. Throws an Error that names the row when a value is none that Berth writes. */
export async function readRows(db: Db, table: Table, range: Range): Promise<Row[]> {
  const names = raw(table.columns.map(({ name }) => quote(name)).join(", "));
  const rows = await db.sql`/* move.rows */ select ${names} from ${nameOf(table)}
    where ${whereRange(db, table, range)} order by ${orderBy(db, table)} limit ${ROWS_MAX}`;
  const leases = leaseColumns(table);
  return rows.map((row) =>
    table.columns.map((column) => {
      if (leases.has(column.name)) return null;
      try {
        return decodeValue(column, row[column.name]);
      } catch (error) {
        const key = table.key.map(({ name }) => `${name} = ${String(row[name])}`).join(", ");
        const reason = error instanceof Error ? error.message : String(error);
        throw new Error(`Table "${table.name}", row with ${key}, column "${column.name}": ${reason}`, { cause: error });
      }
    }),
  );
}

/** Writes rows that are not there; one whose key or other unique value is taken stays out. */
export async function insertRows(tx: Tx, table: Table, rows: readonly Row[]): Promise<void> {
  const names = raw(table.columns.map(({ name }) => quote(name)).join(", "));
  const step = Math.max(1, Math.floor(VALUES_MAX / table.columns.length));
  for (let start = 0; start < rows.length; start += step) {
    await tx.sql`/* move.insert */ insert into ${nameOf(table)} (${names})
      values ${tx.dialect.rows(rows.slice(start, start + step))} on conflict do nothing`;
  }
}

/** Deletes the rows with these keys. */
export async function deleteRows(tx: Tx, table: Table, keys: readonly Key[]): Promise<void> {
  const step = Math.floor(VALUES_MAX / table.key.length);
  for (let start = 0; start < keys.length; start += step) {
    const part = keys.slice(start, start + step);
    const tuple = table.key.length === 1 ? keyList(table) : fragment(["(", ")"], [keyList(table)]);
    await tx.sql`/* move.delete */ delete from ${nameOf(table)} where ${tuple} in (values ${tx.dialect.rows(part)})`;
  }
}

/** Rows of a whole table, without the mark of a move. */
export async function countRows(db: Db, table: Table): Promise<number> {
  const [row] = await db.sql`/* move.count */ select count(*) as count from ${nameOf(table)}
    where ${whereRange(db, table, { after: undefined, until: undefined })}`;
  return toNumber(row?.count);
}

/** True when a table has no row at all. */
export async function isEmpty(db: Db, table: Table): Promise<boolean> {
  const rows = await db.sql`/* move.is_empty */ select 1 as found from ${nameOf(table)}
    where ${whereRange(db, table, { after: undefined, until: undefined })} limit 1`;
  return rows.length === 0;
}

/** The values of a row's primary key. */
export function keyOf(table: Table, row: Row): Key {
  return table.key.map((column) => row[table.columns.indexOf(column)] ?? null);
}

/** An identifier as SQL takes it. */
export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function raw(text: string): SqlQuery<never> {
  return fragment([text]);
}

function nameOf(table: Table): SqlQuery<never> {
  return raw(quote(table.name));
}

function keyList(table: Table): SqlQuery<never> {
  return raw(table.key.map(({ name }) => quote(name)).join(", "));
}

/** The key's columns as both engines sort them alike. */
function sorted(db: Db, column: Column): string {
  return db.engine === "postgres" && !column.sortsByBytes ? `${quote(column.name)} collate "C"` : quote(column.name);
}

function orderBy(db: Db, table: Table): SqlQuery<never> {
  return raw(table.key.map((column) => sorted(db, column)).join(", "));
}

function whereRange(db: Db, table: Table, { after, until }: Range): SqlQuery<never> {
  const columns = table.key.map((column) => sorted(db, column)).join(", ");
  // The marks of source and target differ, and neither is to be copied.
  const filter = table.name === "setting" ? `"key" <> '${MARK_KEY}'` : "true";
  const strings = [filter];
  const values: SqlValue[] = [];
  for (const [sign, key] of [
    [">", after],
    ["<=", until],
  ] as const) {
    if (key === undefined) continue;
    strings[strings.length - 1] += ` and (${columns}) ${sign} (`;
    key.forEach((value, index) => {
      values.push(value);
      strings.push(index === key.length - 1 ? ")" : ", ");
    });
  }
  return fragment(strings, values);
}

/** One row as a text that no other row has, made by the database. Leases are left out: they end with the move. */
function rowText(db: Db, table: Table): SqlQuery<never> {
  const leases = leaseColumns(table);
  const parts = table.columns.filter(({ name }) => !leases.has(name)).map((column) => columnText(db, column));
  return raw(`${parts.join(" || ';' || ")} || '\n'`);
}

function columnText(db: Db, { name, kind }: Column): string {
  const column = quote(name);
  switch (kind) {
    case "integer":
      return `coalesce(cast(${column} as text), '-')`;
    case "boolean":
      return `case when ${column} then 't' when not ${column} then 'f' else '-' end`;
    case "text":
      return `coalesce(cast(octet_length(${column}) as text) || ':' || ${column}, '-')`;
    case "bytes":
      return `coalesce(${db.engine === "postgres" ? `encode(${column}, 'hex')` : `lower(hex(${column}))`}, '-')`;
  }
}

function decodeKey(table: Table, row: Record<string, unknown>): Key {
  return table.key.map((column) => decodeValue(column, row[column.name]));
}

function decodeValue({ kind }: Column, value: unknown): SqlValue {
  if (value === null) return null;
  switch (kind) {
    case "integer":
      return toNumber(value);
    case "boolean":
      return toBoolean(value);
    case "text":
      if (typeof value !== "string") throw new TypeError(`it holds ${typeof value} where text was expected`);
      if (value.includes("\0")) throw new TypeError("it holds a NUL character, which PostgreSQL cannot keep");
      return value;
    case "bytes":
      if (!(value instanceof Uint8Array)) throw new TypeError(`it holds ${typeof value} where bytes were expected`);
      return value;
  }
}

function sha256(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}
