/**
 * The blob store in a container of an Azure storage account: `AzureStorage` of DISTRIBUTED_STORAGE_CONFIG. How an upload
 * becomes a blob, what was tried and what was measured is in NOTES.md.
 */

import { RegistryError } from "../../errors.ts";
import { type Clock, isRecent } from "../../lib/clock.ts";
import type { Logger } from "../../observe/logger.ts";
import type { ClientUrlRequest, ObjectSource, StorageDriver, UploadWriter } from "../driver.ts";
import { requireObjectKey, requireUploadKey, uploadKey } from "../paths.ts";
import type { PartBuffer, PartPool } from "../remote/part-pool.ts";
import { type ByteSpan, resumingStream } from "../remote/read-stream.ts";
import { createRemoteFetch } from "../remote/request.ts";
import type { RetryOptions } from "../remote/retry.ts";
import { AzureClient, AzureRefusal, type Credential, NAME } from "./client.ts";
import { Copier } from "./copy.ts";
import {
  cutSegments,
  decodeState,
  EMPTY_STATE,
  encodeState,
  type Piece,
  piecesOf,
  sizeOf,
  type UploadState,
  uploadIdOf,
  uploadUnknown,
} from "./state.ts";
import { AzureUploadWriter } from "./writer.ts";

export interface AzureStorageOptions {
  readonly account: string;
  readonly container: string;
  readonly storagePath: string;
  readonly accountUrl: string;
  readonly credential: Credential;
  readonly authorities: () => Promise<readonly string[]>;
  readonly parts: PartPool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly retry?: RetryOptions;
}

/** From this many segments on a short last one is taken into the next, so that a state stays below 200 kB. */
const MERGE_FROM_SEGMENTS = 256;
const MERGE_BELOW_BYTES = 16 * 1024 * 1024;
/** How long the bytes of a short upload wait in memory for a commit that the process promised. */
const HOLD_MS = 10 * 60_000;
/** How long a client may wait before it follows a URL; Quay's live 60 to 1,200 s, and clocks differ by a minute. */
const URL_LIFE_MS = 10 * 60_000;
/** Rounds of a commit whose blocks another commit of the same key swept away. Each round has a winner. */
const COMMIT_ROUNDS = 10;
/** Removals at once. */
const REMOVALS_AT_ONCE = 8;
const CHECK_REUSE_MS = 1000;
/** How often `check` really writes; between, it only looks for what it wrote. */
const PROBE_EVERY_MS = 10_000;
const CHECK_ANSWER_MS = 5000;
const PROBE_KEY = "uploads/.check";

/** Asks the server nothing yet. */
export function openAzureStorage(options: AzureStorageOptions): StorageDriver {
  return new AzureStorage(options);
}

