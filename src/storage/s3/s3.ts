/**
 * The blob store in a bucket of S3 or of a server that speaks its API: `S3Storage`, `RadosGWStorage`, `RHOCSStorage`,
 * `GoogleCloudStorage` and, with other URLs for clients, `CloudFrontedS3Storage` of DISTRIBUTED_STORAGE_CONFIG. How an
 * upload becomes a blob, and why none is ever seen half, is in NOTES.md.
 */

import { RegistryError } from "../../errors.ts";
import type { Clock } from "../../lib/clock.ts";
import { inLanes } from "../../lib/lanes.ts";
import { Lru } from "../../lib/lru.ts";
import type { Logger } from "../../observe/logger.ts";
import type { ClientUrlRequest, ObjectSource, StorageDriver, UploadWriter } from "../driver.ts";
import { requireObjectKey, requireUploadKey } from "../paths.ts";
import type { PartBuffer, PartPool } from "../remote/part-pool.ts";
import { type ByteSpan, resumingStream } from "../remote/read-stream.ts";
import { discard } from "../remote/request.ts";
import { cleanStale } from "./clean.ts";
import { headObject, isMissing, removeObject, type S3Client } from "./client.ts";
import { type AssembleOptions, assemble, type StoredPiece } from "./commit.ts";
import { HeldUploads } from "./held.ts";
import { abortMultipart, completeMultipart, type ObjectHeaders, PART_BYTES_MIN } from "./multipart.ts";
import { BucketProbe } from "./probe.ts";
import { sha256Hex } from "./sign.ts";
import {
  type Continuation,
  continueAt,
  decodeState,
  EMPTY_STATE,
  encodeState,
  namesOf,
  type Segment,
  segmentName,
  sizeOf,
  type UploadState,
  uploadUnknown,
} from "./state.ts";
import { type Gathered, S3UploadWriter } from "./writer.ts";

export interface S3StorageOptions {
  /** Quay's name of the engine. */
  readonly kind: string;
  readonly client: S3Client;
  /** Quay's `storage_path`, as it begins keys: without slashes at its ends. */
  readonly storagePath: string;
  /** Length of a part; also of the longest blob that is stored by one request. */
  readonly partBytes: number;
  /**
   * A shorter last segment goes into the next one: each but the last can then be a part of a copy, and the largest blob has
   * no more of them than a multipart upload has parts.
   */
  readonly segmentBytesMin: number;
  readonly copyBytesMax: number;
  readonly copiesRanges: boolean;
  /** Headers of every object that is made, such as how the store encrypts it. */
  readonly objectHeaders: ObjectHeaders;
  readonly parts: PartPool;
  readonly clock: Clock;
  readonly log: Logger;
  /** Another way to a URL for clients than a presigned one. The key is the driver's, without `storagePath`. */
  readonly clientUrl?: (key: string, request: ClientUrlRequest, lifeSeconds: number) => string;
}

/**
 * How long a presigned URL is good. Quay's 60 s end too early for a client that queues its layers while clocks differ by a
 * minute; its longest, 1,200 s, keeps a URL that was copied useful for longer than needed.
 */
const URL_LIFE_SECONDS = 600;
/** Uploads that ended here and are remembered, so that a second end of one is told from the first. */
const ENDED_MAX = 10_000;
const REMOVALS_MAX = 8;
const probeName = ".check";

export class S3Storage implements StorageDriver {
  readonly isLocal = false;
  readonly fencesWriters = true;
  readonly chunkBytesMin = PART_BYTES_MIN;
  readonly #options: S3StorageOptions;
  readonly #client: S3Client;
  readonly #root: string;
  readonly #held: HeldUploads;
  readonly #writers = new Map<string, S3UploadWriter>();
  readonly #ended = new Lru<string, true>(ENDED_MAX);
  readonly #probe: BucketProbe;

