/**
 * The bytes of one request on their way into an upload's file. Writes run on the thread pool, one at a time, while the
 * caller hashes and fills the other buffer; memory is bounded by two buffers, however fast the client sends.
 */

import type { FileHandle } from "node:fs/promises";
import { RegistryError } from "../errors.ts";
import type { UploadWriter } from "./driver.ts";
import { storageError } from "./local-files.ts";
import type { DiskRoom } from "./local-room.ts";

/**
 * Largest single write while few uploads run. Each write is a trip through the thread pool: 512 KiB took a third off the
 * time of a one-stream push against 256 KiB, and 1 MiB gained nothing more.
 */
export const bufferBytes = 512 * 1024;
/** Largest single write of the others when many run at once: then the disk is the bound, and memory must be. */
const smallBufferBytes = 128 * 1024;
/** Large buffers out at once: 8 MiB. Each upload has two buffers, so 32 of them hold 14 MiB. */
const largeBuffersMax = 16;
/** Small buffers kept for the next upload instead of being left to the garbage collector: 8 MiB. */
const pooledSmallMax = 64;
/** Written back to disk in the background whenever this much is dirty, so that the fsync of the commit is short. */
const writebackBytes = 32 * 1024 * 1024;

/** Buffers that several uploads take turns with. */
export class BufferPool {
  readonly #freeLarge: Uint8Array[] = [];
  readonly #freeSmall: Uint8Array[] = [];
  #largeOut = 0;

  take(): Uint8Array {
    if (this.#largeOut >= largeBuffersMax) return this.#freeSmall.pop() ?? new Uint8Array(smallBufferBytes);
    this.#largeOut++;
    return this.#freeLarge.pop() ?? new Uint8Array(bufferBytes);
  }

  give(buffer: Uint8Array): void {
    if (buffer.byteLength === bufferBytes) {
      this.#largeOut--;
      this.#freeLarge.push(buffer);
    } else if (this.#freeSmall.length < pooledSmallMax) {
      this.#freeSmall.push(buffer);
    }
  }
}

/** Owns the file handle: closed by `flush` and by `abort`, of which the first one called counts. */
export class LocalUploadWriter implements UploadWriter {
  readonly #file: FileHandle;
  readonly #pool: BufferPool;
  readonly #disk: DiskRoom;
  readonly #onEnd: () => void;
  readonly #startBytes: number;
  /** Where the next write goes. */
  #offsetBytes: number;
  /** Bytes waiting for the write that is running. */
  #staged: Uint8Array | undefined;
  #stagedBytes = 0;
  /** The loop that writes, while there is something to write. */
  #running: Promise<void> | undefined;
  /** Settled when the staged buffer has gone into a write, or never will. */
  #room: PromiseWithResolvers<void> | undefined;
  #writeback: Promise<void> | undefined;
  #writtenBackBytes: number;
  /** The first failure; every later call throws it again. */
  #failure: RegistryError | undefined;
  #ended = false;
  #fenced = false;
  #closing: Promise<void> | undefined;

  constructor(
    file: FileHandle,
    offsetBytes: number,
    store: { readonly pool: BufferPool; readonly room: DiskRoom },
    onEnd: () => void,
  ) {
    this.#file = file;
    this.#onEnd = onEnd;
    this.#pool = store.pool;
    this.#disk = store.room;
    this.#startBytes = offsetBytes;
    this.#offsetBytes = offsetBytes;
    this.#writtenBackBytes = offsetBytes;
  }

  write(chunk: Uint8Array): Promise<void> | void {
    this.#requireUsable();
    const taken = this.#stage(chunk, 0);
    if (taken < chunk.byteLength) return this.#stageRest(chunk, taken);
  }

