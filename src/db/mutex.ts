/** A lock for async functions of one process, first come first served, with a bound on who may wait. */

import { RegistryError } from "../errors.ts";

export class Mutex {
  readonly #waitersMax: number;
  readonly #waiters: (() => void)[] = [];
  #head = 0;
  #held = false;

  constructor(waitersMax: number) {
    this.#waitersMax = waitersMax;
  }

  /** Resolves when the caller holds the lock, at once when it is free. Throws `unavailable` when too many wait already. */
  acquire(): Promise<void> | undefined {
    if (!this.#held) {
      this.#held = true;
      return undefined;
    }
    if (this.#waiters.length - this.#head >= this.#waitersMax) {
      throw new RegistryError("unavailable", {
        message: `More than ${this.#waitersMax} transactions wait for the database; try again later.`,
      });
    }
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Hands the lock to who waits longest. Only the holder may call it. */
  release(): void {
    const next = this.#waiters[this.#head];
    if (next === undefined) {
      this.#held = false;
      this.#waiters.length = 0;
      this.#head = 0;
      return;
    }
    this.#head++;
    // The consumed part is cut off now and then, which keeps both operations cheap.
    if (this.#head > 1024) {
      this.#waiters.splice(0, this.#head);
      this.#head = 0;
    }
    next();
  }
}
