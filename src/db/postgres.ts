/**
 * PostgreSQL as a `Database`, over postgres.js: a shared client for queries outside transactions, a pool of single
 * connections for transactions, and one connection that listens for what other instances change.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { RegistryError } from "../errors.ts";
import { ChangeListeners, PendingEffects } from "./changes.ts";
import type { Database, SqlQuery, SqlValue, Tx, TxOptions } from "./db.ts";
import { postgresDialect } from "./dialect.ts";
import { type DatabaseHooks, type DatabaseLog, silentLog } from "./options.ts";
import { type PostgresAddress, type PostgresConnectionArgs, parsePostgresAddress } from "./postgres-address.ts";
import { type Client, makeClient, runOn } from "./postgres-client.ts";
import { isConnectionFailure, isRetryable, postgresError } from "./postgres-errors.ts";
import { PostgresListener } from "./postgres-listener.ts";
import { type Session, SessionPool } from "./postgres-pool.ts";
import { PostgresConnector } from "./postgres-socket.ts";
import { makeRenderer, makeSql } from "./sql.ts";

export type { PostgresConnectionArgs } from "./postgres-address.ts";

export interface PostgresOptions extends DatabaseHooks {
  readonly uri: string;
  readonly connectionArgs?: PostgresConnectionArgs | undefined;
}

/** How often a transaction is repeated that lost against another one. */
const retriesMax = 5;

/** Throws an Error for a wrong address and `unavailable` when the server does not answer or refuses. */
export async function openPostgres(options: PostgresOptions): Promise<Database> {
  const address = parsePostgresAddress(options.uri, options.connectionArgs);
  const db = new PostgresDatabase(address, options);
  try {
    await db.ping(address.timeoutMs);
    await db.listen();
    return db;
  } catch (error) {
    await db.close();
    throw error;
  }
}

