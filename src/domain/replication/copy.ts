/**
 * Copies one blob from the stores that have it to one that lacks it: streaming, hashed on the way, and verified before it
 * becomes visible. How far a copy came is kept in its row, so that any instance goes on with what a dead one left. When to
 * copy what is decided in `worker.ts`.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { createHasher, digestAlgorithm, type Hasher } from "../../oci/digest.ts";
import type { StorageDriver } from "../../storage/driver.ts";
import { failoverSource } from "../../storage/failover.ts";
import { blobKey } from "../../storage/paths.ts";
import {
  type BlobToCopy,
  type CopyProgress,
  endProgress,
  findProgress,
  placeCopy,
  saveProgress,
  startProgress,
} from "./queries.ts";

export type CopyApp = Pick<App, "db" | "storage" | "log">;

/** What a copy tells of itself, for metrics. */
export type CopyEvent =
  | { readonly kind: "copied"; readonly location: string; readonly sizeBytes: number }
  /** The bytes at `location` have another digest than their key says, or are missing. */
  | { readonly kind: "corrupt"; readonly location: string };

export interface CopyOptions {
  /** Ends the copy; what was noted of it stays. */
  readonly signal: AbortSignal;
  readonly report: (event: CopyEvent) => void;
  /** What must become true together with the placement. */
  readonly alongside?: (tx: Tx) => Promise<void>;
  /** Read from there first. */
  readonly from?: string;
}

/**
 * Progress is noted after each segment, which is what a dead worker costs: enough that a store that joins segments at the
 * end has few of them, at most SEGMENTS_MAX.
 */
const SEGMENT_MIN_BYTES = 64 * 1024 * 1024;
const SEGMENTS_MAX = 32;
/** Some stores show a new object late. Source: quay-behaviour reference, section 11. */
const VISIBLE_WAITS_MS = [0, 2000, 4000, 8000, 16_000];

/**
 * Brings a blob to `location` and records it there. Throws `unavailable` when a store that is needed is away, `digest_invalid`
 * when no store has the right bytes, and the signal's reason when that ends it.
 */
export async function copyBlob(app: CopyApp, blob: BlobToCopy, location: string, options: CopyOptions): Promise<void> {
  const { signal, report } = options;
  const driver = app.storage.driver(location);
  const isCopied = !(await isWhole(driver, blob, signal));
  if (isCopied) await transferVerified(app, blob, location, options);
  const left = await findProgress(app.db, blob.id, location);
  if (left && !isCopied) await driver.deleteUpload(left.uploadId, left.uploadState);
  await app.db.tx(async (tx) => {
    await placeCopy(tx, blob, location);
    await options.alongside?.(tx);
  });
  if (isCopied) report({ kind: "copied", location, sizeBytes: blob.sizeBytes });
}

/** Ends a copy that nobody wants any more. */
export async function dropCopy(app: CopyApp, blobId: number, location: string): Promise<void> {
  const left = await findProgress(app.db, blobId, location);
  if (!left) return;
  await app.storage.driver(location).deleteUpload(left.uploadId, left.uploadState);
  await app.db.tx((tx) => endProgress(tx, blobId, location));
}

/** The store has the object already, such as after a crash before its row or from an operator's own tool: read and hashed. */
async function isWhole(driver: StorageDriver, blob: BlobToCopy, signal: AbortSignal): Promise<boolean> {
  const key = blobKey(blob.digest);
  const found = await driver.find(key);
  if (found?.sizeBytes !== blob.sizeBytes) return false;
  const source = await driver.source(key, blob.sizeBytes);
  if (!source) return false;
  const hasher = createHasher(digestAlgorithm(blob.digest));
  const stream = source.kind === "file" ? Bun.file(source.path).stream() : await source.open();
  for await (const chunk of stream) {
    signal.throwIfAborted();
    hasher.update(chunk);
  }
  return hasher.digest() === blob.digest;
}

