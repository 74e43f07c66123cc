/** Numbers and bytes that follow from a seed alone, so that a crash run can be repeated and its content made again. */

/** Mulberry32: one 32-bit word of state, good enough to choose among operations. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from `min` to `max`, both included. */
  between(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of these, undefined when there is none. */
  pick<T>(items: readonly T[]): T | undefined {
    return items[this.between(0, items.length - 1)];
  }

  bytes(sizeBytes: number): Uint8Array {
    const words = new Uint32Array(Math.ceil(sizeBytes / 4));
    for (let i = 0; i < words.length; i++) words[i] = this.next() * 2 ** 32;
    return new Uint8Array(words.buffer, 0, sizeBytes);
  }
}

/** What a blob consists of, kept instead of its bytes. */
export interface Content {
  readonly seed: number;
  readonly sizeBytes: number;
}

export function bytesOf(content: Content): Uint8Array {
  return new Random(content.seed).bytes(content.sizeBytes);
}
