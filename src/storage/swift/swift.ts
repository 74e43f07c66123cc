/**
 * The blob store in a container of OpenStack Swift (or of a server that speaks its API): `SwiftStorage` of
 * DISTRIBUTED_STORAGE_CONFIG. How an upload becomes an object, and why nothing is lost or left, is in NOTES.md.
 */

import { RegistryError } from "../../errors.ts";
import { type Clock, isRecent } from "../../lib/clock.ts";
import type { Logger } from "../../observe/logger.ts";
import type { ClientUrlRequest, ObjectSource, StorageDriver, UploadWriter } from "../driver.ts";
import { requireObjectKey, requireUploadKey } from "../paths.ts";
import type { PartBuffer, PartPool } from "../remote/part-pool.ts";
import { type ByteSpan, resumingStream } from "../remote/read-stream.ts";
import { createRemoteFetch, discard } from "../remote/request.ts";
import { type RetryOptions, retryDefaults } from "../remote/retry.ts";
import { type SwiftAccount, SwiftAuth } from "./auth.ts";
import { cleanStale, flagCommit } from "./clean.ts";
import { NAME, SwiftClient } from "./client.ts";
import { assemble, namesOf, partsOf, removeAll, uploadsOf } from "./large-object.ts";
import { SwiftNames } from "./names.ts";
import {
  continueAt,
  decodeState,
  EMPTY_STATE,
  encodeState,
  type Piece,
  piecesOf,
  sizeOf,
  type UploadState,
  uploadUnknown,
} from "./state.ts";
import { signTempUrl } from "./temp-url.ts";
import { SEGMENT_BYTES, SwiftUploadWriter } from "./writer.ts";

export interface SwiftStorageOptions {
  readonly account: SwiftAccount;
  readonly container: string;
  readonly storagePath: string;
  readonly simplePathConcat?: boolean;
  readonly tempUrlKey?: string;
  /** Quay's `connect_timeout`, with which it bounds every wait for the server. */
  readonly answerMs?: number;
  /** Tries after the first one. */
  readonly retryCount?: number;
  readonly retryOnRateLimit?: boolean;
  readonly authorities: () => Promise<readonly string[]>;
  readonly parts: PartPool;
  readonly clock: Clock;
  readonly log: Logger;
}

/** A last segment shorter than this is read back into the next run, so that a thousand segments are 4 GiB at least. */
const HEAD_BELOW_BYTES = SEGMENT_BYTES / 2;
/** How long the bytes of a short upload wait in memory for a commit that the process promised. */
const HOLD_MS = 10 * 60_000;
const CHECK_REUSE_MS = 1000;
/** How often `check` really writes; between, it only asks for the container. */
const PROBE_EVERY_MS = 10_000;
const CHECK_ANSWER_MS = 5000;

/** Asks the server nothing yet. */
export function openSwiftStorage(options: SwiftStorageOptions): StorageDriver {
  return new SwiftStorage(options);
}