  constructor(options: S3StorageOptions) {
    this.#options = options;
    this.#client = options.client;
    this.#root = options.storagePath === "" ? "" : `${options.storagePath}/`;
    this.#held = new HeldUploads((uploadId, multipart) =>
      this.#tidy(uploadId, () => abortMultipart(options.client, multipart)),
    );
    const probeKey = `${this.#root}uploads/${probeName}`;
    this.#probe = new BucketProbe({ client: options.client, clock: options.clock, key: probeKey });
  }

  get kind(): string {
    return this.#options.kind;
  }

  async find(key: string): Promise<{ sizeBytes: number } | undefined> {
    const sizeBytes = await headObject(this.#client, this.#objectKey(key));
    return sizeBytes === undefined ? undefined : { sizeBytes };
  }

  async source(key: string, sizeBytes?: number): Promise<ObjectSource | undefined> {
    const objectKey = this.#objectKey(key);
    const foundBytes = sizeBytes ?? (await headObject(this.#client, objectKey));
    if (foundBytes === undefined) return undefined;
    return {
      kind: "stream",
      sizeBytes: foundBytes,
      open: async (range) => {
        if (foundBytes === 0) return new Response("").body ?? new ReadableStream();
        const span = range ?? { start: 0, end: foundBytes - 1 };
        return resumingStream(span, (rest) => this.#read(objectKey, rest, true), {
          first: await this.#read(objectKey, span),
        });
      },
    };
  }

  async clientUrl(key: string, request: ClientUrlRequest): Promise<string> {
    const objectKey = this.#objectKey(key);
    if (this.#options.clientUrl) return this.#options.clientUrl(key, request, URL_LIFE_SECONDS);
    // A browser that is sent there saves the bytes and never runs them.
    const answer = {
      "response-content-type": "application/octet-stream",
      "response-content-disposition": "attachment",
    };
    return this.#client.presign(request.method, objectKey, answer, URL_LIFE_SECONDS);
  }

  async delete(key: string): Promise<void> {
    await removeObject(this.#client, this.#objectKey(key));
  }

  /** Asks the store nothing: an upload is there with its first bytes. */
  async createUpload(uploadId: string): Promise<string> {
    requireUploadKey(uploadId);
    this.#ended.delete(uploadId);
    return encodeState(uploadId, EMPTY_STATE);
  }

  async openUpload(uploadId: string, state: string, offsetBytes: number, lastKey?: string): Promise<UploadWriter> {
    const known = this.#requireState(uploadId, state, offsetBytes);
    const finalKey = lastKey === undefined ? undefined : this.#objectKey(lastKey);
    await this.#fence(uploadId);
    await this.#held.giveUp(uploadId);
    const next = continueAt(known, offsetBytes, this.#options.segmentBytesMin);
    await this.#requireSegment(uploadId, next.head ? known.segments[next.kept.length] : next.kept.at(-1));
    // That this state was given back proves that it is recorded: nobody asks for what it replaced any more.
    this.#removeLater(uploadId, known.dropped);
    const isWhole = finalKey !== undefined && next.kept.length === 0 && !next.head;
    const writer = isWhole ? this.#lastWriter(uploadId, finalKey) : this.#segmentWriter(uploadId, next);
    this.#writers.set(uploadId, writer);
    if (next.head) await this.#readBack(uploadId, next.head, writer);
    return writer;
  }

  async readUpload(uploadId: string, state: string, sizeBytes: number): Promise<ReadableStream<Uint8Array>> {
    const known = this.#requireState(uploadId, state, sizeBytes);
    const pieces: StoredPiece[] = [];
    let left = sizeBytes;
    for (const { name, sizeBytes: segmentBytes } of known.segments) {
      if (left <= 0) break;
      pieces.push({ key: this.#segmentKey(uploadId, name), sizeBytes: Math.min(left, segmentBytes) });
      left -= segmentBytes;
    }
    const held = left > 0 && known.heldBytes !== undefined ? this.#held.require(uploadId).gathered : undefined;
    if (held?.kind === "multipart") throw new Error("parts that wait for their commit cannot be read");
    if (held) return new Response(held.part.bytes().subarray(0, left)).body ?? new ReadableStream();
    return this.#readPieces(uploadId, pieces);
  }

  async commitUpload(uploadId: string, state: string, key: string, sizeBytes: number): Promise<void> {
    const objectKey = this.#objectKey(key);
    const known = this.#requireState(uploadId, state, 0);
    const storedBytes = sizeOf(known);
    if (storedBytes !== sizeBytes) {
      throw new RegistryError("size_invalid", {
        message: `storing upload "${uploadId}" failed: it holds ${storedBytes} bytes, and ${sizeBytes} were expected`,
      });
    }
    await this.#fence(uploadId);
    if (known.heldBytes !== undefined) await this.#commitHeld(uploadId, objectKey, key);
    else if (known.segments.length === 0) await this.#put(objectKey, "");
    else await this.#commitSegments(uploadId, known.segments, objectKey);
    this.#ended.set(uploadId, true);
    this.#held.letGo(uploadId);
    await this.#tidy(uploadId, () => this.#removeSegments(uploadId, [...namesOf(known.segments), ...known.dropped]));
  }

  async deleteUpload(uploadId: string, state: string): Promise<void> {
    requireUploadKey(uploadId);
    const known = decodeState(uploadId, state);
    this.#ended.set(uploadId, true);
    await this.#fence(uploadId);
    await this.#held.giveUp(uploadId);
    if (known) await this.#removeSegments(uploadId, [...namesOf(known.segments), ...known.dropped]);
  }

  async cleanUploads(beforeMs: number, limit: number): Promise<number> {
    const options = {
      client: this.#client,
      root: this.#root,
      // At the root of a bucket others may write beside us: what only looks like a named file may be theirs.
      isOurs: (key: string) => this.#root !== "" || key.startsWith("uploads/") || isBlobKey(key),
      keeps: (name: string) => name === probeName,
    };
    return cleanStale(options, beforeMs, limit);
  }

  check(): Promise<void> {
    return this.#probe.check();
  }

  async space(): Promise<undefined> {
    return undefined;
  }

  #objectKey(key: string): string {
    return this.#root + requireObjectKey(key);
  }

  #segmentKey(uploadId: string, name: string): string {
    return `${this.#root}${requireUploadKey(uploadId)}/${name}`;
  }

  #requireState(uploadId: string, state: string, offsetBytes: number): UploadState {
    requireUploadKey(uploadId);
    const known = this.#ended.get(uploadId) ? undefined : decodeState(uploadId, state);
    if (!known) throw uploadUnknown(uploadId, "is not in the store");
    const storedBytes = sizeOf(known);
    if (offsetBytes <= storedBytes) return known;
    throw uploadUnknown(uploadId, `holds ${storedBytes} of its ${offsetBytes} bytes and must be started again`);
  }

  /** Looks whether the segment that an upload goes on from is still there: another instance may have ended the upload. */
  async #requireSegment(uploadId: string, segment: Segment | undefined): Promise<void> {
    if (!segment) return;
    const sizeBytes = await headObject(this.#client, this.#segmentKey(uploadId, segment.name));
    if (sizeBytes !== segment.sizeBytes) throw uploadUnknown(uploadId, "is not in the store any more");
  }

  #segmentWriter(uploadId: string, { kept, dropped }: Continuation): S3UploadWriter {
    const name = segmentName(kept.length);
    const key = this.#segmentKey(uploadId, name);
    return this.#writer(uploadId, key, async (gathered) => {
      if (!gathered) return encodeState(uploadId, { segments: kept, dropped });
      const sizeBytes = await this.#store(key, gathered);
      return encodeState(uploadId, { segments: [...kept, { name, sizeBytes }], dropped });
    });
  }

  #lastWriter(uploadId: string, key: string): S3UploadWriter {
    return this.#writer(uploadId, key, async (gathered) => {
      this.#held.hold(uploadId, gathered, key);
      return encodeState(uploadId, { ...EMPTY_STATE, heldBytes: bytesOf(gathered) });
    });
  }

  #writer(uploadId: string, key: string, finish: (gathered: Gathered | undefined) => Promise<string>): S3UploadWriter {
    const { parts, partBytes, objectHeaders } = this.#options;
    return new S3UploadWriter({
      client: this.#client,
      pool: parts,
      partBytes,
      key,
      headers: objectHeaders,
      finish,
      onEnd: (writer) => {
        if (this.#writers.get(uploadId) === writer) this.#writers.delete(uploadId);
      },
    });
  }

  /** Makes what a writer gathered the object `key` and gives its size. */
  async #store(key: string, gathered: Gathered): Promise<number> {
    if (gathered.kind === "multipart") {
      await completeMultipart(this.#client, gathered.multipart, gathered.etags, gathered.sizeBytes);
      return gathered.sizeBytes;
    }
    const { sizeBytes } = gathered.part;
    try {
      await this.#put(key, gathered.part);
    } finally {
      gathered.part.release();
    }
    return sizeBytes;
  }

  async #put(key: string, body: string | PartBuffer, sha256?: string): Promise<void> {
    const headers = this.#options.objectHeaders;
    const call = { method: "PUT", key, headers, body, ...(sha256 === undefined ? {} : { sha256 }) } as const;
    await discard(await this.#client.call(call));
  }

  async #readBack(uploadId: string, head: Segment, writer: S3UploadWriter): Promise<void> {
    const pieces = [{ key: this.#segmentKey(uploadId, head.name), sizeBytes: head.sizeBytes }];
    try {
      for await (const chunk of this.#readPieces(uploadId, pieces)) await writer.write(chunk);
    } catch (error) {
      await writer.abort();
      throw error;
    }
  }

  /** The bytes of pieces one after the other. */
  #readPieces(uploadId: string, pieces: readonly StoredPiece[]): ReadableStream<Uint8Array> {
    const read = (key: string, span: ByteSpan) =>
      this.#read(key, span, true).catch((error: unknown) => {
        throw error instanceof RegistryError && error.code === "blob_unknown"
          ? uploadUnknown(uploadId, "is not in the store any more", error)
          : error;
      });
    async function* all(): AsyncGenerator<Uint8Array> {
      for (const { key, sizeBytes } of pieces) {
        yield* resumingStream({ start: 0, end: sizeBytes - 1 }, (rest) => read(key, rest));
      }
    }
    const chunks = all();
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const { value, done } = await chunks.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        async cancel() {
          await chunks.return(undefined);
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** `once` where the caller tries again by itself. */
  async #read(key: string, { start, end }: ByteSpan, once = false): Promise<ReadableStream<Uint8Array>> {
    const headers = { range: `bytes=${start}-${end}` };
    let response: Response;
    try {
      response = await this.#client.call({ method: "GET", key, headers, accept: [416], once });
    } catch (error) {
      if (!isMissing(error)) throw error;
      throw new RegistryError("blob_unknown", { message: `"${key}" is not in the store`, cause: error });
    }
    const isExpected = response.status === 206 || (response.status === 200 && start === 0);
    if (isExpected && response.body) return response.body;
    await response.body?.cancel();
    throw new RegistryError("unavailable", {
      message: `${this.kind} answered ${response.status} to a request for bytes ${start} to ${end} of "${key}"`,
    });
  }

  async #commitHeld(uploadId: string, objectKey: string, key: string): Promise<void> {
    const held = this.#held.require(uploadId);
    if (held.key !== objectKey) throw new Error(`upload "${uploadId}" was opened for another key`);
    const { gathered } = held;
    if (gathered?.kind === "multipart") await this.#store(objectKey, gathered);
    // The store then holds the bytes against the digest once more.
    else if (gathered) await this.#put(objectKey, gathered.part, /^sha256\/..\/(.{64})$/.exec(key)?.[1]);
    else await this.#put(objectKey, "", sha256Hex(""));
  }

  async #commitSegments(uploadId: string, segments: readonly Segment[], objectKey: string): Promise<void> {
    const { copyBytesMax, copiesRanges, objectHeaders } = this.#options;
    const options: AssembleOptions = { client: this.#client, headers: objectHeaders, copyBytesMax, copiesRanges };
    const pieces = segments.map(({ name, sizeBytes }) => ({ key: this.#segmentKey(uploadId, name), sizeBytes }));
    try {
      if (!(await assemble(options, pieces, objectKey))) await this.#copyThroughUs(uploadId, pieces, objectKey);
    } catch (error) {
      if (isMissing(error, "NoSuchKey")) throw uploadUnknown(uploadId, "is not in the store any more", error);
      throw error;
    }
  }

  /** For servers that cannot copy ranges. */
  async #copyThroughUs(uploadId: string, pieces: readonly StoredPiece[], objectKey: string): Promise<void> {
    const writer = this.#writer(uploadId, objectKey, async (gathered) => {
      if (gathered) await this.#store(objectKey, gathered);
      return "";
    });
    try {
      for await (const chunk of this.#readPieces(uploadId, pieces)) await writer.write(chunk);
      await writer.flush();
    } catch (error) {
      await writer.abort();
      throw error;
    }
  }

  async #removeSegments(uploadId: string, names: readonly string[]): Promise<void> {
    await inLanes(names, REMOVALS_MAX, (name) => removeObject(this.#client, this.#segmentKey(uploadId, name)));
  }

  #removeLater(uploadId: string, names: readonly string[]): void {
    if (names.length > 0) void this.#tidy(uploadId, () => this.#removeSegments(uploadId, names));
  }

  /** What follows a step that succeeded: if it fails, cleanUploads does it. */
  async #tidy(uploadId: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#options.log.warn("cannot tidy up after an upload", { uploadId, error: String(error) });
    }
  }

  /** Ends the writer that an earlier request left open here. */
  async #fence(uploadId: string): Promise<void> {
    await this.#writers.get(uploadId)?.fence();
  }
}

function bytesOf(gathered: Gathered | undefined): number {
  if (!gathered) return 0;
  return gathered.kind === "part" ? gathered.part.sizeBytes : gathered.sizeBytes;
}

function isBlobKey(key: string): boolean {
  return /^sha(256|512)\/[0-9a-f]{2}\/[0-9a-f]{64,128}$/.test(key);
}
