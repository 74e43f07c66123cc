/**
 * How processes on one SQLite file hear of each other's changes: `pragma data_version` says that someone else committed,
 * and a short log table says which keys. Without the table, every lease a worker takes would empty every cache.
 */

import { randomUUID } from "node:crypto";
import type { ChangeListeners } from "./changes.ts";
import type { DatabaseLog } from "./options.ts";
import type { SqliteConnection } from "./sqlite-connection.ts";

/** Log rows kept; a process that falls further behind is told that anything may have changed. */
const logRowsMax = 4096;
/** The log is cut once in so many entries. */
const pruneEvery = 256;
/** Beyond this many rows at once, reading keys costs more than dropping everything. */
const readRowsMax = 500;

export class SqliteChangeLog {
  /** True while the last look at the file worked. */
  hears = true;
  readonly #writer: SqliteConnection;
  readonly #reader: SqliteConnection;
  readonly #listeners: ChangeListeners;
  readonly #log: DatabaseLog;
  readonly #origin = randomUUID();
  #version: number;
  #seenId: number;

  /** Makes the table. It belongs to this mechanism and not to the schema, so it is there before any migration runs. */
  static prepare(writer: SqliteConnection): void {
    if (writer.all("select 1 from sqlite_schema where name = 'berth_change'").length > 0) return;
    writer.script(
      "create table if not exists berth_change (id integer primary key autoincrement, origin text not null, keys text not null)",
    );
  }

  constructor(writer: SqliteConnection, reader: SqliteConnection, listeners: ChangeListeners, log: DatabaseLog) {
    this.#writer = writer;
    this.#reader = reader;
    this.#listeners = listeners;
    this.#log = log;
    this.#version = this.#readVersion();
    this.#seenId = this.#lastId();
  }

  /** Inside the open transaction: notes the keys for other processes. Gives the row's id, undefined for no keys. */
  write(keys: readonly string[]): number | undefined {
    if (keys.length === 0) return undefined;
    const [row] = this.#writer.all("insert into berth_change (origin, keys) values (?, ?) returning id", [
      this.#origin,
      JSON.stringify(keys),
    ]) as { id: number }[];
    const id = row?.id;
    if (id !== undefined && id % pruneEvery === 0) {
      this.#writer.all("delete from berth_change where id <= ?", [id - logRowsMax]);
    }
    return id;
  }

  /** After the commit: our own row need not be read again when nobody else's lies before it. */
  committed(id: number | undefined): void {
    if (id === this.#seenId + 1) this.#seenId = id;
  }

  /** Tells the listeners what other processes have committed since the last look. Cheap when there is nothing. */
  check(): void {
    try {
      // On the writer: its own commits leave its data_version as it is, so a new value means someone else.
      const version = this.#readVersion();
      if (version === this.#version && this.hears) return;
      const missed = !this.hears;
      this.#version = version;
      const keys = this.#readKeys();
      this.hears = true;
      if (missed || keys === undefined) this.#listeners.deliver(undefined);
      else if (keys.length > 0) this.#listeners.deliver(keys);
    } catch (error) {
      if (this.hears) this.#log.warn("Changes of other processes cannot be read.", { error: String(error) });
      this.hears = false;
    }
  }

  /** The keys others changed since the last look, undefined when some of that is not in the log any more. */
  #readKeys(): string[] | undefined {
    // On the reader, which sees only what is committed: a row of our own open transaction could still be rolled back.
    const rows = this.#reader.all("select id, origin, keys from berth_change where id > ? order by id limit ?", [
      this.#seenId,
      readRowsMax,
    ]) as { id: number; origin: string; keys: string }[];
    const first = rows[0];
    const last = rows[rows.length - 1];
    if (first === undefined || last === undefined) return [];
    const complete = first.id === this.#seenId + 1 && rows.length < readRowsMax;
    this.#seenId = complete ? last.id : this.#lastId();
    if (!complete) return undefined;
    const foreign = rows.filter((row) => row.origin !== this.#origin);
    return [...new Set(foreign.flatMap((row) => JSON.parse(row.keys) as string[]))];
  }

  #readVersion(): number {
    const [row] = this.#writer.all("pragma data_version") as { data_version: number }[];
    return row?.data_version ?? 0;
  }

  #lastId(): number {
    const [row] = this.#reader.all("select max(id) as id from berth_change") as { id: number | null }[];
    return row?.id ?? 0;
  }
}
