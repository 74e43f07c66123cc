/**
 * One request's bytes on their way into a segment of their own: gathered in parts of the shared pool, staged as blocks, a few
 * at once, and made a blob by the flush. What fits into one part is a blob in one step.
 */

import { RegistryError } from "../../errors.ts";
import type { UploadWriter } from "../driver.ts";
import type { PartBuffer, PartPool } from "../remote/part-pool.ts";
import type { AzureClient } from "./client.ts";
import { BlockIds, type Copier, PART_BYTES } from "./copy.ts";
import { encodeState, newNonce, type Piece, type Segment, segmentKey, uploadUnknown } from "./state.ts";

/** Parts of one request on their way at once, while the budget of parts allows. */
const SENDING_MAX = 3;

export interface WriterOptions {
  readonly client: AzureClient;
  readonly copier: Copier;
  readonly parts: PartPool;
  readonly uploadId: string;
  readonly kept: readonly Segment[];
  /** A short segment that follows those kept and is taken into this one, so that their number stays bounded. */
  readonly head: Piece | undefined;
  /** Takes the bytes of a short upload that is committed by this process, instead of the store. */
  readonly hold: ((part: PartBuffer) => void) | undefined;
}

export class AzureUploadWriter implements UploadWriter {
  readonly #options: WriterOptions;
  readonly #nonce = newNonce();
  readonly #key: string;
  readonly #blocks = new BlockIds();
  readonly #blockIds: string[] = [];
  readonly #sending = new Set<Promise<void>>();
  /** Ends what is on its way when the request is given up. */
  readonly #stop = new AbortController();
  #filling: PartBuffer | undefined;
  /** MD5 of the part that is filled, where nothing else protects the bytes on their way. */
  #md5: Bun.CryptoHasher | undefined;
  #sizeBytes = 0;
  /** The first failure; every later call throws it again. */
  #failure: { readonly error: unknown } | undefined;
  #phase: "open" | "flushing" | "ended" = "open";

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#key = segmentKey(options.uploadId, options.kept.length, this.#nonce);
  }

  write(chunk: Uint8Array): Promise<void> | void {
    this.#requireUsable();
    const taken = this.#take(chunk, 0);
    if (taken < chunk.byteLength) return this.#takeRest(chunk, taken);
  }

  async flush(): Promise<string> {
    this.#requireUsable();
    this.#phase = "flushing";
    const { uploadId, kept, head, hold } = this.#options;
    const part = this.#filling;
    if (!part) return this.#done(head ? [...kept, segmentOf(head)] : kept);
    const isWhole = this.#blockIds.length === 0;
    if (isWhole && kept.length === 0 && hold) {
      this.#filling = undefined;
      this.#phase = "ended";
      hold(part);
      return encodeState(uploadId, { segments: [], heldBytes: this.#sizeBytes });
    }
    try {
      if (isWhole && !head) await this.#putWhole(part);
      else await this.#putList(head);
    } catch (error) {
      this.#failure ??= { error };
      throw this.#failure.error;
    }
    return this.#done([...kept, { nonce: this.#nonce, sizeBytes: (head?.sizeBytes ?? 0) + this.#sizeBytes }]);
  }

  async abort(): Promise<void> {
    if (this.#phase === "ended") return;
    this.#phase = "ended";
    const error = new RegistryError("blob_upload_invalid", { message: "the upload request was aborted" });
    this.#failure ??= { error };
    this.#stop.abort(error);
    await this.#settle();
    this.#filling?.release();
    this.#filling = undefined;
    // Blocks that nobody commits are the store's to drop.
  }

  #done(segments: readonly Segment[]): string {
    this.#phase = "ended";
    return encodeState(this.#options.uploadId, { segments });
  }

  #requireUsable(): void {
    if (this.#failure) throw this.#failure.error;
    if (this.#phase !== "open") throw new Error("upload writer used after flush or abort");
  }

  /** Copies bytes until there is no part for more. Gives the count of bytes taken. */
  #take(chunk: Uint8Array, from: number): number {
    let taken = from;
    while (taken < chunk.byteLength) {
      // A full part goes out when more follows: what fits into one is a blob by itself.
      if (this.#filling?.isFull) this.#send();
      this.#filling ??= this.#openPart();
      if (!this.#filling) break;
      const count = this.#filling.append(chunk, taken);
      this.#md5?.update(chunk.subarray(taken, taken + count));
      this.#sizeBytes += count;
      taken += count;
    }
    return taken;
  }

  async #takeRest(chunk: Uint8Array, from: number): Promise<void> {
    let taken = from;
    while (taken < chunk.byteLength) {
      await Promise.race(this.#sending);
      this.#requireUsable();
      taken = this.#take(chunk, taken);
    }
  }

  #openPart(): PartBuffer | undefined {
    const { client, parts } = this.#options;
    const options = { sizeBytesMax: PART_BYTES };
    const mayOpen = this.#sending.size < SENDING_MAX;
    const part = this.#sending.size === 0 ? parts.open(options) : mayOpen ? parts.tryOpen(options) : undefined;
    if (part && !client.isSecure) this.#md5 = new Bun.CryptoHasher("md5");
    return part;
  }

  /** Sends the part that was filled as a block. Failures are kept for whoever asks next. */
  #send(): void {
    const part = this.#filling;
    if (!part) return;
    this.#filling = undefined;
    const blockId = this.#blocks.name(this.#blockIds.length + 1);
    this.#blockIds.push(blockId);
    const options = { md5: this.#md5?.digest("base64"), signal: this.#stop.signal };
    const sending = this.#options.client
      .putBlock(this.#key, blockId, part, options)
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        part.release();
        this.#sending.delete(sending);
      });
    this.#sending.add(sending);
  }

  async #putWhole(part: PartBuffer): Promise<void> {
    const options = { md5: this.#md5?.digest("base64"), signal: this.#stop.signal };
    await this.#options.client.putBlob(this.#key, part, options);
    part.release();
    this.#filling = undefined;
  }

  async #putList(head: Piece | undefined): Promise<void> {
    const { client, copier, uploadId } = this.#options;
    this.#send();
    const absent = () => uploadUnknown(uploadId, "has lost bytes and must be started again");
    const headIds = head ? await copier.stage(this.#key, [head], absent, this.#stop.signal) : [];
    await this.#settle();
    if (this.#failure) throw this.#failure.error;
    await client.putBlockList(this.#key, [...headIds, ...this.#blockIds], this.#stop.signal);
  }

  /** Waits until nothing is on its way. */
  async #settle(): Promise<void> {
    while (this.#sending.size > 0) await Promise.all(this.#sending);
  }
}

/** The segment again that a head was made of. */
function segmentOf({ key, sizeBytes }: Piece): Segment {
  return { nonce: key.slice(-12), sizeBytes };
}
