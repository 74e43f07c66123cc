/**
 * A bounded map that forgets what was not used lately. Two generations instead of an exact order: a hit in the young one
 * costs one look-up and moves nothing, which is what a hot path wants. Weights let a byte budget be the bound.
 */

interface Entry<V> {
  readonly value: V;
  readonly weight: number;
}

export class Lru<K, V> {
  #young = new Map<K, Entry<V>>();
  #old = new Map<K, Entry<V>>();
  #youngWeight = 0;
  readonly #youngMax: number;

  /** `maxWeight` bounds the sum of weights; with the default weight of 1 it is a number of entries. */
  constructor(maxWeight: number) {
    // Each generation may grow to half of it.
    this.#youngMax = Math.max(1, Math.floor(maxWeight / 2));
  }

  get size(): number {
    let size = this.#young.size;
    for (const key of this.#old.keys()) if (!this.#young.has(key)) size++;
    return size;
  }

  get(key: K): V | undefined {
    const entry = this.#young.get(key);
    if (entry !== undefined) return entry.value;
    const aged = this.#old.get(key);
    if (aged === undefined) return undefined;
    this.#keep(key, aged);
    return aged.value;
  }

  /** Keeps a value. One heavier than half the budget is not kept. */
  set(key: K, value: V, weight = 1): void {
    this.delete(key);
    if (weight <= this.#youngMax) this.#keep(key, { value, weight });
  }

  delete(key: K): void {
    const entry = this.#young.get(key);
    if (entry !== undefined) {
      this.#young.delete(key);
      this.#youngWeight -= entry.weight;
    }
    this.#old.delete(key);
  }

  clear(): void {
    this.#young = new Map();
    this.#old = new Map();
    this.#youngWeight = 0;
  }

  #keep(key: K, entry: Entry<V>): void {
    this.#old.delete(key);
    if (this.#youngWeight + entry.weight > this.#youngMax) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#youngWeight = 0;
    }
    this.#young.set(key, entry);
    this.#youngWeight += entry.weight;
  }
}