  async flush(): Promise<string> {
    this.#requireUsable();
    this.#ended = true;
    await this.#settle();
    if (this.#failure) throw this.#failure;
    await this.#close();
    return String(this.#offsetBytes);
  }

  async abort(): Promise<void> {
    if (this.#closing) return this.#closing;
    await this.#stop("the upload request was aborted");
    // Only to give the space back now: openUpload drops the bytes past the flushed offset whether or not this works.
    if (!this.#fenced) await this.#file.truncate(this.#startBytes).catch(() => {});
    await this.#close();
  }

  /** Ends the writer without touching the file again, because a later request now owns it. */
  async fence(): Promise<void> {
    this.#fenced = true;
    await this.#stop("another request has taken over the upload");
    await this.#close();
  }

  /** No write starts after this resolves. What is staged and not written is dropped. */
  async #stop(message: string): Promise<void> {
    this.#ended = true;
    this.#failure ??= new RegistryError("blob_upload_invalid", { message });
    await this.#settle();
  }

  /** A close that fails says nothing about the bytes: the commit's fsync does, and it reports what writeback met. */
  #close(): Promise<void> {
    this.#closing ??= this.#file
      .close()
      .catch(() => {})
      .then(() => {
        if (this.#staged) this.#pool.give(this.#staged);
        this.#staged = undefined;
        this.#onEnd();
      });
    return this.#closing;
  }

  #requireUsable(): void {
    if (this.#failure) throw this.#failure;
    if (this.#ended) throw new Error("upload writer used after flush or abort");
  }

  /** Copies what fits into the staged buffer and starts a write when none runs. Gives the count of bytes taken. */
  #stage(chunk: Uint8Array, from: number): number {
    let taken = from;
    while (taken < chunk.byteLength) {
      this.#staged ??= this.#pool.take();
      const room = this.#staged.byteLength - this.#stagedBytes;
      if (room === 0) break;
      const part = chunk.subarray(taken, taken + room);
      this.#staged.set(part, this.#stagedBytes);
      this.#stagedBytes += part.byteLength;
      taken += part.byteLength;
      this.#running ??= this.#drain();
    }
    return taken;
  }

  async #stageRest(chunk: Uint8Array, from: number): Promise<void> {
    let taken = from;
    while (taken < chunk.byteLength) {
      this.#room ??= Promise.withResolvers();
      await this.#room.promise;
      this.#requireUsable();
      taken = this.#stage(chunk, taken);
    }
  }

  /** Writes what is staged, and what is staged meanwhile, until nothing is. Never rejects: failures are kept. */
  async #drain(): Promise<void> {
    while (this.#staged && !this.#failure) {
      const buffer = this.#staged;
      const sizeBytes = this.#stagedBytes;
      this.#staged = undefined;
      this.#stagedBytes = 0;
      this.#makeRoom();
      try {
        await this.#writeAll(buffer, sizeBytes);
      } catch (error) {
        this.#failure ??= storageError(error, "writing an upload");
      }
      this.#pool.give(buffer);
      this.#startWriteback();
    }
    this.#running = undefined;
    this.#makeRoom();
  }

  #makeRoom(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  async #writeAll(buffer: Uint8Array, sizeBytes: number): Promise<void> {
    const taking = this.#disk.take(sizeBytes);
    if (taking) await taking;
    let written = 0;
    while (written < sizeBytes) {
      const result = await this.#file.write(buffer, written, sizeBytes - written, this.#offsetBytes);
      if (result.bytesWritten === 0) throw new Error("the file system took no bytes");
      written += result.bytesWritten;
      this.#offsetBytes += result.bytesWritten;
    }
  }

  #startWriteback(): void {
    if (this.#writeback || this.#failure || this.#offsetBytes - this.#writtenBackBytes < writebackBytes) return;
    this.#writtenBackBytes = this.#offsetBytes;
    this.#writeback = this.#file
      .datasync()
      .catch((error: unknown) => {
        this.#failure ??= storageError(error, "writing an upload");
      })
      .finally(() => {
        this.#writeback = undefined;
      });
  }

  /** Waits until neither a write nor a writeback runs, after which the file may be closed. */
  async #settle(): Promise<void> {
    while (this.#running) await this.#running;
    while (this.#writeback) await this.#writeback;
  }
}
