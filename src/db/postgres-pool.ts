/**
 * The connections that transactions run on: clients of one connection each, lent to one transaction at a time. With a
 * client of its own a transaction knows at once when its connection is gone, and no statement of it can ever run on another.
 */

import { RegistryError } from "../errors.ts";
import type { Client } from "./postgres-client.ts";

/** A session older than this is closed when it comes back, so that the server's memory for it does not grow for ever. */
const sessionMaxMs = 30 * 60_000;
/** Far more than requests can be in flight. */
const waitersMax = 10_000;

/** What a session is made of: its client and the means to end its connection at once. */
export interface SessionParts {
  readonly client: Client;
  readonly cut: (reason: Error) => void;
}

/** A lent connection. */
export interface Session extends SessionParts {
  /** True once the connection was closed; reset by who starts a transaction on it. */
  lost: boolean;
  readonly openedMs: number;
}

interface Waiter {
  resolve(session: Session): void;
  reject(reason: Error): void;
}

export class SessionPool {
  readonly #make: (onClose: () => void) => SessionParts;
  readonly #sessionsMax: number;
  readonly #timeoutMs: number;
  readonly #idle: Session[] = [];
  readonly #waiters = new Set<Waiter>();
  readonly #lent = new Set<Session>();
  #size = 0;
  /** Sessions from before this are not used again. */
  #freshFromMs = 0;

  constructor(sessionsMax: number, timeoutMs: number, make: (onClose: () => void) => SessionParts) {
    this.#sessionsMax = sessionsMax;
    this.#timeoutMs = timeoutMs;
    this.#make = make;
  }

  /** Throws `unavailable` when none comes free in time, or when all are cut meanwhile. */
  async acquire(): Promise<Session> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      if (!idle.lost) return this.#lend(idle);
      this.#size--;
      void idle.client.end({ timeout: 0 });
    }
    if (this.#size < this.#sessionsMax) return this.#lend(this.#open());
    if (this.#waiters.size >= waitersMax) throw this.#busy();
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        resolve: (session) => {
          clearTimeout(timer);
          resolve(this.#lend(session));
        },
        reject: (reason) => {
          clearTimeout(timer);
          reject(reason);
        },
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        reject(this.#busy());
      }, this.#timeoutMs);
      this.#waiters.add(waiter);
    });
  }

  /**
   * Takes a connection back. A lost one is not used again: a connection of postgres.js that closes while a write is pending
   * never writes again (3.4.9: the pending timer is cleared and not forgotten).
   */
  release(session: Session): void {
    this.#lent.delete(session);
    let next = session;
    const isOld = session.openedMs < this.#freshFromMs || performance.now() - session.openedMs > sessionMaxMs;
    if (session.lost || isOld) {
      this.#size--;
      void session.client.end({ timeout: session.lost ? 0 : 5 });
      if (this.#waiters.size === 0) return;
      next = this.#open();
    }
    const [waiter] = this.#waiters;
    if (waiter === undefined) {
      this.#idle.push(next);
      return;
    }
    this.#waiters.delete(waiter);
    waiter.resolve(next);
  }

  /** Uses none of the present connections again; lent ones may finish. */
  renew(): void {
    this.#freshFromMs = performance.now();
    for (const session of this.#idle.splice(0)) {
      this.#size--;
      void session.client.end({ timeout: 5 });
    }
  }

  /** Ends every connection at once; what runs or waits fails with this reason. */
  cut(reason: Error): void {
    for (const waiter of this.#waiters) waiter.reject(reason);
    this.#waiters.clear();
    for (const session of [...this.#idle, ...this.#lent]) {
      session.lost = true;
      session.cut(reason);
    }
    this.renew();
  }

  /** Closes what is idle; the caller has waited until nothing is lent any more. */
  async close(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((session) => session.client.end({ timeout: 5 })));
  }

  #lend(session: Session): Session {
    this.#lent.add(session);
    return session;
  }

  #open(): Session {
    this.#size++;
    const parts = this.#make(() => {
      session.lost = true;
    });
    const session: Session = { ...parts, lost: false, openedMs: performance.now() };
    return session;
  }

  #busy(): RegistryError {
    return new RegistryError("unavailable", {
      message: `No database connection came free within ${this.#timeoutMs} ms (${this.#sessionsMax} for transactions); raise DB_CONNECTION_ARGS.max_connections or look for long transactions.`,
      forLog: true,
    });
  }
}
