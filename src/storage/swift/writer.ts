/**
 * One request's bytes on their way into segments: gathered in parts of the shared pool and sent as a part is full, a few at
 * once. Parts are whole before they go out, so that a try can be repeated, and Swift compares each with its MD5.
 */

import { RegistryError } from "../../errors.ts";
import type { UploadWriter } from "../driver.ts";
import type { PartBuffer, PartPool } from "../remote/part-pool.ts";
import type { SwiftClient } from "./client.ts";
import { newRun, type SwiftNames } from "./names.ts";
import { encodeState, type Run } from "./state.ts";

/**
 * Size of a segment. A thousand of them, Swift's usual bound for one manifest, are 8 GiB; what is longer has manifests of
 * manifests. 32 MiB wrote 15 % faster and would cost every upload four times the memory (NOTES.md).
 */
export const SEGMENT_BYTES = 8 * 1024 * 1024;
/** Segments of one request on their way at once, while the budget of parts allows. */
const SENDING_MAX = 3;

export interface WriterOptions {
  readonly client: SwiftClient;
  readonly names: SwiftNames;
  readonly parts: PartPool;
  readonly id: string;
  /** The state at which the request began, given back when it brings nothing; undefined when it says too much. */
  readonly unchanged: string | undefined;
  readonly kept: readonly Run[];
  /** Object whose bytes are the first that this writer is given. */
  readonly dropped: string | undefined;
  /** Takes the bytes of a short upload that is committed by this process, instead of Swift. */
  readonly hold?: ((part: PartBuffer) => void) | undefined;
}

export class SwiftUploadWriter implements UploadWriter {
  readonly #options: WriterOptions;
  readonly #run = newRun();
  #filling: PartBuffer | undefined;
  #md5 = new Bun.CryptoHasher("md5");
  #sizeBytes = 0;
  /** The request brought bytes of its own. */
  #hasOwn = false;
  /** Segments that were sent or are on their way. */
  #sentCount = 0;
  readonly #sending = new Set<Promise<void>>();
  #marking: Promise<void> | undefined;
  /** The first failure; every later call throws it again. */
  #failure: unknown;
  #hasFailed = false;
  /** A request's outcome is not known: it may still arrive. */
  #isUncertain = false;
  #phase: "open" | "flushed" | "ended" = "open";

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  write(chunk: Uint8Array): Promise<void> | void {
    this.#requireUsable();
    if (chunk.byteLength > 0) this.#hasOwn = true;
    const taken = this.#take(chunk, 0);
    if (taken < chunk.byteLength) return this.#takeRest(chunk, taken);
  }

  /** Takes bytes that are stored already, and that follow those of `kept`. They fit into one part. */
  head(chunk: Uint8Array): void {
    this.#take(chunk, 0);
  }

  async flush(): Promise<string> {
    this.#requireUsable();
    this.#phase = "flushed";
    const { id, kept, dropped, unchanged, hold } = this.#options;
    if (!this.#hasOwn && (unchanged !== undefined || this.#sizeBytes === 0)) {
      await this.#giveUp();
      return unchanged ?? encodeState(id, { runs: kept, dropped: [] });
    }
    const isLoose = this.#sentCount === 0 && kept.length === 0;
    const part = this.#filling;
    if (isLoose && part && hold) {
      this.#filling = undefined;
      this.#phase = "ended";
      hold(part);
      return encodeState(id, { runs: [], dropped: [], heldBytes: this.#sizeBytes });
    }
    if (part) this.#send(isLoose);
    await this.#settle();
    if (this.#hasFailed) throw this.#failure;
    this.#phase = "ended";
    const run: Run = { run: this.#run, sizeBytes: this.#sizeBytes, segmentBytes: SEGMENT_BYTES, isLoose };
    return encodeState(id, { runs: [...kept, run], dropped: dropped === undefined ? [] : [dropped] });
  }

  async abort(): Promise<void> {
    if (this.#phase === "ended") return;
    await this.#giveUp();
  }

  /** Ends the writer without a trace. */
  async #giveUp(): Promise<void> {
    this.#phase = "ended";
    this.#failure ??= new RegistryError("blob_upload_invalid", { message: "the upload request was aborted" });
    this.#hasFailed = true;
    await this.#settle();
    this.#filling?.release();
    this.#filling = undefined;
    if (!this.#marking) return;
    const { client, names, id } = this.#options;
    const written = Array.from({ length: this.#sentCount }, (_, index) => names.segment(id, this.#run, index));
    await Promise.all(written.map((name) => client.remove(name)));
    // A try whose answer never came may still arrive: cleanUploads finds it by what is left here.
    if (!this.#isUncertain) await client.remove(names.run(id, this.#run));
  }

  #requireUsable(): void {
    if (this.#hasFailed) throw this.#failure;
    if (this.#phase !== "open") throw new Error("upload writer used after flush or abort");
  }

  /** Copies bytes until there is no part for more. Gives the count of bytes taken. */
  #take(chunk: Uint8Array, from: number): number {
    let taken = from;
    while (taken < chunk.byteLength) {
      // A full part goes out when more follows: what fits into one is no matter of segments.
      if (this.#filling?.isFull) this.#send(false);
      this.#filling ??= this.#openPart();
      if (!this.#filling) break;
      const count = this.#filling.append(chunk, taken);
      this.#md5.update(chunk.subarray(taken, taken + count));
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
    const { parts } = this.#options;
    if (this.#sending.size === 0) return parts.open({ sizeBytesMax: SEGMENT_BYTES });
    return this.#sending.size < SENDING_MAX ? parts.tryOpen({ sizeBytesMax: SEGMENT_BYTES }) : undefined;
  }

  /** Sends the part that was filled. Failures are kept for whoever asks next. */
  #send(isLoose: boolean): void {
    const part = this.#filling;
    if (!part) return;
    this.#filling = undefined;
    const { names, id } = this.#options;
    const name = isLoose ? names.run(id, this.#run) : names.segment(id, this.#run, this.#sentCount++);
    const etag = this.#md5.digest("hex");
    this.#md5 = new Bun.CryptoHasher("md5");
    const sending = this.#put(name, part, etag, isLoose)
      .catch((error: unknown) => {
        this.#failure ??= error;
        this.#hasFailed = true;
        this.#isUncertain = true;
      })
      .finally(() => {
        part.release();
        this.#sending.delete(sending);
      });
    this.#sending.add(sending);
  }

  async #put(name: string, part: PartBuffer, etag: string, isLoose: boolean): Promise<void> {
    const { client, names, id } = this.#options;
    // Before the first segment: what lies among the segments must be findable below uploads/.
    if (!isLoose) {
      this.#marking ??= client.put(names.run(id, this.#run), "");
      await this.#marking;
    }
    if (this.#phase === "ended" && this.#hasFailed) return;
    await client.put(name, part, { etag });
  }

  /** Waits until nothing is on its way. */
  async #settle(): Promise<void> {
    while (this.#sending.size > 0) await Promise.all(this.#sending);
  }
}
