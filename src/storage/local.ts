/**
 * The blob store on this machine's disk: `LocalStorage` of DISTRIBUTED_STORAGE_CONFIG, in Quay's layout below its
 * `storage_path`. What is fsynced when, and why, is in NOTES.md.
 */

import { constants, statSync } from "node:fs";
import { access, open, opendir, rename, stat, statfs, unlink, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { RegistryError } from "../errors.ts";
import { type Clock, isRecent, systemClock } from "../lib/clock.ts";
import type { ObjectSource, StorageDriver, UploadWriter } from "./driver.ts";
import { errnoOf, fileMode, isAbsent, makeDirectory, storageError, syncDirectory } from "./local-files.ts";
import { readStream } from "./local-reader.ts";
import { DiskRoom } from "./local-room.ts";
import { BufferPool, LocalUploadWriter } from "./local-writer.ts";
import { isUploadId, requireObjectKey, requireUploadKey } from "./paths.ts";

export interface LocalStorageOptions {
  /** Quay's `storage_path`. Made, with its parents, when it is not there. */
  readonly rootPath: string;
  readonly clock?: Clock;
}

/** A poll within this time of the last one gets the same answer. */
const checkReuseMs = 1000;
/** How often `check` really writes; between, it only asks the kernel whether it might. */
const probeEveryMs = 10_000;
/** After this long without an answer, the disk (or the server behind its mount) counts as gone. */
const checkTimeoutMs = 5000;

/** Opens the store. Throws `unavailable` when its directories cannot be made. */
export async function openLocalStorage(options: LocalStorageOptions): Promise<StorageDriver> {
  const rootPath = resolve(options.rootPath);
  try {
    await makeDirectory(rootPath);
    // Only made here: should the root's mount vanish later, uploads must fail and not fill the disk below it.
    await makeDirectory(join(rootPath, "uploads"));
  } catch (error) {
    throw new RegistryError("unavailable", {
      message: `opening the blob store "${options.rootPath}" failed: ${errnoOf(error) ?? "unknown error"}; it must be a directory that this account may write`,
      cause: error,
    });
  }
  return new LocalStorage(rootPath, options.clock ?? systemClock);
}

class LocalStorage implements StorageDriver {
  readonly kind = "LocalStorage";
  readonly isLocal = true;
  readonly fencesWriters = false;
  readonly #rootPath: string;
  readonly #clock: Clock;
  readonly #buffers = new BufferPool();
  readonly #room = new DiskRoom(() => this.space());
  /** Directories of objects known to be durable: at most 256 for each digest algorithm, and the few of named files. */
  readonly #durableDirectories = new Map<string, Promise<void>>();
  /** The open writer of each upload in this process. */
  readonly #writers = new Map<string, LocalUploadWriter>();
  #checkedAtMs = Number.NEGATIVE_INFINITY;
  #probedAtMs = Number.NEGATIVE_INFINITY;
  #checkFailure: RegistryError | undefined;
  #checking: Promise<void> | undefined;

  constructor(rootPath: string, clock: Clock) {
    this.#rootPath = rootPath;
    this.#clock = clock;
  }

  async find(key: string): Promise<{ sizeBytes: number } | undefined> {
    const sizeBytes = this.#sizeOf(this.#blobPath(key));
    return sizeBytes === undefined ? undefined : { sizeBytes };
  }

  async source(key: string): Promise<ObjectSource | undefined> {
    const path = this.#blobPath(key);
    const sizeBytes = this.#sizeOf(path);
    return sizeBytes === undefined ? undefined : { kind: "file", path, sizeBytes };
  }

  /** The removal is not fsynced: after power loss the file may be back, as an object that nothing refers to. */
  async delete(key: string): Promise<void> {
    await remove(this.#blobPath(key), "deleting a blob");
  }

  async createUpload(uploadId: string): Promise<string> {
    const path = this.#uploadPath(uploadId);
    try {
      await (await open(path, "wx", fileMode)).close();
    } catch (error) {
      throw storageError(error, "starting an upload");
    }
    return stateOf(0);
  }

  async openUpload(uploadId: string, _state: string, offsetBytes: number): Promise<UploadWriter> {
    const path = this.#uploadPath(uploadId);
    await this.#fence(uploadId);
    try {
      const file = await open(path, constants.O_RDWR);
      try {
        const { size } = await file.stat();
        if (size < offsetBytes) throw uploadShort(uploadId, size, offsetBytes);
        if (size > offsetBytes) await file.truncate(offsetBytes);
        const writer = new LocalUploadWriter(file, offsetBytes, { pool: this.#buffers, room: this.#room }, () => {
          if (this.#writers.get(uploadId) === writer) this.#writers.delete(uploadId);
        });
        this.#writers.set(uploadId, writer);
        return writer;
      } catch (error) {
        await file.close();
        throw error;
      }
    } catch (error) {
      throw uploadError(error, uploadId, "continuing an upload");
    }
  }

  async readUpload(uploadId: string, _state: string, sizeBytes: number): Promise<ReadableStream<Uint8Array>> {
    const path = this.#uploadPath(uploadId);
    try {
      const file = await open(path, "r");
      try {
        const { size } = await file.stat();
        if (size < sizeBytes) throw uploadShort(uploadId, size, sizeBytes);
        return readStream(file, sizeBytes);
      } catch (error) {
        await file.close();
        throw error;
      }
    } catch (error) {
      throw uploadError(error, uploadId, "reading an upload back");
    }
  }

  async commitUpload(uploadId: string, state: string, key: string, sizeBytes: number): Promise<void> {
    const uploadPath = this.#uploadPath(uploadId);
    const blobPath = this.#blobPath(key);
    if (state !== stateOf(sizeBytes)) {
      throw new RegistryError("size_invalid", {
        message: `storing upload "${uploadId}" failed: it holds ${state} bytes, and ${sizeBytes} were expected`,
      });
    }
    await this.#fence(uploadId);
    try {
      await this.#syncUpload(uploadId, uploadPath, sizeBytes);
      await this.#makeBlobDirectory(dirname(blobPath));
      await this.#rename(uploadPath, blobPath);
      await syncDirectory(dirname(blobPath));
    } catch (error) {
      throw uploadError(error, uploadId, "storing a blob");
    }
  }

  async deleteUpload(uploadId: string, _state: string): Promise<void> {
    const path = this.#uploadPath(uploadId);
    await this.#fence(uploadId);
    await remove(path, "deleting an upload");
  }

  async cleanUploads(beforeMs: number, limit: number): Promise<number> {
    const folder = join(this.#rootPath, "uploads");
    let removed = 0;
    try {
      for await (const entry of await opendir(folder)) {
        if (removed >= limit) break;
        const uploadId = entry.name;
        if (!isUploadId(uploadId) || this.#writers.has(uploadId)) continue;
        const path = join(folder, uploadId);
        const { mtimeMs } = await stat(path);
        if (mtimeMs >= beforeMs) continue;
        await remove(path, "removing a stale upload");
        removed++;
      }
      return removed;
    } catch (error) {
      // Another instance, or the end of a push, was faster.
      if (isAbsent(error)) return removed;
      throw storageError(error, "looking for stale uploads");
    }
  }

  async check(): Promise<void> {
    if (!isRecent(this.#checkedAtMs, this.#clock.nowMs(), checkReuseMs)) {
      this.#checking ??= this.#probe().finally(() => {
        this.#checking = undefined;
      });
      await withTimeout(this.#checking, checkTimeoutMs);
    }
    if (this.#checkFailure) throw this.#checkFailure;
  }

  async space(): Promise<{ freeBytes: number; totalBytes: number }> {
    try {
      const { bavail, blocks, bsize } = await statfs(this.#rootPath);
      return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
    } catch (error) {
      throw storageError(error, "asking for the free space");
    }
  }

  #blobPath(key: string): string {
    return join(this.#rootPath, requireObjectKey(key));
  }

  #uploadPath(uploadId: string): string {
    return join(this.#rootPath, requireUploadKey(uploadId));
  }

  /**
   * Size of a blob. Blocks the thread on purpose: a stat of a few microseconds that every pull makes, and the thread pool,
   * which is as small as the machine has cores, would let it wait behind the fsyncs of pushes.
   */
  #sizeOf(path: string): number | undefined {
    try {
      const stat = statSync(path, { throwIfNoEntry: false });
      return stat?.isFile() ? stat.size : undefined;
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw storageError(error, "looking for a blob");
    }
  }

  /** Ends the writer that an earlier request left open: it must not touch a file that was cut, renamed or removed. */
  async #fence(uploadId: string): Promise<void> {
    const writer = this.#writers.get(uploadId);
    if (!writer) return;
    this.#writers.delete(uploadId);
    await writer.fence();
  }

  async #syncUpload(uploadId: string, path: string, sizeBytes: number): Promise<void> {
    const file = await open(path, constants.O_RDWR);
    try {
      const { size } = await file.stat();
      if (size < sizeBytes) throw uploadShort(uploadId, size, sizeBytes);
      // Left by a request that died before its flush; openUpload drops them in the same way.
      if (size > sizeBytes) await file.truncate(sizeBytes);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  async #rename(uploadPath: string, blobPath: string): Promise<void> {
    try {
      await rename(uploadPath, blobPath);
    } catch (error) {
      if (!isAbsent(error)) throw error;
      // Either the upload is gone, and this fails again, or somebody removed the blob's directory behind our back.
      this.#durableDirectories.clear();
      await this.#makeBlobDirectory(dirname(blobPath));
      await rename(uploadPath, blobPath);
    }
  }

  /** Makes the directory of a blob once in this process; commits at the same time wait for the same fsync. */
  #makeBlobDirectory(path: string): Promise<void> {
    const known = this.#durableDirectories.get(path);
    if (known) return known;
    const making = makeDirectory(dirname(path)).then(() => makeDirectory(path));
    this.#durableDirectories.set(path, making);
    making.catch(() => this.#durableDirectories.delete(path));
    return making;
  }

  /** Looks whether blobs can be read and written, and keeps the answer for `check`. Never rejects. */
  async #probe(): Promise<void> {
    const nowMs = this.#clock.nowMs();
    const uploadsPath = join(this.#rootPath, "uploads");
    try {
      // access(2) answers EROFS on a read-only mount, ENOENT when the mount is gone, EACCES when rights were taken away.
      await access(uploadsPath, constants.R_OK | constants.W_OK | constants.X_OK);
      if (this.#checkFailure || !isRecent(this.#probedAtMs, nowMs, probeEveryMs)) {
        await writeFile(join(uploadsPath, ".check"), "1", { mode: fileMode });
        this.#probedAtMs = nowMs;
      }
      this.#checkFailure = undefined;
    } catch (error) {
      const failure = storageError(error, "checking the blob store");
      // A full store still serves pulls; what is full is seen by `space` and by the push that meets it.
      this.#checkFailure = failure.code === "storage_full" ? undefined : failure;
    }
    this.#checkedAtMs = nowMs;
  }
}

/** The driver's state is the count of flushed bytes, in digits. */
function stateOf(sizeBytes: number): string {
  return String(sizeBytes);
}

function uploadShort(uploadId: string, sizeBytes: number, expectedBytes: number): RegistryError {
  return new RegistryError("blob_upload_unknown", {
    message: `upload "${uploadId}" holds ${sizeBytes} of its ${expectedBytes} bytes and must be started again`,
  });
}

function uploadError(error: unknown, uploadId: string, attempt: string): RegistryError {
  if (!isAbsent(error)) return storageError(error, attempt);
  return new RegistryError("blob_upload_unknown", {
    message: `upload "${uploadId}" is not in the store`,
    cause: error,
  });
}

async function remove(path: string, attempt: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!isAbsent(error)) throw storageError(error, attempt);
  }
}

/** Throws `unavailable` when `work` has not settled after `timeoutMs`; the work itself runs on. */
async function withTimeout(work: Promise<void>, timeoutMs: number): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(new RegistryError("unavailable", { message: `the blob store did not answer within ${timeoutMs} ms` }));
  }, timeoutMs);
  try {
    await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
