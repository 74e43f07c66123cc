/**
 * SQLite as a `Database`: one writer connection behind a mutex, one reader for everything outside transactions, and word of
 * what other processes commit. Reads never wait for a writer; a writer waits without blocking the thread.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { closeSync, fsyncSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { RegistryError } from "../errors.ts";
import { ChangeListeners, PendingEffects } from "./changes.ts";
import type { Database, DbStats, SqlQuery, Tx, TxOptions } from "./db.ts";
import { sqliteDialect } from "./dialect.ts";
import { JobStats } from "./job-stats.ts";
import { Mutex } from "./mutex.ts";
import { type DatabaseHooks, type DatabaseLog, silentLog } from "./options.ts";
import { makeRenderer, makeSql, type Statement } from "./sql.ts";
import { SqliteChangeLog } from "./sqlite-changes.ts";
import { isBusy, SqliteConnection } from "./sqlite-connection.ts";
import { WalSync } from "./wal-sync.ts";

export interface SqliteOptions extends DatabaseHooks {
  /** The database file; it and its folder are made when absent. */
  readonly path: string;
  /** How long a writer waits for another process before it throws `unavailable`. */
  readonly lockTimeoutMs?: number;
  /** How often changes of other processes are looked for. */
  readonly pollMs?: number;
}

/** Far more than requests can be in flight; a longer queue would only make every answer late. */
const waitingWritersMax = 10_000;
/** Between two tries for another process's lock. Short ones first: most transactions last less than a millisecond. */
const lockRetryDelaysMs = [0, 1, 1, 2, 2, 5] as const;
const lockRetryDelayMaxMs = 10;

/** Opens the file. Throws `unavailable` or `storage_full` with the cause when it cannot be used. */
export async function openSqlite(options: SqliteOptions): Promise<Database> {
  const path = resolve(options.path);
  makeFile(path);
  const lockTimeoutMs = options.lockTimeoutMs ?? 10_000;
  const writer = new SqliteConnection(path);
  try {
    // First, so that the change to WAL waits when two processes open a new file at once.
    writer.script(`pragma busy_timeout = ${lockTimeoutMs}`);
    // SQLite gives up at once where waiting could be a deadlock, hence the retry on top.
    const rows = await whileBusy(lockTimeoutMs, () => writer.all("pragma journal_mode = wal"));
    const [mode] = rows as { journal_mode: string }[];
    if (mode?.journal_mode !== "wal") {
      throw new RegistryError("unavailable", {
        message: `The database "${path}" cannot use a write-ahead log there (it says "${mode?.journal_mode}"); put it on a local disk.`,
      });
    }
    // Commits are fsynced by WalSync before they are acknowledged; checkpoints are fsynced by SQLite itself.
    writer.script("pragma synchronous = normal; pragma foreign_keys = on; pragma trusted_schema = off;");
    writer.script("pragma cache_size = -8192; pragma journal_size_limit = 67108864; pragma temp_store = memory;");
    // A checkpoint runs on this thread and fsyncs twice: at SQLite's 1,000 pages it came every ten image pushes.
    writer.script("pragma wal_autocheckpoint = 4000");
    const reader = new SqliteConnection(path);
    reader.script(`pragma busy_timeout = ${lockTimeoutMs}; pragma query_only = on; pragma trusted_schema = off;`);
    reader.script("pragma cache_size = -8192; pragma temp_store = memory;");
    SqliteChangeLog.prepare(writer);
    // From here on the writer waits in JavaScript: SQLite's own waiting would stop the whole thread.
    writer.script("pragma busy_timeout = 0");
    return new SqliteDatabase(writer, reader, { ...options, path, lockTimeoutMs });
  } catch (error) {
    writer.close();
    throw error;
  }
}

/** Makes the file readable for its owner alone, and its name durable before anything in it is acknowledged. */
function makeFile(path: string): void {
  const folder = dirname(path);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    closeSync(openSync(path, "a", 0o600));
    const directory = openSync(folder, "r");
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new RegistryError(reason === "ENOSPC" || reason === "EDQUOT" ? "storage_full" : "unavailable", {
      message: `The database "${path}" cannot be opened for writing (${reason}); its folder must be writable for this user.`,
      cause: error,
    });
  }
}

