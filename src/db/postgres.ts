/**
 * PostgreSQL as a `Database`, over postgres.js: a shared client for queries outside transactions, a pool of single
 * connections for transactions, and one connection that listens for what other instances change.
 */

import { AsyncLocalStorage } from "node:async_hooks";
import { RegistryError } from "../errors.ts";
import { ChangeListeners, PendingEffects } from "./changes.ts";
import type { Database, DbStats, SqlQuery, SqlValue, Tx, TxOptions } from "./db.ts";
import { postgresDialect } from "./dialect.ts";
import { JobStats } from "./job-stats.ts";
import { type DatabaseHooks, type DatabaseLog, silentLog } from "./options.ts";
import {
  describeAddress,
  type PostgresAddress,
  type PostgresConnectionArgs,
  parsePostgresAddress,
} from "./postgres-address.ts";
import { PostgresAvailability } from "./postgres-availability.ts";
import { type Client, runOn } from "./postgres-client.ts";
import { PostgresClients } from "./postgres-clients.ts";
import { isLate, isRetryable, lateError, neverReached, postgresError, troubleOf } from "./postgres-errors.ts";
import { PostgresListener } from "./postgres-listener.ts";
import { type Session, type SessionParts, SessionPool } from "./postgres-pool.ts";
import { makeRenderer, makeSql, type Statement } from "./sql.ts";
import { within } from "./within.ts";

export type { PostgresConnectionArgs } from "./postgres-address.ts";

export interface PostgresOptions extends DatabaseHooks {
  readonly uri: string;
  readonly connectionArgs?: PostgresConnectionArgs | undefined;
}

/** How often a transaction is repeated that lost against another one. */
const retriesMax = 5;

/** How often, and how soon, what found no room for a connection is tried again: about two seconds in all. */
const crowdedTriesMax = 7;
const crowdedPauseMs = 15;
/** The server gives a statement up by itself at its timeout; so much later its connection is held to be dead. */
const lateGraceMs = 5_000;
/** Between two renewals of all connections because the server takes no writes. */
const renewPauseMs = 5_000;
/**
 * When the listener's connection went, the others may answer so much longer without counting as a server that goes on: they
 * are lost one after the other, and a notification is no faster.
 */
const lastWordsMs = 250;

/** Throws an Error for a wrong address and `unavailable` when the server does not answer or refuses. */
export async function openPostgres(options: PostgresOptions): Promise<Database> {
  const address = parsePostgresAddress(options.uri, options.connectionArgs);
  const db = new PostgresDatabase(address, options);
  try {
    await db.open(address.timeoutMs);
    return db;
  } catch (error) {
    await db.close();
    throw error;
  }
}

