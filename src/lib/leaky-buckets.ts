/**
 * Leaky buckets, one for each key, as nginx counts them with `burst` and `nodelay`: up to `burst` requests more than the
 * rate allows pass at once, what is over them is refused and does not count. Bounded: keys not used lately are forgotten.
 */
import { Lru } from "./lru.ts";

export interface LeakyBucketOptions {
  readonly ratePerSecond: number;
  /** Requests that may come at once beside the one that the rate allows. */
  readonly burst: number;
  /** Keys remembered. One that is forgotten starts with an empty bucket. */
  readonly keysMax: number;
}

interface Bucket {
  /** What is in it, as the time it takes to leak out, at `atMs`. */
  fillMs: number;
  atMs: number;
}

export class LeakyBuckets {
  readonly #intervalMs: number;
  readonly #roomMs: number;
  readonly #buckets: Lru<string, Bucket>;

  constructor(options: LeakyBucketOptions) {
    this.#intervalMs = 1000 / options.ratePerSecond;
    this.#roomMs = this.#intervalMs * options.burst;
    this.#buckets = new Lru(options.keysMax);
  }

  has(key: string): boolean {
    return this.#buckets.get(key) !== undefined;
  }

  /** Takes one request in and gives 0, or the milliseconds after which there is room for one. */
  take(key: string, nowMs: number): number {
    const bucket = this.#buckets.get(key);
    if (!bucket) {
      this.#buckets.set(key, { fillMs: this.#intervalMs, atMs: nowMs });
      return 0;
    }
    // A clock that was set back must not stop the leaking until it has caught up.
    bucket.atMs = Math.min(bucket.atMs, nowMs);
    const leftMs = Math.max(0, bucket.fillMs - (nowMs - bucket.atMs));
    const waitMs = leftMs - this.#roomMs;
    // Thirds of a second do not add up exactly: what is over by less than a microsecond is not over.
    if (waitMs > 0.001) return waitMs;
    bucket.fillMs = leftMs + this.#intervalMs;
    bucket.atMs = nowMs;
    return 0;
  }
}
