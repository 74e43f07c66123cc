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
        cancel: () => this.#leave(),
      },
      { highWaterMark: 0 },
    );
  }

  /** The next bytes. Throws what the last store threw when none is left. */
  async #read(): Promise<Uint8Array> {
    for (;;) {
      const isFirst = this.#current === undefined;
      const candidate = this.#current?.candidate ?? this.#waiting.shift();
      if (!candidate) throw this.#failure ?? new RegistryError("unavailable");
      try {
        const chunk = isFirst ? await this.#firstOf(candidate) : await this.#current?.reader.read().then(chunkOf);
        if (chunk === undefined) throw new Error(`the bytes end at ${this.#next}, before ${this.#end + 1}`);
        const wanted = chunk.subarray(0, this.#end + 1 - this.#next);
        this.#next += wanted.byteLength;
        return wanted;
      } catch (cause) {
        await this.#leave();
        this.#failure =
          cause instanceof RegistryError
            ? cause
            : new RegistryError("unavailable", { message: `reading from "${candidate.location}" failed`, cause });
        candidate.failed(this.#failure);
      }
    }
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
    if (!source) throw new Error("the blob is not there");
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