class PostgresDatabase implements Database {
  readonly engine = "postgres";
  readonly dialect = postgresDialect;
  readonly stats: DbStats = { queries: 0, rows: 0, transactions: 0, jobs: new JobStats() };
  readonly sql = makeSql((query) => this.#runAlone(query));
  readonly #server: string;
  readonly #clients: PostgresClients;
  readonly #availability: PostgresAvailability;
  readonly #hostsMany: boolean;
  readonly #lateMs: number | undefined;
  readonly #makeShared: () => SessionParts;
  #shared: SessionParts;
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
  #renewedMs = 0;
  #cutListener: (reason: Error) => void = () => undefined;
  /** By `performance.now()`: the last answer while the listener was deaf. */
  #answeredUnheardMs = 0;

  constructor(address: PostgresAddress, hooks: DatabaseHooks) {
    this.#server = describeAddress(address);
    this.#hostsMany = address.hosts.length > 1;
    this.#lateMs = address.statementTimeoutMs === undefined ? undefined : address.statementTimeoutMs + lateGraceMs;
    this.#log = hooks.log ?? silentLog;
    this.#observe = hooks.observe;
    this.#listeners = new ChangeListeners(this.#log);
    this.#clients = new PostgresClients(address, () => this.#availability.requireHost());
    this.#availability = new PostgresAvailability({
      hosts: address.hosts,
      server: this.#server,
      probe: (host) => this.#clients.probe(host),
      onCut: (reason) => this.#cut(reason),
      onUsable: () => this.#listener.retry(),
      log: this.#log,
    });
    const forTransactions = Math.ceil(address.connectionsMax / 2);
    this.#pool = new SessionPool(forTransactions, address.timeoutMs, (onClose) =>
      this.#clients.make({ connectionsMax: 1, onClose }),
    );
    this.#makeShared = () =>
      this.#clients.make({
        connectionsMax: address.connectionsMax - forTransactions,
        idleSeconds: 300,
        lifetimeSeconds: 1800,
      });
    this.#shared = this.#makeShared();
    this.#listener = new PostgresListener(
      (onClose, onNotify) => {
        const parts = this.#clients.make({ connectionsMax: 1, onClose, onNotify });
        this.#cutListener = parts.cut;
        return parts.client;
      },
      () => void this.#availability.suspect(),
      this.#listeners,
      this.#log,
    );
  }

  get hearsChanges(): boolean {
    return this.#listener.hears;
  }

  get silentForMs(): number | undefined {
    if (this.#listener.hears || !this.#availability.isAway) return undefined;
    if (this.#answeredUnheardMs > this.#listener.deafMs + lastWordsMs) return undefined;
    return performance.now() - this.#listener.heardMs;
  }

  /** Finds the server to use and starts to listen. Throws `unavailable` when there is none within `timeoutMs`. */
  async open(timeoutMs: number): Promise<void> {
    if (this.#hostsMany) await this.#availability.suspect();
    await this.ping(timeoutMs);
    await this.#listener.start();
  }

  onChanged(listener: (keys: readonly string[] | undefined) => void): () => void {
    return this.#listeners.add(listener);
  }

  checkChanges(): void {
    // Notifications arrive by themselves.
  }

  catchUp(): Promise<void> {
    return this.#listener.catchUp();
  }

  async tx<T>(work: (tx: Tx) => Promise<T>, options: TxOptions = {}): Promise<T> {
    if (this.#current.getStore()?.over === false) {
      throw new Error("A transaction is open here: use its own `tx` for this. Transactions do not nest.");
    }
    return this.#counted(async () => {
      for (let attempt = 0, lost = 0; ; ) {
        const tried = await this.#try(work, options);
        if (tried.done) return tried.result;
        if (tried.begun && isRetryable(tried.error) && attempt < retriesMax) {
          await Bun.sleep(5 * 2 ** attempt * (0.5 + Math.random()));
          attempt++;
        } else if (!(await this.#mayTryAgain(tried.error, lost++, !tried.begun))) {
          throw postgresError(tried.error, this.#server);
        }
      }
    });
  }

  async ping(timeoutMs: number): Promise<void> {
    let timer: Timer | undefined;
    const late = new Promise<never>((_, reject) => {
      const message = `PostgreSQL at ${this.#server} did not answer within ${timeoutMs} ms.`;
      timer = setTimeout(() => reject(new RegistryError("unavailable", { message, forLog: true })), timeoutMs);
    });
    try {
      await Promise.race([this.sql`/* db.ping */ select 1`, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#availability.close();
      await this.#listener.close();
      if (this.#active > 0) await new Promise<void>((resolve) => (this.#drained = resolve));
      await Promise.all([this.#pool.close(), this.#shared.client.end({ timeout: 5 })]);
    })();
    return this.#closing;
  }

  /** Runs one statement on a client, counted and timed. */
  run(client: Client, { name, text, params }: Statement): Promise<unknown[]> {
    return this.runText(client, name, text, params);
  }

  render(query: SqlQuery<unknown>): Statement {
    return this.#render(query);
  }

  async runText(client: Client, name: string, text: string, params: readonly SqlValue[]): Promise<unknown[]> {
    const startMs = this.#observe === undefined ? 0 : performance.now();
    let failed = true;
    try {
      const rows = await runOn(client, text, params);
      if (!this.#listener.hears) this.#answeredUnheardMs = performance.now();
      this.stats.queries++;
      this.stats.rows += rows.length;
      failed = false;
      return rows;
    } finally {
      this.#observe?.(name, performance.now() - startMs, failed);
    }
  }

  /** The answer; an error once the server should long have given up what it was asked. */
  bounded<T>(answer: PromiseLike<T>): PromiseLike<T> {
    return this.#lateMs === undefined ? answer : within(this.#lateMs, answer, lateError);
  }

  #runAlone(query: SqlQuery<unknown>): Promise<unknown[]> {
    return this.#counted(async () => {
      const statement = this.#render(query);
      for (let attempt = 0; ; attempt++) {
        this.#availability.requireHost();
        const shared = this.#shared;
        try {
          return await this.bounded(this.run(shared.client, statement));
        } catch (error) {
          // Not used again, for the reason that `SessionPool.release` gives; what it still runs may end.
          if (shared === this.#shared && troubleOf(error) === "lost") this.#renewShared();
          const isHarmless = !statement.writes || neverReached(error);
          if (!(await this.#mayTryAgain(error, attempt, isHarmless))) throw postgresError(error, this.#server);
        }
      }
    });
  }

  /**
   * Looks at what failed for the `attempt`-th time, from 0, and finds out how the servers are. True when it is worth another
   * try, which only `isHarmless` work gets.
   */
  async #mayTryAgain(error: unknown, attempt: number, isHarmless: boolean): Promise<boolean> {
    const trouble = troubleOf(error);
    if (trouble === "crowded") {
      // Others of our connections go on and come free.
      if (!isHarmless || attempt >= crowdedTriesMax) return false;
      await Bun.sleep(crowdedPauseMs * 2 ** attempt * (0.5 + Math.random()));
      return true;
    }
    if (trouble === "read_only") {
      await this.#availability.suspect();
      this.#renew();
      return false;
    }
    if (trouble !== "lost") return false;
    const isUsable = await this.#availability.suspect();
    // All that lay idle may be as dead.
    this.#pool.renew();
    return isUsable && isHarmless && attempt === 0 && !isLate(error);
  }

  /** Each connection is made anew, to where the name of the server leads now; what runs may end. */
  #renew(): void {
    const nowMs = performance.now();
    if (nowMs - this.#renewedMs < renewPauseMs) return;
    this.#renewedMs = nowMs;
    this.#renewShared();
    this.#pool.renew();
  }

  #renewShared(): void {
    const { client } = this.#shared;
    this.#shared = this.#makeShared();
    void client.end({ timeout: 5 });
  }

  #cut(reason: Error): void {
    const shared = this.#shared;
    this.#shared = this.#makeShared();
    shared.cut(reason);
    void shared.client.end({ timeout: 0 });
    this.#pool.cut(reason);
    this.#cutListener(reason);
  }

  async #try<T>(work: (tx: Tx) => Promise<T>, options: TxOptions): Promise<Attempt<T>> {
    this.#availability.requireHost();
    const session = await this.#pool.acquire();
    try {
      const bounded = <A>(answer: PromiseLike<A>): PromiseLike<A> =>
        options.timeLimits === false ? answer : this.bounded(answer);
      // A connection that died while it was idle shows here; nothing has happened yet, so it is simply tried again.
      const failed = await beginOn(session, options, bounded);
      if (failed !== undefined) return { done: false, begun: false, error: failed };
      this.stats.transactions++;
      const pending = new PendingEffects();
      const tx = new PostgresTx(this, session, pending, bounded);
      let isCommitting = false;
      try {
        const result = await this.#current.run(tx, () => work(tx));
        if (tx.failure !== undefined) throw tx.failure.error;
        const notify = (text: string, params: string[]) => this.runText(session.client, "changes.notify", text, params);
        if (pending.keys.size > 0) await tx.guarded(() => this.#listener.notify(notify, [...pending.keys]));
        isCommitting = true;
        await tx.guarded(() => session.client.unsafe("commit"));
        tx.over = true;
        pending.run(this.#listeners, this.#log);
        return { done: true, result };
      } catch (error) {
        tx.over = true;
        if (isCommitting && troubleOf(error) === "lost") this.#doubt(pending);
        // On a lost connection the server has rolled back; a statement sent now would open a new one.
        if (!session.lost) await bounded(session.client.unsafe("rollback")).then(undefined, () => undefined);
        const first = tx.failure?.error;
        return { done: false, begun: true, error: isRetryable(first) ? first : error };
      }
    } finally {
      this.#pool.release(session);
    }
  }

  /** It may have been committed, now or in a moment: what it would have changed is forgotten, so nothing old is believed. */
  #doubt(pending: PendingEffects): void {
    this.#listener.doubtOwn();
    if (pending.keys.size > 0) this.#listeners.deliver([...pending.keys]);
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

/** `begun` is false when the server cannot have done anything of it. */
type Attempt<T> = { done: true; result: T } | { done: false; begun: boolean; error: unknown };

const beginDurable = "begin isolation level read committed";
const beginRelaxed = `${beginDurable}; set local synchronous_commit = off`;
const beginUnlimited = `${beginDurable}; set local statement_timeout = 0; set local lock_timeout = 0; set local idle_in_transaction_session_timeout = 0`;

type Bounded = <A>(answer: PromiseLike<A>) => PromiseLike<A>;

async function beginOn(session: Session, options: TxOptions, bounded: Bounded): Promise<unknown> {
  const text = options.timeLimits === false ? beginUnlimited : options.durable === false ? beginRelaxed : beginDurable;
  try {
    await bounded(session.client.unsafe(text));
    // Only from here on: an old connection of this client may have closed while the new one came up.
    session.lost = false;
    return undefined;
  } catch (error) {
    session.lost = true;
    session.cut(error instanceof Error ? error : new Error(String(error)));
    return error;
  }
}

class PostgresTx implements Tx {
  readonly engine = "postgres";
  readonly dialect = postgresDialect;
  readonly isTransaction = true;
  readonly sql = makeSql((query) =>
    this.guarded(() => this.#database.run(this.#session.client, this.#database.render(query))),
  );
  /** True once the work has ended; what is left of it may not touch the connection any more. */
  over = false;
  /** The first statement that failed; PostgreSQL refuses all that follow. */
  failure: { error: unknown } | undefined;
  readonly #database: PostgresDatabase;
  readonly #session: Session;
  readonly #pending: PendingEffects;
  readonly #bounded: Bounded;

  constructor(database: PostgresDatabase, session: Session, pending: PendingEffects, bounded: Bounded) {
    this.#database = database;
    this.#session = session;
    this.#pending = pending;
    this.#bounded = bounded;
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
      return await this.#bounded(action());
    } catch (error) {
      this.failure ??= { error };
      // Nothing may be sent on it any more, and what still waits on it is over.
      if (troubleOf(error) === "lost") {
        this.#session.lost = true;
        this.#session.cut(error instanceof Error ? error : new Error(String(error)));
      }
      throw error;
    }
  }
}
