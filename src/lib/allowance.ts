/** Bounds how much one request may look at, and lets others run in between. */

import { setImmediate as nextTurn } from "node:timers/promises";

export class Allowance {
  #left: number;

  constructor(rowsMax: number) {
    this.#left = rowsMax;
  }

  /** Called after each query, with what it read: queries on SQLite hold the thread, and so would a row of them. */
  async spend(rows: number): Promise<void> {
    this.#left -= 1 + rows;
    await nextTurn();
  }

  /** Nothing more should be asked: what was found so far is the answer. */
  get isSpent(): boolean {
    return this.#left <= 0;
  }
}