class AzureStorage implements StorageDriver {
  readonly kind = "AzureStorage";
  readonly isLocal = false;
  readonly fencesWriters = true;
  readonly clientUrl?: (key: string, request: ClientUrlRequest) => Promise<string>;
  readonly #options: AzureStorageOptions;
  readonly #client: AzureClient;
  readonly #copier: Copier;
  readonly #retry: RetryOptions;
  /** Short uploads whose bytes this process keeps until it commits them. */
  readonly #held = new Map<string, { readonly part: PartBuffer; readonly timer: ReturnType<typeof setTimeout> }>();
  #check: { readonly atMs: number; readonly result: Promise<void> } | undefined;
  #probedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: AzureStorageOptions) {
    const { authorities, clock, credential, log, parts } = options;
    this.#options = options;
    this.#retry = {
      onRetry: (failure, tries) => log.debug("asking Azure again", { tries, failure: failure.message }),
      ...options.retry,
    };
    const retry = this.#retry;
    this.#client = new AzureClient({ ...options, fetch: createRemoteFetch(NAME, authorities), retry });
    this.#copier = new Copier({ client: this.#client, parts, log, nowMs: () => clock.nowMs(), retry });
    // A token from the config may do whatever we may: a client must never see it, so blobs go through us.
    if (credential.kind === "key") this.clientUrl = async (key) => this.#readUrl(key, credential.key);
  }

  async find(key: string): Promise<{ sizeBytes: number } | undefined> {
    const sizeBytes = await this.#client.sizeOf(requireObjectKey(key));
    return sizeBytes === undefined ? undefined : { sizeBytes };
  }

  async source(key: string, sizeBytes?: number): Promise<ObjectSource | undefined> {
    requireObjectKey(key);
    const known = sizeBytes ?? (await this.find(key))?.sizeBytes;
    if (known === undefined) return undefined;
    const absent = () => new RegistryError("blob_unknown", { message: `"${key}" is not in the store` });
    return {
      kind: "stream",
      sizeBytes: known,
      open: async (range) => {
        const span = range ?? { start: 0, end: known - 1 };
        // The first request is made now, so that a blob that is gone is told before anything is sent on.
        const first = await this.#client.read(key, span, absent);
        const open = (rest: ByteSpan) => this.#client.read(key, rest, absent);
        return resumingStream(span, open, { first, retry: this.#retry });
      },
    };
  }

  async delete(key: string): Promise<void> {
    await this.#client.remove(requireObjectKey(key));
  }

  async createUpload(uploadId: string): Promise<string> {
    await this.#client.putBlob(requireUploadKey(uploadId), "");
    return encodeState(uploadId, EMPTY_STATE);
  }

  async openUpload(uploadId: string, text: string, offsetBytes: number, lastKey?: string): Promise<UploadWriter> {
    const state = await this.#requireUpload(uploadId, text);
    this.#letGo(uploadId);
    if (state.heldBytes !== undefined) throw uploadUnknown(uploadId, "was waiting for its commit");
    requireBytes(uploadId, state, offsetBytes);
    const segments = cutSegments(state.segments, offsetBytes);
    const last = piecesOf(uploadId, segments).at(-1);
    const merges = segments.length >= MERGE_FROM_SEGMENTS && last !== undefined && last.sizeBytes < MERGE_BELOW_BYTES;
    return new AzureUploadWriter({
      client: this.#client,
      copier: this.#copier,
      parts: this.#options.parts,
      uploadId,
      kept: merges ? segments.slice(0, -1) : segments,
      head: merges ? last : undefined,
      hold: lastKey === undefined ? undefined : (part) => this.#hold(uploadId, part),
    });
  }

  async readUpload(uploadId: string, text: string, sizeBytes: number): Promise<ReadableStream<Uint8Array>> {
    const state = await this.#requireUpload(uploadId, text);
    requireBytes(uploadId, state, sizeBytes);
    const held = state.heldBytes === undefined ? undefined : this.#requireHeld(uploadId).bytes();
    if (held) return new Blob([held.subarray(0, sizeBytes)]).stream();
    const bytes = this.#readPieces(uploadId, piecesOf(uploadId, cutSegments(state.segments, sizeBytes)));
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
    requireObjectKey(key);
    const known = requireState(uploadId, text);
    // Where there are segments, their absence tells that the upload is gone.
    const state = known.segments.length > 0 ? known : await this.#requireUpload(uploadId, text);
    const storedBytes = sizeOf(state);
    if (storedBytes !== sizeBytes) {
      throw new RegistryError("size_invalid", {
        message: `storing upload "${uploadId}" failed: it holds ${storedBytes} bytes, and ${sizeBytes} were expected`,
      });
    }
    if (state.heldBytes !== undefined) await this.#client.putBlob(key, this.#requireHeld(uploadId));
    else if (sizeBytes === 0) await this.#client.putBlob(key, "");
    else await this.#assemble(uploadId, piecesOf(uploadId, state.segments), key, sizeBytes);
    this.#letGo(uploadId);
    try {
      await this.#removeAll([uploadKey(uploadId), ...piecesOf(uploadId, state.segments).map((piece) => piece.key)]);
    } catch (error) {
      // The blob is durable; what is left of the upload, also of requests that broke off, is found by cleanUploads.
      this.#options.log.warn("cannot tidy up after an upload", { uploadId, error: String(error) });
    }
  }

  /** The upload's own blob first: without it nobody continues what is being removed. */
  async deleteUpload(uploadId: string, _state: string): Promise<void> {
    const own = requireUploadKey(uploadId);
    this.#letGo(uploadId);
    const segments: string[] = [];
    for await (const { name } of this.#client.list(own)) {
      if (name === own) await this.#client.remove(own);
      else if (name.startsWith(`${own}/`)) segments.push(name);
    }
    await this.#removeAll(segments);
  }

  /** The list names an upload's own blob and then its segments, so one pass is enough. */
  async cleanUploads(beforeMs: number, limit: number): Promise<number> {
    let removed = 0;
    let group: { uploadId: string; newestMs: number; keys: string[] } | undefined;
    const finish = async () => {
      if (!group || group.newestMs >= beforeMs) return;
      await this.#removeAll(group.keys);
      removed++;
    };
    for await (const { name, modifiedMs } of this.#client.list("uploads/")) {
      const uploadId = uploadIdOf(name);
      if (uploadId === undefined) continue;
      if (group?.uploadId !== uploadId) {
        await finish();
        group = undefined;
        if (removed >= limit) return removed;
        group = { uploadId, newestMs: 0, keys: [] };
      }
      group.keys.push(name);
      group.newestMs = Math.max(group.newestMs, modifiedMs);
    }
    await finish();
    return removed;
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

  #readUrl(key: string, accountKey: string): string {
    return this.#client.readUrl(requireObjectKey(key), accountKey, {
      lifeMs: URL_LIFE_MS,
      answer: {
        cacheControl: "private, max-age=31536000, immutable",
        // A browser that is sent there saves the bytes and never runs them.
        contentDisposition: "attachment",
        contentType: "application/octet-stream",
      },
    });
  }

  /** The state of an upload that can be continued. Throws `blob_upload_unknown` for every other. */
  async #requireUpload(uploadId: string, text: string): Promise<UploadState> {
    const key = requireUploadKey(uploadId);
    const state = requireState(uploadId, text);
    // What waits in our memory is there by itself.
    if (state.heldBytes !== undefined && this.#held.has(uploadId)) return state;
    if ((await this.#client.sizeOf(key)) === undefined) throw uploadUnknown(uploadId, "is not in the store");
    return state;
  }

  async *#readPieces(uploadId: string, pieces: readonly Piece[]): AsyncGenerator<Uint8Array> {
    const absent = () => uploadUnknown(uploadId, "has lost bytes and must be started again");
    for (const { key, sizeBytes } of pieces) {
      const open = (rest: ByteSpan) => this.#client.read(key, rest, absent);
      yield* resumingStream({ start: 0, end: sizeBytes - 1 }, open, { retry: this.#retry });
    }
  }

  /** Makes segments the blob `key` in one step, after which a reader sees it whole. */
  async #assemble(uploadId: string, pieces: readonly Piece[], key: string, sizeBytes: number): Promise<void> {
    const absent = () => uploadUnknown(uploadId, "has lost bytes and must be started again");
    for (let round = 1; ; round++) {
      try {
        return await this.#client.putBlockList(key, await this.#copier.stage(key, pieces, absent));
      } catch (error) {
        const isSwept = error instanceof AzureRefusal && error.azureCode === "InvalidBlockList";
        if (!isSwept || round === COMMIT_ROUNDS) throw error;
        // Another commit of this key was faster, which drops the blocks of all others. A blob has the same bytes from
        // whomever: each compared them with the digest in the key. A named file may have others, and is put again.
        if (isBlobKey(key) && (await this.#client.sizeOf(key)) === sizeBytes) return;
      }
    }
  }

  async #removeAll(keys: readonly string[]): Promise<void> {
    for (let at = 0; at < keys.length; at += REMOVALS_AT_ONCE) {
      await Promise.all(keys.slice(at, at + REMOVALS_AT_ONCE).map((key) => this.#client.remove(key)));
    }
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
    const bounds = { once: true, answerMs: CHECK_ANSWER_MS } as const;
    if (isRecent(this.#probedAtMs, nowMs, PROBE_EVERY_MS)) {
      // It may have been tidied away; what matters is that the container answers.
      await this.#client.call({ method: "HEAD", key: PROBE_KEY, mayBeAbsent: true, ...bounds });
      return;
    }
    this.#probedAtMs = Number.NEGATIVE_INFINITY;
    const headers = { "content-type": "text/plain", "x-ms-blob-type": "BlockBlob" };
    await this.#client.call({ method: "PUT", key: PROBE_KEY, headers, body: "1", ...bounds });
    this.#probedAtMs = nowMs;
  }
}

/** Named by the digest of its bytes. */
function isBlobKey(key: string): boolean {
  return key.startsWith("sha256/") || key.startsWith("sha512/");
}

function requireState(uploadId: string, text: string): UploadState {
  const state = decodeState(uploadId, text);
  if (state) return state;
  throw uploadUnknown(uploadId, "is none that this store began");
}

function requireBytes(uploadId: string, state: UploadState, sizeBytes: number): void {
  const storedBytes = sizeOf(state);
  if (sizeBytes <= storedBytes) return;
  throw uploadUnknown(uploadId, `holds ${storedBytes} of its ${sizeBytes} bytes and must be started again`);
}
