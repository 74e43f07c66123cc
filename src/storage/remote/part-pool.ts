/**
 * The memory in which uploads gather parts before they go to a store on another machine. A part is a row of slabs that are
 * taken as bytes come, so that a small blob costs what it is long; slabs are used again, and one budget holds for all.
 */

/** One slab: also what a request body gives to the socket at a time. Smaller ones cost pace, larger ones gain none. */
export const slabBytes = 256 * 1024;
/** Bound of what parts beyond the first of each upload may bring the promised memory to. */
const BUDGET_BYTES = 128 * 1024 * 1024;
/** Bound of what the parts that fill gradually have together, as long as waiting for it helps. */
const CROWD_BYTES = 160 * 1024 * 1024;
/** Such a part takes this much without asking: most blobs are smaller and never wait. */
const FREE_BYTES = 1024 * 1024;
/** Then it goes on whatever the others have: those may be waiting for slow clients. */
const ADMIT_AFTER_MS = 5000;
/** A part that got no byte for this long is taken to have what it has, and no more soon. */
const STALLED_AFTER_MS = 5000;
/** Free slabs kept for the next part while uploads run. */
const FREE_SLABS_MAX = (64 * 1024 * 1024) / slabBytes;
/** After this long without a part the free slabs go back to the system. */
const TRIM_AFTER_MS = 5000;

export interface PartOptions {
  /** Bytes that the part takes at most. */
  readonly sizeBytesMax: number;
  /** Keeps the SHA-256 of the bytes as they come, for stores that want it in the request. */
  readonly hashed?: boolean;
  /** Takes the first MiB at once and the rest after `admit`: many uploads then hold less than a part each. */
  readonly isGradual?: boolean;
}

export interface PartPoolOptions {
  readonly crowdBytes?: number;
  readonly admitAfterMs?: number;
  /** A clock that never goes back, in ms. */
  readonly nowMs?: () => number;
}

export class PartPool {
  readonly #budgetBytes: number;
  readonly #crowdBytes: number;
  readonly #admitAfterMs: number;
  readonly #nowMs: () => number;
  readonly #free: Uint8Array<ArrayBuffer>[] = [];
  readonly #open = new Set<PartBuffer>();
  readonly #waiting: Waiter[] = [];
  #promisedBytes = 0;
  #trim: ReturnType<typeof setTimeout> | undefined;

  constructor(budgetBytes: number = BUDGET_BYTES, options: PartPoolOptions = {}) {
    this.#budgetBytes = budgetBytes;
    this.#crowdBytes = options.crowdBytes ?? CROWD_BYTES;
    this.#admitAfterMs = options.admitAfterMs ?? ADMIT_AFTER_MS;
    this.#nowMs = options.nowMs ?? (() => performance.now());
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
    const part: PartBuffer = new PartBuffer(options, {
      take: () => this.#free.pop() ?? new Uint8Array(slabBytes),
      give: (slabs) => {
        this.#open.delete(part);
        this.#give(slabs, options.sizeBytesMax);
      },
      nowMs: this.#nowMs,
    });
    this.#open.add(part);
    return part;
  }

  /** One more part for an upload that has one: undefined when the budget does not allow it now, and the upload waits. */
  tryOpen(options: PartOptions): PartBuffer | undefined {
    return this.#promisedBytes + options.sizeBytesMax <= this.#budgetBytes ? this.open(options) : undefined;
  }

  /**
   * Lets a gradual part take all of its bytes: at once while the parts of all uploads have little, else when others were sent,
   * the longest waiting first, and after five seconds in any case. Rejects with the signal's reason; the part stays usable.
   */
  admit(part: PartBuffer, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#waiting.length === 0 && this.#hasRoom(part)) {
      part.admit();
      return Promise.resolve();
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", refuse);
      const at = this.#waiting.indexOf(waiter);
      if (at >= 0) this.#waiting.splice(at, 1);
    };
    const allow = () => {
      end();
      part.admit();
      resolve();
    };
    const refuse = () => {
      end();
      reject(signal.reason);
      this.#admitWaiting();
    };
    const waiter: Waiter = { part, allow };
    const timer = setTimeout(allow, this.#admitAfterMs);
    signal.addEventListener("abort", refuse);
    this.#waiting.push(waiter);
    return promise;
  }

  #admitWaiting(): void {
    for (let first = this.#waiting[0]; first && this.#hasRoom(first.part); first = this.#waiting[0]) first.allow();
  }

  #hasRoom(part: PartBuffer): boolean {
    const nowMs = this.#nowMs();
    let claimedBytes = part.sizeBytesMax;
    for (const other of this.#open) if (other !== part) claimedBytes += other.claimBytes(nowMs);
    return claimedBytes <= this.#crowdBytes;
  }

  #give(slabs: readonly Uint8Array<ArrayBuffer>[], promisedBytes: number): void {
    this.#promisedBytes -= promisedBytes;
    for (const slab of slabs) {
      if (this.#free.length < FREE_SLABS_MAX) this.#free.push(slab);
      else freeNow(slab);
    }
    this.#admitWaiting();
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

interface Waiter {
  readonly part: PartBuffer;
  allow(): void;
}

interface Slabs {
  take(): Uint8Array<ArrayBuffer>;
  give(slabs: readonly Uint8Array<ArrayBuffer>[]): void;
  nowMs(): number;
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
  /** Bytes that it takes until more are allowed. */
  #allowedBytes: number;
  #touchedMs = 0;

  constructor(options: PartOptions, slabs: Slabs) {
    this.sizeBytesMax = options.sizeBytesMax;
    this.#allowedBytes = options.isGradual ? Math.min(FREE_BYTES, options.sizeBytesMax) : options.sizeBytesMax;
    this.#slabs = slabs;
    this.#hasher = options.hashed ? new Bun.CryptoHasher("sha256") : undefined;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get isFull(): boolean {
    return this.#sizeBytes === this.sizeBytesMax;
  }

  /** Bytes that it takes now; of a gradual part that was not admitted fewer than are missing to its size. */
  get roomBytes(): number {
    return this.#allowedBytes - this.#sizeBytes;
  }

  /** For the pool: all bytes may come. */
  admit(): void {
    this.#allowedBytes = this.sizeBytesMax;
  }

  /** For the pool: memory that it has, or will have soon if bytes go on coming. */
  claimBytes(nowMs: number): number {
    const isFilling = nowMs - this.#touchedMs < STALLED_AFTER_MS;
    return isFilling && this.#allowedBytes === this.sizeBytesMax ? this.sizeBytesMax : this.#taken.length * slabBytes;
  }

  /** Copies bytes of `chunk` from `from` on while there is room. Gives how many it took. */
  append(chunk: Uint8Array, from = 0): number {
    if (this.#isReleased || this.#sha256 !== undefined) throw new Error("a part that was sent takes no more bytes");
    this.#touchedMs = this.#slabs.nowMs();
    const end = Math.min(chunk.byteLength, from + this.roomBytes);
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