async function transferVerified(app: CopyApp, blob: BlobToCopy, location: string, options: CopyOptions): Promise<void> {
  const { signal, report, from } = options;
  const driver = app.storage.driver(location);
  const wrong = new Set<string>();
  const refuse = (source: string, found: string) => {
    wrong.add(source);
    app.log.error("the bytes of a blob are wrong in one store and are not copied from there", {
      digest: blob.digest,
      location: source,
      found,
    });
    report({ kind: "corrupt", location: source });
  };
  for (let mayMix = true; ; ) {
    const nearest = app.storage.nearestFirst(blob.locations.filter((name) => name !== location && !wrong.has(name)));
    const sources = from && nearest.includes(from) ? [from, ...nearest.filter((name) => name !== from)] : nearest;
    if (sources.length === 0) throw noSource(blob);
    const used = mayMix ? sources : sources.slice(0, 1);
    const transfer = new Transfer(app, blob, location, used, signal);
    const resume = await findProgress(app.db, blob.id, location);
    const copy = await transfer.run(resume).catch((error: unknown) => {
      // The last store that was asked has nothing; one before it may only be away, and is asked once more.
      if (isContentError(error) && transfer.missing.length > 0) return undefined;
      throw error;
    });
    for (const { source, code } of transfer.missing) refuse(source, code);
    if (copy?.digest === blob.digest) {
      await driver.commitUpload(copy.uploadId, copy.state, blobKey(blob.digest), blob.sizeBytes);
      return requireVisible(driver, blob, signal);
    }
    if (!copy) continue;
    await dropCopy(app, blob.id, location);
    if (copy.source === undefined) mayMix = false;
    else refuse(copy.source, copy.digest);
  }
}

interface Transferred {
  readonly uploadId: string;
  readonly state: string;
  readonly digest: string;
  /** Where all of it came from; undefined when several stores gave parts. */
  readonly source: string | undefined;
}

/** One pass over the bytes. */
class Transfer {
  /** Sources that turned out not to have the blob, or not all of it. */
  readonly missing: { readonly source: string; readonly code: string }[] = [];
  readonly #app: CopyApp;
  readonly #blob: BlobToCopy;
  readonly #location: string;
  readonly #sources: readonly string[];
  readonly #signal: AbortSignal;
  readonly #used = new Set<string>();
  #isMixed = false;
  #reading = "";

  constructor(app: CopyApp, blob: BlobToCopy, location: string, sources: readonly string[], signal: AbortSignal) {
    this.#app = app;
    this.#blob = blob;
    this.#location = location;
    this.#sources = sources;
    this.#signal = signal;
  }

