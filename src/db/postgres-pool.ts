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

/** A lent connection. */
export interface Session {
  readonly client: Client;
  /** True once the connection was closed; reset by who starts a transaction on it. */
  lost: boolean;
  readonly openedMs: number;
}

export class SessionPool {
  readonly #make: (onClose: () => void) => Client;
  readonly #sessionsMax: number;
  readonly #timeoutMs: number;
  readonly #idle: Session[] = [];
  readonly #waiters = new Set<(session: Session) => void>();
  #size = 0;

  constructor(sessionsMax: number, timeoutMs: number, make: (onClose: () => void) => Client) {
    this.#sessionsMax = sessionsMax;
    this.#timeoutMs = timeoutMs;
    this.#make = make;
  }

  /** Throws `unavailable` when none comes free in time. */
  async acquire(): Promise<Session> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#size < this.#sessionsMax) return this.#open();
    if (this.#waiters.size >= waitersMax) throw this.#busy();
    return new Promise((resolve, reject) => {
      const waiter = (session: Session): void => {
        clearTimeout(timer);
        resolve(session);
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
    let next = session;
    if (session.lost || performance.now() - session.openedMs > sessionMaxMs) {
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
    waiter(next);
  }

  /** Closes what is idle; the caller has waited until nothing is lent any more. */
  async close(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((session) => session.client.end({ timeout: 5 })));
  }

  #open(): Session {
    this.#size++;
    const session: Session = {
      client: this.#make(() => {
        session.lost = true;
      }),
      lost: false,
      openedMs: performance.now(),
    };
    return session;
  }

  #busy(): RegistryError {
    return new RegistryError("unavailable", {
      message: `No database connection came free within ${this.#timeoutMs} ms (${this.#sessionsMax} for transactions); raise DB_CONNECTION_ARGS.max_connections or look for long transactions.`,
    });
  }
}
