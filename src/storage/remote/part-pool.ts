/**
 * The memory in which uploads gather parts before they go to a store on another machine. A part is a row of slabs that are
 * taken as bytes come, so that a small blob costs what it is long; slabs are used again, and one budget holds for all.
 */

/** One slab: also what a request body gives to the socket at a time. Smaller ones cost pace, larger ones gain none. */
export const slabBytes = 256 * 1024;
/** Bound of what parts beyond the first of each upload may bring the promised memory to. */
const BUDGET_BYTES = 128 * 1024 * 1024;
/** Free slabs kept for the next part while uploads run. */
const FREE_SLABS_MAX = (64 * 1024 * 1024) / slabBytes;
/** After this long without a part the free slabs go back to the system. */
const TRIM_AFTER_MS = 5000;

export interface PartOptions {
  /** Bytes that the part takes at most. */
  readonly sizeBytesMax: number;
  /** Keeps the SHA-256 of the bytes as they come, for stores that want it in the request. */
  readonly hashed?: boolean;
}

export class PartPool {
  readonly #budgetBytes: number;
  readonly #free: Uint8Array<ArrayBuffer>[] = [];
  #promisedBytes = 0;
  #trim: ReturnType<typeof setTimeout> | undefined;

  constructor(budgetBytes: number = BUDGET_BYTES) {
    this.#budgetBytes = budgetBytes;
  }

  /** What the parts that are open may hold together. */
  get promisedBytes(): number {
    return this.#promisedBytes;
  }

  /** The one part that every upload is sure of: opened whatever the budget. */
  open(options: PartOptions): PartBuffer {
    this.#promisedBytes += options.sizeBytesMax;
    if (this.#trim) clearTimeout(this.#trim);
    this.#trim = undefined;
    return new PartBuffer(options, {
      take: () => this.#free.pop() ?? new Uint8Array(slabBytes),
      give: (slabs) => this.#give(slabs, options.sizeBytesMax),
    });
  }

  /** One more part for an upload that has one: undefined when the budget does not allow it now, and the upload waits. */
  tryOpen(options: PartOptions): PartBuffer | undefined {
    return this.#promisedBytes + options.sizeBytesMax <= this.#budgetBytes ? this.open(options) : undefined;
  }

  #give(slabs: readonly Uint8Array<ArrayBuffer>[], promisedBytes: number): void {
    this.#promisedBytes -= promisedBytes;
    for (const slab of slabs) {
      if (this.#free.length < FREE_SLABS_MAX) this.#free.push(slab);
      else freeNow(slab);
    }
    if (this.#promisedBytes > 0) return;
    this.#trim ??= setTimeout(() => {
      for (const slab of this.#free.splice(0)) freeNow(slab);
      this.#trim = undefined;
    }, TRIM_AFTER_MS);
    this.#trim.unref();
  }
}

/** Detaches the memory now instead of at some later garbage collection. */
function freeNow(slab: Uint8Array<ArrayBuffer>): void {
  slab.buffer.transfer(0);
}

interface Slabs {
  take(): Uint8Array<ArrayBuffer>;
  give(slabs: readonly Uint8Array<ArrayBuffer>[]): void;
}

/** The bytes of one part, which can be read any number of times until `release`. */
export class PartBuffer {
  readonly sizeBytesMax: number;
  readonly #slabs: Slabs;
  readonly #taken: Uint8Array<ArrayBuffer>[] = [];
  readonly #hasher: Bun.CryptoHasher | undefined;
  #sizeBytes = 0;
  #sha256: string | undefined;
  #isReleased = false;

  constructor(options: PartOptions, slabs: Slabs) {
    this.sizeBytesMax = options.sizeBytesMax;
    this.#slabs = slabs;
    this.#hasher = options.hashed ? new Bun.CryptoHasher("sha256") : undefined;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get isFull(): boolean {
    return this.#sizeBytes === this.sizeBytesMax;
  }

  /** Copies bytes of `chunk` from `from` on until the part is full. Gives how many it took. */
  append(chunk: Uint8Array, from = 0): number {
    if (this.#isReleased || this.#sha256 !== undefined) throw new Error("a part that was sent takes no more bytes");
    const end = Math.min(chunk.byteLength, from + this.sizeBytesMax - this.#sizeBytes);
    for (let at = from; at < end; ) {
      const inSlab = this.#sizeBytes % slabBytes;
      if (inSlab === 0) this.#taken.push(this.#slabs.take());
      const piece = chunk.subarray(at, Math.min(end, at + slabBytes - inSlab));
      this.#taken[this.#taken.length - 1]?.set(piece, inSlab);
      this.#sizeBytes += piece.byteLength;
      at += piece.byteLength;
    }
    if (end > from) this.#hasher?.update(chunk.subarray(from, end));
    return Math.max(0, end - from);
  }

  /** SHA-256 in hex of the bytes, after which none may follow; undefined unless the part was opened with `hashed`. */
  sha256(): string | undefined {
    this.#sha256 ??= this.#hasher?.digest("hex");
    return this.#sha256;
  }

  /** The bytes slab by slab, without a copy: good until `release`. */
  *pieces(): Generator<Uint8Array<ArrayBuffer>> {
    for (const [index, slab] of this.#taken.entries()) {
      yield slab.subarray(0, Math.min(slabBytes, this.#sizeBytes - index * slabBytes));
    }
  }

  /** A copy of the bytes in one piece: for small parts, which are quicker as such. */
  bytes(): Uint8Array<ArrayBuffer> {
    const whole = new Uint8Array(this.#sizeBytes);
    let at = 0;
    for (const piece of this.pieces()) {
      whole.set(piece, at);
      at += piece.byteLength;
    }
    return whole;
  }

  /** Gives the memory back; nothing may read the part any more. Safe to repeat. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#slabs.give(this.#taken.splice(0));
  }
}