  async run(resume: CopyProgress | undefined): Promise<Transferred> {
    const { db, storage } = this.#app;
    const { id, digest, sizeBytes } = this.#blob;
    const driver = storage.driver(this.#location);
    const begun = await this.#begin(driver, resume);
    const { uploadId, hasher } = begun;
    let { state, offsetBytes } = begun;
    const bytes = new Bytes(await this.#open(offsetBytes), this.#signal);
    try {
      const segmentBytes = Math.max(SEGMENT_MIN_BYTES, Math.ceil(sizeBytes / SEGMENTS_MAX));
      for (let isLast = false; !isLast; ) {
        const end = Math.min(offsetBytes + segmentBytes, sizeBytes);
        isLast = end === sizeBytes;
        const writer = await driver.openUpload(uploadId, state, offsetBytes, isLast ? blobKey(digest) : undefined);
        try {
          while (offsetBytes < end) {
            this.#signal.throwIfAborted();
            const chunk = await bytes.read(end - offsetBytes);
            this.#used.add(this.#reading);
            const written = writer.write(chunk);
            hasher.update(chunk);
            if (written) await written;
            offsetBytes += chunk.byteLength;
          }
          state = await writer.flush();
        } catch (error) {
          await writer.abort().catch(() => undefined);
          throw error;
        }
        // The last segment's state is good for this process alone.
        if (!isLast) {
          const progress = { uploadId, uploadState: state, offsetBytes, source: this.#onlySource() };
          if (!(await db.tx((tx) => saveProgress(tx, id, this.#location, progress)))) throw replaced();
        }
      }
    } finally {
      await bytes.end();
    }
    return { uploadId, state, digest: hasher.digest(), source: this.#onlySource() };
  }

  /** Goes on with what is there, if the store still has it, or begins anew. */
  async #begin(
    driver: StorageDriver,
    resume: CopyProgress | undefined,
  ): Promise<{ uploadId: string; state: string; offsetBytes: number; hasher: Hasher }> {
    const hasher = createHasher(digestAlgorithm(this.#blob.digest));
    if (resume && resume.offsetBytes > 0) {
      const { uploadId, uploadState, offsetBytes } = resume;
      try {
        for await (const chunk of await driver.readUpload(uploadId, uploadState, offsetBytes)) {
          this.#signal.throwIfAborted();
          hasher.update(chunk);
        }
        if (resume.source === undefined) this.#isMixed = true;
        else this.#used.add(resume.source);
        this.#app.log.info("goes on with the copy of a blob", {
          digest: this.#blob.digest,
          location: this.#location,
          offsetBytes,
        });
        return { uploadId, state: uploadState, offsetBytes, hasher };
      } catch (error) {
        if (!(error instanceof RegistryError) || error.code !== "blob_upload_unknown") throw error;
      }
    }
    if (resume) await driver.deleteUpload(resume.uploadId, resume.uploadState);
    const uploadId = crypto.randomUUID();
    // The row first: what a crash leaves in the store is found by it.
    await this.#app.db.tx((tx) => startProgress(tx, this.#blob.id, this.#location, uploadId));
    const state = await driver.createUpload(uploadId);
    return { uploadId, state, offsetBytes: 0, hasher: createHasher(digestAlgorithm(this.#blob.digest)) };
  }

  async #open(offsetBytes: number): Promise<ReadableStream<Uint8Array>> {
    const { digest, sizeBytes } = this.#blob;
    const { storage } = this.#app;
    const candidates = this.#sources.map((source) => ({
      location: source,
      source: () => {
        this.#reading = source;
        return storage.driver(source).source(blobKey(digest), sizeBytes);
      },
      failed: (error: unknown) => {
        storage.failed(source, error);
        if (isContentError(error)) this.missing.push({ source, code: error.code });
        this.#app.log.warn("a blob cannot be copied from one store", {
          digest,
          location: source,
          error: String(error),
        });
      },
    }));
    const source = failoverSource(candidates, sizeBytes);
    if (source.kind !== "stream") throw new Error("a blob of several stores is a stream");
    if (offsetBytes === sizeBytes) return new Blob([]).stream();
    return source.open({ start: offsetBytes, end: sizeBytes - 1 });
  }

  #onlySource(): string | undefined {
    const [source, ...others] = this.#used;
    return others.length === 0 && !this.#isMixed ? source : undefined;
  }
}

/** Takes a stream in pieces no larger than asked for, and leaves it when the signal says so. */
class Bytes {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #signal: AbortSignal;
  readonly #onAbort = () => void this.#reader.cancel().catch(() => undefined);
  #rest: Uint8Array | undefined;

  constructor(stream: ReadableStream<Uint8Array>, signal: AbortSignal) {
    this.#reader = stream.getReader();
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort);
  }

  async read(sizeBytesMax: number): Promise<Uint8Array> {
    let chunk = this.#rest;
    this.#rest = undefined;
    while (chunk === undefined || chunk.byteLength === 0) {
      const { value, done } = await this.#reader.read();
      this.#signal.throwIfAborted();
      if (done) throw new Error("the stream of a blob ended early");
      chunk = value;
    }
    if (chunk.byteLength <= sizeBytesMax) return chunk;
    this.#rest = chunk.subarray(sizeBytesMax);
    return chunk.subarray(0, sizeBytesMax);
  }

  async end(): Promise<void> {
    this.#signal.removeEventListener("abort", this.#onAbort);
    await this.#reader.cancel().catch(() => undefined);
  }
}

async function requireVisible(driver: StorageDriver, blob: BlobToCopy, signal: AbortSignal): Promise<void> {
  for (const waitMs of VISIBLE_WAITS_MS) {
    await delay(waitMs, undefined, { signal });
    const found = await driver.find(blobKey(blob.digest));
    if (found?.sizeBytes === blob.sizeBytes) return;
  }
  throw new RegistryError("unavailable", {
    message: `blob "${blob.digest}" does not show in the store after its copy`,
  });
}

/** What says that a store has other bytes or none, and not that it is away. */
function isContentError(error: unknown): error is RegistryError {
  return error instanceof RegistryError && (error.code === "blob_unknown" || error.code === "size_invalid");
}

function noSource(blob: BlobToCopy): RegistryError {
  return new RegistryError("digest_invalid", { message: `no store has the right bytes of blob "${blob.digest}"` });
}

function replaced(): RegistryError {
  return new RegistryError("conflict", { message: "another copy has taken the place of this one" });
}
