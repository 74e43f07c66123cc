/**
 * Whether a bucket can be read and written now, as `check` of the driver answers it: asked at most once a second, and
 * written to less often, because stores count requests.
 */

import { RegistryError } from "../../errors.ts";
import { type Clock, isRecent } from "../../lib/clock.ts";
import { discard } from "../remote/request.ts";
import type { S3Client } from "./client.ts";
import { S3Refusal } from "./errors.ts";

export interface BucketProbeOptions {
  readonly client: S3Client;
  readonly clock: Clock;
  /** Of the object that is written. */
  readonly key: string;
}

/** A poll within this time of the last one gets the same answer. */
const REUSE_MS = 1000;
/** How often the object is written; between, the bucket is only asked for. */
const WRITE_EVERY_MS = 10_000;
const bounds = { once: true, answerMs: 5000 } as const;

export class BucketProbe {
  readonly #options: BucketProbeOptions;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #wroteAtMs = Number.NEGATIVE_INFINITY;
  #failure: unknown;
  #asking: Promise<void> | undefined;

  constructor(options: BucketProbeOptions) {
    this.#options = options;
  }

  /** Throws what is wrong with the bucket. */
  async check(): Promise<void> {
    if (!isRecent(this.#askedAtMs, this.#options.clock.nowMs(), REUSE_MS)) {
      this.#asking ??= this.#ask().finally(() => {
        this.#asking = undefined;
      });
      await this.#asking;
    }
    if (this.#failure) throw this.#failure;
  }

  /** Keeps the answer for `check`. Never rejects. */
  async #ask(): Promise<void> {
    const { client, clock, key } = this.#options;
    const nowMs = clock.nowMs();
    try {
      await this.#requireBucket();
      if (this.#failure || !isRecent(this.#wroteAtMs, nowMs, WRITE_EVERY_MS)) {
        await discard(await client.call({ method: "PUT", key, body: "1", ...bounds }));
        this.#wroteAtMs = nowMs;
      }
      this.#failure = undefined;
    } catch (error) {
      // A full store still serves pulls; what is full is seen by the push that meets it.
      const isFull = error instanceof RegistryError && error.code === "storage_full";
      this.#failure = isFull ? undefined : error;
    }
    this.#askedAtMs = nowMs;
  }

  /** A HEAD costs least and its refusal says nothing; whoever then lists a key is told why. */
  async #requireBucket(): Promise<void> {
    const { client, key } = this.#options;
    try {
      await discard(await client.call({ method: "HEAD", ...bounds }));
    } catch (error) {
      if (!(error instanceof S3Refusal)) throw error;
      const query = { "list-type": "2", "max-keys": "1", prefix: key };
      await discard(await client.call({ method: "GET", query, ...bounds }));
      throw error;
    }
  }
}