class SwiftStorage implements StorageDriver {
  readonly kind = "SwiftStorage";
  readonly isLocal = false;
  readonly fencesWriters = true;
  readonly clientUrl?: (key: string, request: ClientUrlRequest) => Promise<string>;
  readonly #options: SwiftStorageOptions;
  readonly #client: SwiftClient;
  readonly #names: SwiftNames;
  readonly #retry: RetryOptions;
  /** Short uploads whose bytes this process keeps until it commits them. */
  readonly #held = new Map<string, { readonly part: PartBuffer; readonly timer: ReturnType<typeof setTimeout> }>();
  #check: { readonly atMs: number; readonly result: Promise<void> } | undefined;
  #probedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: SwiftStorageOptions) {
    const { account, authorities, clock, container, log, tempUrlKey, retryOnRateLimit = true } = options;
    this.#options = options;
    this.#retry = {
      triesMax: options.retryCount === undefined ? retryDefaults.triesMax : options.retryCount + 1,
      onRetry: (failure, tries) => log.debug("asking Swift again", { tries, failure: failure.message }),
    };
    const { answerMs } = options;
    const plain = createRemoteFetch(NAME, authorities);
    const fetch: typeof plain = (request) => plain(answerMs === undefined ? request : { answerMs, ...request });
    const auth = new SwiftAuth(account, fetch, clock, this.#retry);
    const retriesRateLimit = retryOnRateLimit;
    this.#client = new SwiftClient({ fetch, auth, container, clock, retry: this.#retry, retriesRateLimit });
    this.#names = new SwiftNames(options.storagePath, options.simplePathConcat ?? false);
    if (tempUrlKey !== undefined) this.clientUrl = (key, request) => this.#tempUrl(key, request.method, tempUrlKey);
  }

  async find(key: string): Promise<{ sizeBytes: number } | undefined> {
    const headers = await this.#client.head(this.#object(key));
    return headers && { sizeBytes: lengthOf(headers) };
  }

  async source(key: string, sizeBytes?: number): Promise<ObjectSource | undefined> {
    const object = this.#object(key);
    const known = sizeBytes ?? (await this.find(key))?.sizeBytes;
    if (known === undefined) return undefined;
    return {
      kind: "stream",
      sizeBytes: known,
      open: async (range) => {
        const span = range ?? { start: 0, end: known - 1 };
        // The first request is made now, so that an object that is gone is told before anything is sent on.
        const first = await this.#read(object, span, () => objectUnknown(key));
        return resumingStream(span, (rest) => this.#read(object, rest, () => objectUnknown(key)), {
          first,
          retry: this.#retry,
        });
      },
    };
  }

  /** The object first, in one step, and then what it was made of: nobody sees half of it. */
  async delete(key: string): Promise<void> {
    const object = this.#object(key);
    const headers = await this.#client.head(object);
    if (!headers) return;
    const parts = await partsOf(this.#client, object, headers);
    if (!parts) return this.#client.remove(object);
    const uploads = uploadsOf(this.#names, parts);
    for (const uploadId of uploads) await flagCommit(this.#client, this.#names, uploadId, key);
    await this.#client.remove(object);
    await removeAll(this.#client, namesOf(this.#client, parts));
    for (const uploadId of uploads) await this.#client.remove(this.#names.commitFlag(uploadId));
  }

  async createUpload(uploadId: string): Promise<string> {
    requireUploadKey(uploadId);
    await this.#client.put(this.#names.upload(uploadId), "");
    return encodeState(uploadId, EMPTY_STATE);
  }

  async openUpload(uploadId: string, text: string, offsetBytes: number, lastKey?: string): Promise<UploadWriter> {
    const state = await this.#requireUpload(uploadId, text);
    this.#letGo(uploadId);
    if (state.heldBytes !== undefined) throw uploadUnknown(uploadId, "was waiting for its commit");
    requireBytes(uploadId, state, offsetBytes);
    const { kept, head } = continueAt(this.#names, uploadId, state, offsetBytes, HEAD_BELOW_BYTES);
    // What an earlier run took over is of no use any more, now that the state of that run is the recorded one.
    await removeAll(this.#client, state.dropped);
    const writer = new SwiftUploadWriter({
      client: this.#client,
      names: this.#names,
      parts: this.#options.parts,
      id: uploadId,
      unchanged: offsetBytes === sizeOf(state) ? text : undefined,
      kept,
      dropped: head?.name,
      hold: lastKey === undefined ? undefined : (part) => this.#hold(uploadId, part),
    });
    if (!head) return writer;
    try {
      for await (const chunk of this.#readPieces(uploadId, [head])) writer.head(chunk);
      return writer;
    } catch (error) {
      await writer.abort();
      throw error;
    }
  }

  async readUpload(uploadId: string, text: string, sizeBytes: number): Promise<ReadableStream<Uint8Array>> {
    const state = await this.#requireUpload(uploadId, text);
    requireBytes(uploadId, state, sizeBytes);
    const held = state.heldBytes === undefined ? undefined : this.#requireHeld(uploadId).bytes();
    if (held) return new Blob([held.subarray(0, sizeBytes)]).stream();
    const pieces = [...piecesOf(this.#names, uploadId, state.runs, sizeBytes)];
    const bytes = this.#readPieces(uploadId, pieces);
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const { value, done } = await bytes.next();
          if (done) controller.close();
          else controller.enqueue(value);
        },
        async cancel() {
          await bytes.return(undefined);
        },
      },
      { highWaterMark: 0 },
    );
  }

  async commitUpload(uploadId: string, text: string, key: string, sizeBytes: number): Promise<void> {
    requireUploadKey(uploadId);
    const object = this.#object(key);
    const [state, earlier] = await Promise.all([this.#requireUpload(uploadId, text), this.#client.head(object)]);
    const storedBytes = sizeOf(state);
    if (storedBytes !== sizeBytes) {
      throw new RegistryError("size_invalid", {
        message: `storing upload "${uploadId}" failed: it holds ${storedBytes} bytes, and ${sizeBytes} were expected`,
      });
    }
    // The segments of a large object that is replaced are nobody's afterwards, and a reader may be in their middle.
    const replaced = earlier && (await partsOf(this.#client, object, earlier));
    if (replaced) {
      for (const id of uploadsOf(this.#names, replaced)) {
        await flagCommit(this.#client, this.#names, id, key);
      }
    }
    const pieces = [...piecesOf(this.#names, uploadId, state.runs, sizeBytes)];
    if (pieces.length > 1) return this.#commitLarge(uploadId, state, pieces, key);
    await this.#commitSmall(uploadId, state, pieces[0], object);
  }

  async deleteUpload(uploadId: string, text: string): Promise<void> {
    requireUploadKey(uploadId);
    this.#letGo(uploadId);
    const upload = this.#names.upload(uploadId);
    const state = decodeState(uploadId, text);
    // Only segments become part of an object as they lie; of any others than the state's, a run's own mark tells.
    if (!state?.runs.some(({ isLoose }) => !isLoose)) {
      await this.#client.remove(upload);
      if (state) await this.#removeRuns(uploadId, state);
      return;
    }
    if (!(await this.#client.head(upload))) return;
    await this.#client.put(this.#names.deleteFlag(uploadId), "");
    // A commit has begun, here or elsewhere: only cleanUploads can tell later what became of it.
    if (await this.#client.head(this.#names.commitFlag(uploadId))) return this.#client.remove(upload);
    await this.#removeRuns(uploadId, state);
    await this.#client.remove(upload);
    await this.#client.remove(this.#names.deleteFlag(uploadId));
  }

  cleanUploads(beforeMs: number, limit: number): Promise<number> {
    return cleanStale(this.#client, this.#names, beforeMs, limit);
  }

  check(): Promise<void> {
    const nowMs = this.#options.clock.nowMs();
    if (!this.#check || !isRecent(this.#check.atMs, nowMs, CHECK_REUSE_MS)) {
      const result = this.#probe(nowMs);
      result.catch(() => undefined);
      this.#check = { atMs: nowMs, result };
    }
    return this.#check.result;
  }

  async space(): Promise<undefined> {
    return undefined;
  }

  #object(key: string): string {
    return this.#names.object(requireObjectKey(key));
  }

  async #tempUrl(key: string, method: "GET" | "HEAD", secret: string): Promise<string> {
    const object = this.#object(key);
    const [url, { tempUrlDigest }] = await Promise.all([this.#client.locate(object), this.#client.info()]);
    return signTempUrl(url, { method, key: secret, digest: tempUrlDigest, nowMs: this.#options.clock.nowMs() });
  }

  /** The bytes of `span` of an object, whose absence is what `absent` says. */
  async #read(object: string, { start, end }: ByteSpan, absent: () => Error): Promise<ReadableStream<Uint8Array>> {
    if (end < start) return new Blob([]).stream();
    const headers = { range: `bytes=${start}-${end}` };
    const response = await this.#client.send({ method: "GET", object, headers, accept: [404, 416] });
    const isWanted = response.status === 206 || (response.status === 200 && start === 0);
    if (isWanted && response.body) return response.body;
    await discard(response);
    if (response.status === 404) throw absent();
    const message = `${NAME} answered ${response.status} to a request for bytes ${start} to ${end} of an object`;
    throw new RegistryError("unavailable", { message });
  }

  async *#readPieces(uploadId: string, pieces: readonly Piece[]): AsyncGenerator<Uint8Array> {
    const absent = () => uploadUnknown(uploadId, "has lost bytes and must be started again");
    for (const { name, sizeBytes } of pieces) {
      const open = (rest: ByteSpan) => this.#read(name, rest, absent);
      yield* resumingStream({ start: 0, end: sizeBytes - 1 }, open, { retry: this.#retry });
    }
  }

  /** The state of an upload that can be continued. Throws `blob_upload_unknown` for every other. */
  async #requireUpload(uploadId: string, text: string): Promise<UploadState> {
    requireUploadKey(uploadId);
    const state = decodeState(uploadId, text);
    if (!state) throw uploadUnknown(uploadId, "is none that this store began");
    if (await this.#client.head(this.#names.upload(uploadId))) return state;
    throw uploadUnknown(uploadId, "is not in the store");
  }

  /** One object in one step: from memory, or copied where it lies. */
  async #commitSmall(uploadId: string, state: UploadState, piece: Piece | undefined, object: string): Promise<void> {
    if (state.heldBytes !== undefined) await this.#client.put(object, this.#requireHeld(uploadId));
    else if (!piece) await this.#client.put(object, "");
    else if (!(await this.#client.copy(piece.name, object))) throw uploadUnknown(uploadId, "has lost bytes");
    this.#letGo(uploadId);
    await this.#tidy(uploadId, async () => {
      await this.#client.remove(this.#names.upload(uploadId));
      await this.#removeRuns(uploadId, state);
    });
  }

  /**
   * One object of many segments. Until cleanUploads comes by, the commit flag stays: should another upload become the same
   * object, these segments are nobody's, and only the flag tells of them.
   */
  async #commitLarge(uploadId: string, state: UploadState, pieces: readonly Piece[], key: string): Promise<void> {
    await flagCommit(this.#client, this.#names, uploadId, key);
    if (await this.#client.head(this.#names.deleteFlag(uploadId))) throw uploadUnknown(uploadId, "is being removed");
    await assemble(this.#client, this.#names, uploadId, pieces, this.#names.object(key));
    await this.#tidy(uploadId, async () => {
      await this.#client.remove(this.#names.upload(uploadId));
      await removeAll(this.#client, state.dropped);
    });
  }

  /** What follows a commit that is durable: if it fails, cleanUploads does it. */
  async #tidy(uploadId: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#options.log.warn("cannot tidy up after an upload", { uploadId, error: String(error) });
    }
  }

  /** Removes the bytes that a state tells of, and then what tells of them. */
  async #removeRuns(uploadId: string, { runs, dropped }: UploadState): Promise<void> {
    const bytes = [...piecesOf(this.#names, uploadId, runs, Number.POSITIVE_INFINITY)].map(({ name }) => name);
    await removeAll(this.#client, [...bytes, ...dropped]);
    await removeAll(
      this.#client,
      runs.filter(({ isLoose }) => !isLoose).map(({ run }) => this.#names.run(uploadId, run)),
    );
  }

  #hold(uploadId: string, part: PartBuffer): void {
    this.#letGo(uploadId);
    const timer = setTimeout(() => this.#letGo(uploadId), HOLD_MS);
    timer.unref();
    this.#held.set(uploadId, { part, timer });
  }

  #requireHeld(uploadId: string): PartBuffer {
    const held = this.#held.get(uploadId);
    if (held) return held.part;
    throw uploadUnknown(uploadId, "is not held here any more and must be started again");
  }

  #letGo(uploadId: string): void {
    const held = this.#held.get(uploadId);
    if (!held) return;
    this.#held.delete(uploadId);
    clearTimeout(held.timer);
    held.part.release();
  }

  async #probe(nowMs: number): Promise<void> {
    const { container } = this.#options;
    const bounds = { once: true, answerMs: CHECK_ANSWER_MS } as const;
    const response = await this.#client.call({ method: "HEAD", accept: [404], ...bounds });
    if (response.status === 404) {
      throw new RegistryError("unavailable", { message: `Could not find container (${container}) in Swift storage.` });
    }
    if (isRecent(this.#probedAtMs, nowMs, PROBE_EVERY_MS)) return;
    const failure = await this.#client
      .call({ method: "PUT", object: this.#names.probe, body: "1", ...bounds })
      .catch((error: unknown) => error);
    // A full store still serves pulls; what is full is seen by the push that meets it.
    if (failure instanceof RegistryError && failure.code !== "storage_full") throw failure;
    this.#probedAtMs = nowMs;
  }
}

function lengthOf(headers: Headers): number {
  return Number(headers.get("content-length") ?? 0);
}

function objectUnknown(key: string): RegistryError {
  return new RegistryError("blob_unknown", { message: `"${key}" is not in the store` });
}

function requireBytes(uploadId: string, state: UploadState, sizeBytes: number): void {
  const storedBytes = sizeOf(state);
  if (sizeBytes <= storedBytes) return;
  throw uploadUnknown(uploadId, `holds ${storedBytes} of its ${sizeBytes} bytes and must be started again`);
}
