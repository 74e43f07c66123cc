/**
 * The bytes of an object in a store on another machine, as one stream over as many requests as it takes: a connection that
 * breaks in the middle is opened again where it broke, which is safe because a blob never changes.
 */

import { PassingFailure, type RetryOptions, retrying } from "./retry.ts";

export interface ByteSpan {
  readonly start: number;
  /** Inclusive. */
  readonly end: number;
}

/**
 * Reads the bytes of `span` through `open`, which asks the store for the rest of them. `first` is the answer to the whole
 * span, when it is there already. Fails, and never just ends, when the store gives fewer bytes; drops what it gives beyond.
 */
export function resumingStream(
  span: ByteSpan,
  open: (rest: ByteSpan) => Promise<ReadableStream<Uint8Array>>,
  options: { first?: ReadableStream<Uint8Array>; retry?: RetryOptions } = {},
): ReadableStream<Uint8Array> {
  let at = span.start;
  let reader = options.first?.getReader();

  /** The next bytes, from a new request when the one before broke. */
  async function read(): Promise<Uint8Array> {
    try {
      reader ??= (await open({ start: at, end: span.end })).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new PassingFailure(`the store ended an object ${span.end + 1 - at} bytes early`);
        if (value.byteLength > 0) return value;
      }
    } catch (error) {
      const broken = reader;
      reader = undefined;
      await broken?.cancel().catch(() => undefined);
      throw error;
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (at > span.end) return controller.close();
        const value = await retrying(read, options.retry);
        const wanted = value.subarray(0, span.end + 1 - at);
        at += wanted.byteLength;
        controller.enqueue(wanted);
        if (at <= span.end) return;
        controller.close();
        await reader?.cancel().catch(() => undefined);
      },
      async cancel(reason) {
        at = span.end + 1;
        await reader?.cancel(reason).catch(() => undefined);
      },
    },
    { highWaterMark: 0 },
  );
}
