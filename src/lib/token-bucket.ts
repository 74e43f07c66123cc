/**
 * A budget of so much a second that several may draw from: whoever takes waits until what was taken has come in, in the
 * order of asking. What is not used is kept for a moment only, so that a pause is not followed by a rush.
 */

import { setTimeout as delay } from "node:timers/promises";

export interface TokenBucketOptions {
  readonly ratePerSecond: number;
  /** Kept while nobody takes, as the time in which it comes in. */
  readonly burstMs: number;
  /** Any clock that only goes forward. */
  readonly nowMs?: () => number;
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

export class TokenBucket {
  readonly #msPerToken: number;
  readonly #burstMs: number;
  readonly #nowMs: () => number;
  readonly #sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** When all that was taken will have come in. */
  #paidMs: number;

  constructor(options: TokenBucketOptions) {
    if (!(options.ratePerSecond > 0)) throw new RangeError(`a rate of ${options.ratePerSecond}: it must be above 0`);
    this.#msPerToken = 1000 / options.ratePerSecond;
    this.#burstMs = options.burstMs;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#sleep = options.sleep ?? ((ms, signal) => delay(ms, undefined, { signal }));
    this.#paidMs = this.#nowMs() - this.#burstMs;
  }

  /** Takes any amount and resolves when it is paid for. Throws when `signal` ends the wait; nothing was taken then. */
  async take(amount: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const nowMs = this.#nowMs();
    const costMs = amount * this.#msPerToken;
    this.#paidMs = Math.max(this.#paidMs, nowMs - this.#burstMs) + costMs;
    const waitMs = this.#paidMs - nowMs;
    if (waitMs <= 0) return;
    try {
      await this.#sleep(waitMs, signal);
    } catch (error) {
      this.#paidMs -= costMs;
      throw error;
    }
  }
}
