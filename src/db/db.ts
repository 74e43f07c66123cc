/**
 * What the rest of Berth knows of the database: tagged-template SQL that reads the same on SQLite and PostgreSQL, and
 * transactions. Which engine answers is decided in `open.ts`; differences of dialect live in `dialect.ts`.
 */

import type { JobStats } from "./job-stats.ts";

/** A value that may stand in a query. Times are epoch ms as numbers; JSON is text; bytes are Uint8Array. */
export type SqlValue = string | number | boolean | null | Uint8Array;

/** A piece of SQL with its parameters, to be put into another piece or awaited as a query of its own. */
export interface SqlQuery<Row> extends PromiseLike<Row[]> {
  readonly strings: readonly string[];
  readonly values: readonly unknown[];
}

/**
 * Tagged template in the shape of postgres.js: sql`select … where id = ${id}`. A value becomes a bound parameter, another
 * SqlQuery is spliced in as a fragment. Nothing runs until it is awaited, and it runs once however often it is awaited. A
 * query names itself in a block comment that opens its text and holds only the name, such as tag.find; that name goes to
 * metrics and logs.
 */
export type Sql = <Row = Record<string, unknown>>(
  strings: TemplateStringsArray,
  ...values: (SqlValue | SqlQuery<unknown>)[]
) => SqlQuery<Row>;

/** What both a pool and an open transaction offer; queries take this, so they run inside or outside a transaction. */
export interface Db {
  readonly engine: "sqlite" | "postgres";
  readonly dialect: Dialect;
  readonly sql: Sql;
  /** Counters since opening, for metrics and for the tests that bound queries per request. */
  readonly stats: DbStats;
}

export interface DbStats {
  queries: number;
  rows: number;
  transactions: number;
  readonly jobs: JobStats;
}

/** An open write transaction. */
export interface Tx extends Db {
  readonly isTransaction: true;
  /** Runs after this transaction has committed, in order; never after a roll-back. For in-process effects only. */
  afterCommit(effect: () => void): void;
  /**
   * Tells every instance, this one included, that what is cached under these keys has changed. Delivered at commit:
   * in this process before `tx()` resolves, to other instances through NOTIFY or `pragma data_version`.
   */
  changed(...keys: string[]): void;
  /** Runs a text of several statements without parameters, in the engine's own dialect. For migrations. */
  script(text: string): Promise<void>;
}

export interface TxOptions {
  /**
   * False for what nobody was promised, such as how far an upload got: it survives a crash of the process, and power loss
   * may take the last moments of it. True by default.
   */
  readonly durable?: boolean;
  /**
   * False for work that may take as long as it takes, such as migrations: neither statements, locks nor idling are bounded.
   * True by default. SQLite knows no bounds but the wait for its lock.
   */
  readonly timeLimits?: boolean;
}

export interface Database extends Db {
  /**
   * Runs `work` in one write transaction and commits when it resolves, rolls back when it throws. On PostgreSQL,
   * serialization failures and deadlocks are retried up to 5 times with jitter, so `work` must be safe to repeat.
   * On SQLite, writers queue for the one write connection. What it wrote is on disk when it resolves, unless `durable` is
   * false.
   */
  tx<T>(work: (tx: Tx) => Promise<T>, options?: TxOptions): Promise<T>;
  /**
   * Hears of changes committed by this process and by other instances. `keys` undefined means "anything may have
   * changed": drop everything. Returns the function that ends the subscription.
   */
  onChanged(listener: (keys: readonly string[] | undefined) => void): () => void;
  /** True while changes made by other instances are sure to be heard of; false turns the mutable caches off. */
  readonly hearsChanges: boolean;
  /**
   * How many ms ago the database was last heard, when since then it has answered nothing and cannot be reached; undefined
   * whenever it answers, or answered while its changes went unheard. What was known then is as new as can be had.
   */
  readonly silentForMs: number | undefined;
  /**
   * Looks now for changes committed by other processes instead of at the next poll (every 200 ms), and tells the
   * listeners before it returns. SQLite: a few microseconds. PostgreSQL: does nothing, notifications arrive by themselves.
   */
  checkChanges(): void;
  /**
   * Resolves when the listeners have been told of everything that was committed before this call, by whichever process. At
   * once while changes are not heard. PostgreSQL: one small query for all who wait.
   */
  catchUp(): Promise<void>;
  /** Throws `unavailable` with the cause when the database does not answer within `timeoutMs`. */
  ping(timeoutMs: number): Promise<void>;
  /** Waits for running transactions, then closes every connection. */
  close(): Promise<void>;
}

/** The few words that the two engines spell differently. Fragments that only one engine understands come from here. */
export interface Dialect {
  /** " for update skip locked" on PostgreSQL, nothing on SQLite where writers are already alone. */
  readonly skipLocked: SqlQuery<never>;
  /** " for update" on PostgreSQL, nothing on SQLite. */
  readonly forUpdate: SqlQuery<never>;
  /**
   * " for no key update" on PostgreSQL, nothing on SQLite: a lock that rows which merely refer to this one do not wait for,
   * nor who has inserted such rows and locks it then. With " for update" two of those would wait for each other.
   */
  readonly forNoKeyUpdate: SqlQuery<never>;
  /** " for key share" on PostgreSQL, nothing on SQLite: the row stays until our end, and others may say the same. */
  readonly forKeyShare: SqlQuery<never>;
  /**
   * The database's own clock at the statement, epoch ms: for leases and due times, which instances whose clocks differ
   * must judge alike.
   */
  readonly nowMs: SqlQuery<never>;
  /** `column in (…)` for a list of values of bounded length; `false` for an empty list. */
  inList(column: string, values: readonly (string | number)[]): SqlQuery<never>;
  /** `(…), (…)` after `values`, for rows of equal length and a bounded number; throws TypeError without a row. */
  rows(rows: readonly (readonly SqlValue[])[]): SqlQuery<never>;
}