class PostgresDatabase implements Database {
  readonly engine = "postgres";
  readonly dialect = postgresDialect;
  readonly stats = { queries: 0, rows: 0, transactions: 0 };
  readonly sql = makeSql((query) => this.#runAlone(query));
  readonly #server: string;
  readonly #makeShared: () => Client;
  #shared: Client;
  readonly #pool: SessionPool;
  readonly #listener: PostgresListener;
  readonly #listeners: ChangeListeners;
  readonly #log: DatabaseLog;
  readonly #observe: DatabaseHooks["observe"];
  readonly #render = makeRenderer((position) => `$${position}`);
  readonly #current = new AsyncLocalStorage<PostgresTx>();
  #active = 0;
  #drained: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(address: PostgresAddress, hooks: DatabaseHooks) {
    this.#server = `${address.host}:${address.port}/${address.database}`;
    this.#log = hooks.log ?? silentLog;
    this.#observe = hooks.observe;
    this.#listeners = new ChangeListeners(this.#log);
    const connector = new PostgresConnector(address);
    const forTransactions = Math.ceil(address.connectionsMax / 2);
    this.#pool = new SessionPool(forTransactions, address.timeoutMs, (onClose) =>
      makeClient(address, connector, { connectionsMax: 1, onClose }),
    );
    this.#makeShared = () =>
      makeClient(address, connector, {
        connectionsMax: address.connectionsMax - forTransactions,
        idleSeconds: 300,
        lifetimeSeconds: 1800,
      });
    this.#shared = this.#makeShared();
    this.#listener = new PostgresListener(
      (onClose, onNotify) => makeClient(address, connector, { connectionsMax: 1, onClose, onNotify }),
      this.#listeners,
      this.#log,
    );
  }

  get hearsChanges(): boolean {
    return this.#listener.hears;
  }

  listen(): Promise<void> {
    return this.#listener.start();
  }

  onChanged(listener: (keys: readonly string[] | undefined) => void): () => void {
    return this.#listeners.add(listener);
  }

  checkChanges(): void {
    // Notifications arrive by themselves.
  }

  async tx<T>(work: (tx: Tx) => Promise<T>, options: TxOptions = {}): Promise<T> {
    if (this.#current.getStore()?.over === false) {
      throw new Error("A transaction is open here: use its own `tx` for this. Transactions do not nest.");
    }
    return this.#counted(async () => {
      for (let attempt = 0; ; attempt++) {
        const tried = await this.#try(work, options);
        if (tried.done) return tried.result;
        if (!tried.again || attempt >= retriesMax) throw postgresError(tried.error, this.#server);
        await Bun.sleep(5 * 2 ** attempt * (0.5 + Math.random()));
      }
    });
  }

  async ping(timeoutMs: number): Promise<void> {
    let timer: Timer | undefined;
    const late = new Promise<never>((_, reject) => {
      const message = `PostgreSQL at ${this.#server} did not answer within ${timeoutMs} ms.`;
      timer = setTimeout(() => reject(new RegistryError("unavailable", { message })), timeoutMs);
    });
    try {
      await Promise.race([this.sql`/* db.ping */ select 1`, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#listener.close();
      if (this.#active > 0) await new Promise<void>((resolve) => (this.#drained = resolve));
      await Promise.all([this.#pool.close(), this.#shared.end({ timeout: 5 })]);
    })();
    return this.#closing;
  }

  /** Runs one statement on a client, counted and timed. */
  async run(client: Client, query: SqlQuery<unknown>): Promise<unknown[]> {
    const { name, text, params } = this.#render(query);
    return this.runText(client, name, text, params);
  }

  async runText(client: Client, name: string, text: string, params: readonly SqlValue[]): Promise<unknown[]> {
    const startMs = this.#observe === undefined ? 0 : performance.now();
    let failed = true;
    try {
      const rows = await runOn(client, text, params);
      this.stats.queries++;
      this.stats.rows += rows.length;
      failed = false;
      return rows;
    } finally {
      this.#observe?.(name, performance.now() - startMs, failed);
    }
  }

  #runAlone(query: SqlQuery<unknown>): Promise<unknown[]> {
    return this.#counted(async () => {
      const client = this.#shared;
      try {
        return await this.run(client, query);
      } catch (error) {
        // Not used again, for the reason that `SessionPool.release` gives; what it still runs may end.
        if (client === this.#shared && isConnectionFailure(error)) {
          this.#shared = this.#makeShared();
          void client.end({ timeout: 5 });
        }
        throw postgresError(error, this.#server);
      }
    });
  }

  async #try<T>(work: (tx: Tx) => Promise<T>, options: TxOptions): Promise<Attempt<T>> {
    const session = await this.#pool.acquire();
    try {
      // A connection that died while it was idle shows here; nothing has happened yet, so it is simply tried again.
      const begun = await beginOn(session, options);
      if (begun !== undefined) return { done: false, again: isRetryableStart(begun), error: begun };
      this.stats.transactions++;
      const pending = new PendingEffects();
      const tx = new PostgresTx(this, session, pending);
      try {
        const result = await this.#current.run(tx, () => work(tx));
        if (tx.failure !== undefined) throw tx.failure.error;
        const notify = (text: string, params: string[]) => this.runText(session.client, "changes.notify", text, params);
        if (pending.keys.size > 0) await tx.guarded(() => this.#listener.notify(notify, [...pending.keys]));
        await tx.guarded(() => session.client.unsafe("commit"));
        tx.over = true;
        pending.run(this.#listeners, this.#log);
        return { done: true, result };
      } catch (error) {
        tx.over = true;
        // On a lost connection the server has rolled back; a statement sent now would open a new one.
        if (!session.lost) await session.client.unsafe("rollback").catch(() => undefined);
        const first = tx.failure?.error;
        return { done: false, again: isRetryable(first), error: isRetryable(first) ? first : error };
      }
    } finally {
      this.#pool.release(session);
    }
  }

  /** Keeps `close` waiting until what has started is over. */
  async #counted<T>(action: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw new RegistryError("unavailable", { message: "The database is closed." });
    this.#active++;
    try {
      return await action();
    } finally {
      this.#active--;
      if (this.#active === 0) this.#drained?.();
    }
  }
}

type Attempt<T> = { done: true; result: T } | { done: false; again: boolean; error: unknown };

const beginDurable = "begin isolation level read committed";
const beginRelaxed = `${beginDurable}; set local synchronous_commit = off`;

async function beginOn(session: Session, options: TxOptions): Promise<unknown> {
  try {
    await session.client.unsafe(options.durable === false ? beginRelaxed : beginDurable);
    // Only from here on: an old connection of this client may have closed while the new one came up.
    session.lost = false;
    return undefined;
  } catch (error) {
    session.lost = true;
    return error;
  }
}

/** A session that was cut is worth a second try; one that is refused is not, the caller should hear of it at once. */
function isRetryableStart(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return isConnectionFailure(error) && (code === "CONNECTION_CLOSED" || code === "ECONNRESET" || code === "EPIPE");
}

class PostgresTx implements Tx {
  readonly engine = "postgres";
  readonly dialect = postgresDialect;
  readonly isTransaction = true;
  readonly sql = makeSql((query) => this.guarded(() => this.#database.run(this.#session.client, query)));
  /** True once the work has ended; what is left of it may not touch the connection any more. */
  over = false;
  /** The first statement that failed; PostgreSQL refuses all that follow. */
  failure: { error: unknown } | undefined;
  readonly #database: PostgresDatabase;
  readonly #session: Session;
  readonly #pending: PendingEffects;

  constructor(database: PostgresDatabase, session: Session, pending: PendingEffects) {
    this.#database = database;
    this.#session = session;
    this.#pending = pending;
  }

  afterCommit(effect: () => void): void {
    this.#pending.add(effect);
  }

  changed(...keys: string[]): void {
    for (const key of keys) this.#pending.keys.add(key);
  }

  async script(text: string): Promise<void> {
    // Without parameters postgres.js uses the simple protocol, which takes many statements at once.
    await this.guarded(() => this.#session.client.unsafe(text));
  }

  /** Runs a statement unless the transaction is over, has failed or lost its connection. */
  async guarded<T>(action: () => PromiseLike<T>): Promise<T> {
    if (this.over) throw new Error("This transaction is over; await every query before its work ends.");
    if (this.failure !== undefined) throw this.failure.error;
    try {
      // The client would open a new connection for it, outside of this transaction.
      if (this.#session.lost) throw Object.assign(new Error("The connection was lost."), { code: "CONNECTION_CLOSED" });
      return await action();
    } catch (error) {
      this.failure ??= { error };
      throw error;
    }
  }
}
