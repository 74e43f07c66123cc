/**
 * How much may still be written to a disk: all but a reserve, which is kept for what frees space. SQLite writes down every
 * deletion before it happens, so on a disk that blobs filled to the last byte nothing could be deleted any more.
 */

import { RegistryError } from "../errors.ts";

/** Free and all bytes of a file system; 0 bytes in all where it does not tell. */
export interface DiskSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Several times what SQLite lets its log grow to before it writes it into the file. */
const RESERVE_MAX_BYTES = 64 * 1024 * 1024;
/** Of a disk of less than 256 MiB: this share of it. */
const RESERVE_SHARE = 0.25;
/** Others write too: what was seen is believed for so long. */
const LOOK_MS = 1000;

export class DiskRoom {
  readonly #look: () => Promise<DiskSpace>;
  #leftBytes = 0;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;

  constructor(look: () => Promise<DiskSpace>) {
    this.#look = look;
  }

  /**
   * Takes room for bytes that are about to be written. It looks at the disk once a second at most while there is enough, and
   * is a subtraction otherwise. Throws `storage_full`, and what the look throws.
   */
  take(sizeBytes: number): Promise<void> | void {
    if (performance.now() - this.#lookedAtMs > LOOK_MS || this.#leftBytes < sizeBytes)
      return this.#lookAndTake(sizeBytes);
    this.#leftBytes -= sizeBytes;
  }

  async #lookAndTake(sizeBytes: number): Promise<void> {
    this.#looking ??= this.#refresh().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
    if (this.#leftBytes < sizeBytes) {
      throw new RegistryError("storage_full", { message: "the blob store is full but for what deleting needs" });
    }
    this.#leftBytes -= sizeBytes;
  }

  async #refresh(): Promise<void> {
    const { freeBytes, totalBytes } = await this.#look();
    const reserveBytes = Math.min(RESERVE_MAX_BYTES, totalBytes * RESERVE_SHARE);
    this.#leftBytes = totalBytes > 0 ? freeBytes - reserveBytes : Number.POSITIVE_INFINITY;
    this.#lookedAtMs = performance.now();
  }
}
