/**
 * The bytes of one request on their way into a segment, or with the last ones into the blob itself: gathered in parts, of
 * which full ones are sent while the next one fills. Memory is one part, and more only while the shared budget lasts.
 */

import { RegistryError } from "../../errors.ts";
import type { UploadWriter } from "../driver.ts";
import type { PartBuffer, PartPool } from "../remote/part-pool.ts";
import type { S3Client } from "./client.ts";
import { abortMultipart, createMultipart, type Multipart, type ObjectHeaders, uploadPart } from "./multipart.ts";

/** Parts of one upload under way at once; more gain nothing while one client sends. */
const SENDING_MAX = 3;

/** What a writer has gathered when all bytes are there. */
export type Gathered =
  /** So little that it is in memory still: the receiver releases it. */
  | { readonly kind: "part"; readonly part: PartBuffer }
  /** Parts in the store that nobody sees before Complete. */
  | {
      readonly kind: "multipart";
      readonly multipart: Multipart;
      readonly etags: readonly string[];
      readonly sizeBytes: number;
    };

export interface S3WriterOptions {
  readonly client: S3Client;
  readonly pool: PartPool;
  readonly partBytes: number;
  /** Where a multipart upload goes when the bytes are more than a part. */
  readonly key: string;
  readonly headers: ObjectHeaders;
  /** Makes of what was gathered what can be resumed from, and gives the driver's state. Undefined: nothing was written. */
  readonly finish: (gathered: Gathered | undefined) => Promise<string>;
  readonly onEnd: (writer: S3UploadWriter) => void;
}

export class S3UploadWriter implements UploadWriter {
  readonly #options: S3WriterOptions;
  readonly #controller = new AbortController();
  readonly #sending = new Set<Promise<void>>();
  readonly #etags: string[] = [];
  #filling: PartBuffer | undefined;
  #multipart: Promise<Multipart> | undefined;
  #partsBegun = 0;
  #sizeBytes = 0;
  /** The first failure; every later call throws it again. */
  #failure: unknown;
  #phase: "open" | "flushing" | "ended" = "open";
  #aborting: Promise<void> | undefined;

  constructor(options: S3WriterOptions) {
    this.#options = options;
  }

  write(chunk: Uint8Array): Promise<void> | void {
    this.#requireOpen();
    if (!this.#filling || chunk.byteLength > this.#filling.roomBytes) return this.#writeOver(chunk);
    this.#take(this.#filling, chunk, 0);
  }

  async flush(): Promise<string> {
    this.#requireOpen();
    this.#phase = "flushing";
    const gathered = await this.#gather();
    try {
      this.#throwFailure();
      const state = await this.#options.finish(gathered);
      this.#phase = "ended";
      this.#options.onEnd(this);
      return state;
    } catch (error) {
      this.#failure ??= error;
      if (gathered?.kind === "part") gathered.part.release();
      throw error;
    }
  }

  abort(): Promise<void> {
    if (this.#phase === "ended" && !this.#aborting) return Promise.resolve();
    this.#aborting ??= this.#abort("the upload request was aborted");
    return this.#aborting;
  }

  /** Ends the writer of a request that another one has overtaken. */
  fence(): Promise<void> {
    if (this.#phase === "ended" && !this.#aborting) return Promise.resolve();
    this.#aborting ??= this.#abort("another request has taken over the upload");
    return this.#aborting;
  }

  async #abort(message: string): Promise<void> {
    const failure = new RegistryError("blob_upload_invalid", { message });
    this.#failure ??= failure;
    this.#phase = "ended";
    this.#controller.abort(failure);
    while (this.#sending.size > 0) await Promise.all(this.#sending);
    this.#filling?.release();
    this.#filling = undefined;
    this.#options.onEnd(this);
    // Begun or not: its answer tells. What fails here is found again by cleanUploads.
    const multipart = await this.#multipart?.catch(() => undefined);
    if (multipart) await abortMultipart(this.#options.client, multipart).catch(() => undefined);
  }

  async #writeOver(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.byteLength; ) {
      const part = this.#filling?.isFull === false ? this.#filling : await this.#nextPart();
      if (part.roomBytes === 0) await this.#options.pool.admit(part, this.#controller.signal);
      this.#requireOpen();
      at += this.#take(part, chunk, at);
    }
  }

  #take(part: PartBuffer, chunk: Uint8Array, from: number): number {
    const taken = part.append(chunk, from);
    this.#sizeBytes += taken;
    return taken;
  }

  /** A part with room: the full one is on its way then, and when memory is short, has arrived. */
  async #nextPart(): Promise<PartBuffer> {
    const { pool, partBytes, client } = this.#options;
    if (this.#filling) {
      this.#send(this.#filling);
      this.#filling = undefined;
    }
    // On plain HTTP the signature covers the bytes, and the hash is made while they come.
    const options = { sizeBytesMax: partBytes, hashed: !client.isSecure };
    while (this.#sending.size > 0) {
      const next = this.#sending.size < SENDING_MAX ? pool.tryOpen(options) : undefined;
      if (next) return this.#fill(next);
      await Promise.race(this.#sending);
      this.#requireOpen();
    }
    return this.#fill(pool.open({ ...options, isGradual: true }));
  }

  #fill(part: PartBuffer): PartBuffer {
    this.#filling = part;
    return part;
  }

  #send(part: PartBuffer): void {
    const { client, key, headers } = this.#options;
    const number = ++this.#partsBegun;
    this.#multipart ??= createMultipart(client, key, headers, this.#controller.signal);
    const sending = this.#multipart
      .then((multipart) => uploadPart(client, multipart, number, part, this.#controller.signal))
      .then(
        (etag) => {
          this.#etags[number - 1] = etag;
        },
        (error: unknown) => {
          this.#failure ??= error;
        },
      )
      .finally(() => {
        part.release();
        this.#sending.delete(sending);
      });
    this.#sending.add(sending);
  }

  /** Sends the rest, if any went before, and waits until the store has everything. */
  async #gather(): Promise<Gathered | undefined> {
    const part = this.#filling;
    if (part && !this.#multipart) {
      this.#filling = undefined;
      return { kind: "part", part };
    }
    if (part) this.#send(part);
    this.#filling = undefined;
    while (this.#sending.size > 0) await Promise.all(this.#sending);
    if (!this.#multipart || this.#failure) return undefined;
    const multipart = await this.#multipart;
    // Its completion is no longer this writer's to undo once `finish` has it.
    return { kind: "multipart", multipart, etags: this.#etags, sizeBytes: this.#sizeBytes };
  }

  #requireOpen(): void {
    this.#throwFailure();
    if (this.#phase !== "open") throw new Error("upload writer used after flush or abort");
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure;
  }
}
