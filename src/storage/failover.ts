/**
 * One blob read from several stores: from the first that gives bytes, and from the next one on where that breaks. Blobs are
 * the same bytes wherever they lie, so a reader that is half way does not notice.
 */

import { RegistryError } from "../errors.ts";
import type { ObjectSource } from "./driver.ts";

/** One store that should have the blob. */
export interface Candidate {
  readonly location: string;
  /** Undefined when the store has no such blob. */
  source(): Promise<ObjectSource | undefined>;
  /** Hears why reading from it did not work. */
  failed(error: unknown): void;
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** How long a store may take to the first byte while another one could be asked. */
const FIRST_BYTE_MS = 5000;
/** The same for each chunk after it: longer, because what was waited for is thrown away. */
const STALL_MS = 15_000;

/** A source that reads from `candidates` in their order, each at most once. There must be one at least. */
export function failoverSource(candidates: readonly Candidate[], sizeBytes: number): ObjectSource {
  return {
    kind: "stream",
    sizeBytes,
    open: async (range) => {
      if (sizeBytes === 0) return new Blob([]).stream();
      return new FailoverReader(candidates, range ?? { start: 0, end: sizeBytes - 1 }).start();
    },
  };
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;

class FailoverReader {
  readonly #waiting: Candidate[];
  readonly #end: number;
  /** Offset of the next byte that is to be given. */
  #next: number;
  #current: { readonly candidate: Candidate; readonly reader: Reader } | undefined;
  #failure: unknown;
  #isCancelled = false;

  constructor(candidates: readonly Candidate[], range: Range) {
    this.#waiting = [...candidates];
    this.#next = range.start;
    this.#end = range.end;
  }

  /** Resolves with the first bytes at hand, so that a request can still be refused when there are none. */
  async start(): Promise<ReadableStream<Uint8Array>> {
    let first: Uint8Array | undefined = await this.#read();
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const chunk = first ?? (await this.#read());
          first = undefined;
          controller.enqueue(chunk);
          if (this.#next > this.#end) {
            await this.#leave();
            controller.close();
          }
        },
        cancel: () => {
          this.#isCancelled = true;
          return this.#leave();
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** The next bytes. Throws what the last store threw when none is left. */
  async #read(): Promise<Uint8Array> {
    for (;;) {
      const candidate = this.#current?.candidate ?? this.#waiting.shift();
      if (!candidate) throw this.#failure ?? new RegistryError("unavailable");
      try {
        const chunk = this.#current ? await this.#nextOf(this.#current.reader) : await this.#firstOf(candidate);
        if (chunk === undefined) throw endsEarly(candidate.location, this.#next, this.#end);
        const wanted = chunk.subarray(0, this.#end + 1 - this.#next);
        this.#next += wanted.byteLength;
        return wanted;
      } catch (cause) {
        await this.#leave();
        if (this.#isCancelled) throw cause;
        this.#failure =
          cause instanceof RegistryError
            ? cause
            : new RegistryError("unavailable", { message: `reading from "${candidate.location}" failed`, cause });
        candidate.failed(this.#failure);
      }
    }
  }

  async #nextOf(reader: Reader): Promise<Uint8Array | undefined> {
    const reading = reader.read();
    return chunkOf(await (this.#waiting.length === 0 ? reading : within(reading, STALL_MS)));
  }

  async #firstOf(candidate: Candidate): Promise<Uint8Array | undefined> {
    const opening = this.#open(candidate);
    // When nobody else could be asked, waiting is all that is left.
    const opened = await (this.#waiting.length === 0 ? opening : within(opening, FIRST_BYTE_MS)).catch((error) => {
      void opening.then(({ reader }) => reader.cancel()).catch(() => undefined);
      throw error;
    });
    this.#current = { candidate, reader: opened.reader };
    return opened.first;
  }

  async #open(candidate: Candidate): Promise<{ reader: Reader; first: Uint8Array | undefined }> {
    const source = await candidate.source();
    if (!source) {
      const message = `the blob is not in "${candidate.location}"`;
      throw new RegistryError("blob_unknown", { message });
    }
    const { start, end } = { start: this.#next, end: this.#end };
    const reader = (await openRange(source, start, end)).getReader();
    return { reader, first: chunkOf(await reader.read()) };
  }

  async #leave(): Promise<void> {
    const { reader } = this.#current ?? {};
    this.#current = undefined;
    await reader?.cancel().catch(() => undefined);
  }
}

function chunkOf(result: { done: boolean; value?: Uint8Array | undefined }): Uint8Array | undefined {
  return result.done ? undefined : result.value;
}

/** Its object is shorter than the blob: no failure that passes. */
function endsEarly(location: string, atBytes: number, end: number): RegistryError {
  return new RegistryError("size_invalid", { message: `the bytes in "${location}" end at ${atBytes} of ${end + 1}` });
}

function openRange(source: ObjectSource, start: number, end: number): Promise<ReadableStream<Uint8Array>> {
  if (source.kind === "file")
    return Promise.resolve(
      Bun.file(source.path)
        .slice(start, end + 1)
        .stream(),
    );
  const isWhole = start === 0 && end === source.sizeBytes - 1;
  return source.open(isWhole ? undefined : { start, end });
}

async function within<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no byte came within ${timeoutMs} ms`)), timeoutMs);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
