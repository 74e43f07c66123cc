/**
 * Layers that all clients push, so that the same digests come and go: at any moment a few of many are in use, and each is out
 * of use for about as long as a blob's lease lasts. When it comes back, its collection is most often just under way.
 */
import { bytesOf, type Content, type Random } from "../../crash/random.ts";
import { digestOf } from "../../support/registry-client.ts";
import type { Part } from "./model.ts";

export interface Layer extends Part {
  readonly content: Content;
}

const LAYERS = 200;
/** In use at once. */
const IN_USE = 20;
const BYTES = { min: 1, max: 40_000 } as const;

export class LayerPool {
  readonly #layers: readonly Layer[];
  readonly #cycleMs: number;

  /** `cycleMs` is how long it takes until a layer comes back. */
  constructor(random: Random, cycleMs: number) {
    this.#layers = Array.from({ length: LAYERS }, () => {
      const content = { seed: random.between(1, 2 ** 31), sizeBytes: random.between(BYTES.min, BYTES.max) };
      return { content, digest: digestOf(bytesOf(content)), sizeBytes: content.sizeBytes };
    });
    this.#cycleMs = cycleMs;
  }

  /** One of those in use now. */
  pick(random: Random): Layer {
    const first = Math.floor(((performance.now() % this.#cycleMs) / this.#cycleMs) * LAYERS);
    const layer = this.#layers[(first + random.between(0, IN_USE - 1)) % LAYERS];
    if (!layer) throw new Error("the pool has no layers");
    return layer;
  }
}

/** A layer that nobody else has. */
export function ownLayer(random: Random): Layer {
  const content = { seed: random.between(1, 2 ** 31), sizeBytes: random.between(40, 400) };
  return { content, digest: digestOf(bytesOf(content)), sizeBytes: content.sizeBytes };
}
