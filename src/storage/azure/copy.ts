/**
 * Putting a blob together from segments that lie in the store already. The store copies by itself where it does; where it
 * refuses, the bytes go through us, a part at a time.
 */

import { isRecent } from "../../lib/clock.ts";
import { KeyedMutex } from "../../lib/semaphore.ts";
import type { Logger } from "../../observe/logger.ts";
import type { PartPool } from "../remote/part-pool.ts";
import { type ByteSpan, resumingStream } from "../remote/read-stream.ts";
import type { RetryOptions } from "../remote/retry.ts";
import { type AzureClient, AzureRefusal } from "./client.ts";
import type { Piece } from "./state.ts";

/** Bytes of a block, and memory that every upload is sure of: with 50,000 blocks a request may bring 400 GB. */
export const PART_BYTES = 8 * 1024 * 1024;
/** Bytes that the store copies in one request: 100 GB are 1,500 of them, of 50,000 blocks that a blob may have. */
export const COPY_BYTES = 64 * 1024 * 1024;
/** Copies of one commit at once: they cost us nothing but requests. */
const COPIES_AT_ONCE = 16;
/** After a refusal the store is asked again this much later: what refused may have been put right. */
const REFUSED_FOR_MS = 10 * 60_000;
/**
 * How stores say that they do not copy by themselves: emulators that cannot, and accounts behind firewalls or private
 * endpoints, whose copies come from outside. What else these codes may mean (a blob that is gone) shows in the reading.
 */
const REFUSALS: ReadonlySet<string> = new Set([
  "CannotVerifyCopySource",
  "FeatureNotSupportedByStorageAccount",
  "NotImplemented",
  "UnsupportedHeader",
]);

export interface CopierOptions {
  readonly client: AzureClient;
  readonly parts: PartPool;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly retry: RetryOptions;
}

/** Names the blocks that one writer stages: no other has the same. */
export class BlockIds {
  /** A blob's ids must be equally long: these are as long as the UUIDs in text that Quay names its blocks by. */
  readonly #writer = crypto.randomUUID().replaceAll("-", "").slice(0, 24);

  /** In base64. `index` and `sub` have up to six digits. */
  name(index: number, sub = 0): string {
    return btoa(this.#writer + String(index).padStart(6, "0") + String(sub).padStart(6, "0"));
  }
}

export class Copier {
  readonly #options: CopierOptions;
  readonly #piped = new KeyedMutex();
  #refusedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: CopierOptions) {
    this.#options = options;
  }

  /**
   * Stages the bytes of `pieces` as blocks of `target` and gives their ids in order. `absent` is thrown when a piece is not
   * in the store.
   */
  async stage(target: string, pieces: readonly Piece[], absent: () => Error, signal?: AbortSignal): Promise<string[]> {
    const blocks = new BlockIds();
    const ranges = [...rangesOf(pieces)];
    const ids: string[][] = [];
    let next = 0;
    let failed = false;
    const lane = async () => {
      while (next < ranges.length && !failed) {
        const index = next++;
        const range = ranges[index];
        if (!range) return;
        try {
          ids[index] = await this.#stageRange(target, range, (sub) => blocks.name(index, sub), absent, signal);
        } catch (error) {
          failed = true;
          throw error;
        }
      }
    };
    const lanes = await Promise.allSettled(Array.from({ length: COPIES_AT_ONCE }, lane));
    for (const result of lanes) if (result.status === "rejected") throw result.reason;
    return ids.flat();
  }

  async #stageRange(
    target: string,
    { key, span }: Range,
    blockId: (sub: number) => string,
    absent: () => Error,
    signal: AbortSignal | undefined,
  ): Promise<string[]> {
    const { client, nowMs, log } = this.#options;
    if (!isRecent(this.#refusedAtMs, nowMs(), REFUSED_FOR_MS)) {
      try {
        await client.putBlockFrom(target, blockId(0), key, span, signal);
        return [blockId(0)];
      } catch (error) {
        if (!(error instanceof AzureRefusal) || !REFUSALS.has(error.azureCode)) throw error;
        const ids = await this.#pipe(target, { key, span }, blockId, absent, signal);
        // Only once the way around worked: the blob itself may have been the reason. A store that was busy is asked again.
        if (error.status < 500 || error.azureCode === "NotImplemented") {
          if (!isRecent(this.#refusedAtMs, nowMs(), REFUSED_FOR_MS)) {
            const code = error.azureCode;
            log.warn("the store does not copy by itself; uploads go through this process once more", { code });
          }
          this.#refusedAtMs = nowMs();
        }
        return ids;
      }
    }
    return this.#pipe(target, { key, span }, blockId, absent, signal);
  }

  /** One part of all commits at a time: the way around must not cost the memory that uploads need. */
  #pipe(
    target: string,
    { key, span }: Range,
    blockId: (sub: number) => string,
    absent: () => Error,
    signal: AbortSignal | undefined,
  ): Promise<string[]> {
    const { client, parts, retry } = this.#options;
    return this.#piped.run("", async () => {
      const ids: string[] = [];
      let part = parts.open({ sizeBytesMax: PART_BYTES });
      const put = async () => {
        const id = blockId(ids.length);
        await client.putBlock(target, id, part, signal ? { signal } : {});
        ids.push(id);
        part.release();
      };
      try {
        const open = (rest: ByteSpan) => client.read(key, rest, absent);
        for await (const chunk of resumingStream(span, open, { retry })) {
          for (let at = 0; at < chunk.byteLength; ) {
            if (part.isFull) {
              await put();
              part = parts.open({ sizeBytesMax: PART_BYTES });
            }
            at += part.append(chunk, at);
          }
        }
        await put();
        return ids;
      } finally {
        part.release();
      }
    });
  }
}

interface Range {
  readonly key: string;
  readonly span: ByteSpan;
}

function* rangesOf(pieces: readonly Piece[]): Generator<Range> {
  for (const { key, sizeBytes } of pieces) {
    for (let start = 0; start < sizeBytes; start += COPY_BYTES) {
      yield { key, span: { start, end: Math.min(start + COPY_BYTES, sizeBytes) - 1 } };
    }
  }
}