/** Repeats what another process's lock refuses, up to `timeoutMs`, leaving the thread free in between. */
async function whileBusy<T>(timeoutMs: number, action: () => T): Promise<T> {
  const deadlineMs = performance.now() + timeoutMs;
  for (let attempt = 0; ; attempt++) {
    try {
      return action();
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadlineMs) throw error;
      const delayMs = lockRetryDelaysMs[attempt] ?? lockRetryDelayMaxMs;
      await Bun.sleep(delayMs * (0.5 + Math.random() / 2));
    }
  }
}

class SqliteDatabase implements Database {
  readonly engine = "sqlite";
  readonly dialect = sqliteDialect;
  readonly stats: DbStats = { queries: 0, rows: 0, transactions: 0, jobs: new JobStats() };
  readonly sql = makeSql((query) => this.#runAlone(query));
  readonly #writer: SqliteConnection;
  readonly #reader: SqliteConnection;
  readonly #lockTimeoutMs: number;
  readonly #log: DatabaseLog;
  readonly #observe: DatabaseHooks["observe"];
  readonly #render = makeRenderer(() => "?");
  readonly #mutex = new Mutex(waitingWritersMax);
  readonly #listeners: ChangeListeners;
  readonly #changeLog: SqliteChangeLog;
  readonly #walSync: WalSync;
  readonly #pollTimer: Timer;
  readonly #stalledMs: number;
  #lookedMs = performance.now();
  /** The transaction that the running code is in, to refuse what would wait for itself. */
  readonly #current = new AsyncLocalStorage<SqliteTx>();
  #closing: Promise<void> | undefined;
  #closed = false;

  constructor(writer: SqliteConnection, reader: SqliteConnection, options: SqliteOptions & { lockTimeoutMs: number }) {
    this.#writer = writer;
    this.#reader = reader;
    this.#lockTimeoutMs = options.lockTimeoutMs;
    this.#log = options.log ?? silentLog;
    this.#observe = options.observe;
    this.#listeners = new ChangeListeners(this.#log);
    this.#changeLog = new SqliteChangeLog(writer, reader, this.#listeners, this.#log);
    this.#walSync = new WalSync(options.path);
    const pollMs = options.pollMs ?? 200;
    this.#stalledMs = 4 * pollMs + 100;
    this.#pollTimer = setInterval(() => this.checkChanges(), pollMs);
    this.#pollTimer.unref();
  }

  get hearsChanges(): boolean {
    if (performance.now() - this.#lookedMs < this.#stalledMs) return this.#changeLog.hears;
    // This process stood still: what is asked for now has waited as long as what changed.
    this.checkChanges();
    return false;
  }

  /** A file is never out of reach: it is read, or it fails. */
  get silentForMs(): undefined {
    return undefined;
  }

  onChanged(listener: (keys: readonly string[] | undefined) => void): () => void {
    return this.#listeners.add(listener);
  }

  checkChanges(): void {
    this.#lookedMs = performance.now();
    if (!this.#closed) this.#changeLog.check();
  }

  async catchUp(): Promise<void> {
    this.checkChanges();
  }

  async tx<T>(work: (tx: Tx) => Promise<T>, options: TxOptions = {}): Promise<T> {
    this.#requireNoTransaction();
    this.#walSync.requireSound();
    await this.#acquire();
    let result: T;
    try {
      await whileBusy(this.#lockTimeoutMs, () => this.#writer.all("begin immediate"));
      this.stats.transactions++;
      result = await this.#transact(work);
    } finally {
      this.#mutex.release();
    }
    // Not under the mutex: the next transactions commit meanwhile and share the next fsync.
    if (options.durable !== false) await this.#walSync.sync();
    return result;
  }

  async ping(_timeoutMs: number): Promise<void> {
    this.#requireOpen();
    this.#walSync.requireSound();
    // The answer is immediate or an error. A file that was removed under us would still answer, and lose what it is told.
    if (statSync(this.#reader.path, { throwIfNoEntry: false }) === undefined) {
      throw new RegistryError("unavailable", {
        message: `The database file "${this.#reader.path}" is gone; restore it.`,
        forLog: true,
      });
    }
    this.#reader.all("select 1 from sqlite_schema limit 1");
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#mutex.acquire();
      this.#closed = true;
      clearInterval(this.#pollTimer);
      await this.#walSync.close();
      this.#reader.close();
      this.#writer.close();
      // Whoever queued behind the closing finds the database closed.
      this.#mutex.release();
    })();
    return this.#closing;
  }

  /** Runs one statement on a connection, counted and timed. */
  run(connection: SqliteConnection, statement: Statement): unknown[] {
    const startMs = this.#observe === undefined ? 0 : performance.now();
    let failed = true;
    try {
      const rows = connection.all(statement.text, statement.params);
      this.stats.queries++;
      this.stats.rows += rows.length;
      failed = false;
      return rows;
    } finally {
      this.#observe?.(statement.name, performance.now() - startMs, failed);
    }
  }

  /** A query outside transactions: reads go to the reader, a write is a transaction of its own. */
  async #runAlone(query: SqlQuery<unknown>): Promise<unknown[]> {
    this.#requireOpen();
    const statement = this.#render(query);
    if (!statement.writes) return this.run(this.#reader, statement);
    this.#requireNoTransaction();
    await this.#acquire();
    let rows: unknown[];
    try {
      rows = await whileBusy(this.#lockTimeoutMs, () => this.run(this.#writer, statement));
    } finally {
      this.#mutex.release();
    }
    await this.#walSync.sync();
    return rows;
  }

  async #transact<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    const pending = new PendingEffects();
    const tx = new SqliteTx(this, this.#writer, this.#render, pending);
    let result: T;
    try {
      result = await this.#current.run(tx, () => work(tx));
      if (tx.failure !== undefined) throw tx.failure.error;
      tx.over = true;
      const changeId = this.#changeLog.write([...pending.keys]);
      this.#writer.all("commit");
      this.#changeLog.committed(changeId);
    } catch (error) {
      tx.over = true;
      // A full disk or a failed read may have rolled it back already.
      if (this.#writer.inTransaction) this.#writer.all("rollback");
      throw error;
    }
    // Still under the mutex, so that effects come in the order of the commits.
    pending.run(this.#listeners, this.#log);
    return result;
  }

  async #acquire(): Promise<void> {
    this.#requireOpen();
    await this.#mutex.acquire();
    if (this.#closed) {
      this.#mutex.release();
      this.#requireOpen();
    }
  }

  #requireNoTransaction(): void {
    if (this.#current.getStore()?.over === false) {
      throw new Error("A transaction is open here: use its own `tx` for this. Transactions do not nest.");
    }
  }

  #requireOpen(): void {
    if (this.#closed) throw new RegistryError("unavailable", { message: "The database is closed." });
  }
}

class SqliteTx implements Tx {
  readonly engine = "sqlite";
  readonly dialect = sqliteDialect;
  readonly isTransaction = true;
  readonly sql = makeSql(async (query) =>
    this.#attempt(() => this.#database.run(this.#connection, this.#render(query))),
  );
  /** True once the work has ended; what is left of it may not touch the connection any more. */
  over = false;
  /** The first statement that failed. As on PostgreSQL, nothing runs after it and the transaction cannot commit. */
  failure: { error: unknown } | undefined;
  readonly #database: SqliteDatabase;
  readonly #connection: SqliteConnection;
  readonly #render: (query: SqlQuery<unknown>) => Statement;
  readonly #pending: PendingEffects;

  constructor(
    database: SqliteDatabase,
    connection: SqliteConnection,
    render: (query: SqlQuery<unknown>) => Statement,
    pending: PendingEffects,
  ) {
    this.#database = database;
    this.#connection = connection;
    this.#render = render;
    this.#pending = pending;
  }

  get stats(): DbStats {
    return this.#database.stats;
  }

  afterCommit(effect: () => void): void {
    this.#pending.add(effect);
  }

  changed(...keys: string[]): void {
    for (const key of keys) this.#pending.keys.add(key);
  }

  async script(text: string): Promise<void> {
    this.#attempt(() => this.#connection.script(text));
  }

  #attempt<T>(action: () => T): T {
    if (this.over) throw new Error("This transaction is over; await every query before its work ends.");
    if (this.failure !== undefined) throw this.failure.error;
    try {
      return action();
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }
}
