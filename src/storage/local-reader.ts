/** Streams the beginning of a file with one read buffer at a time, and closes the file at the end, on error and on cancel. */

import type { FileHandle } from "node:fs/promises";
import { storageError } from "./local-files.ts";

/** Bytes of one read: large enough that hashing, not the thread pool, sets the pace. */
const readBytes = 256 * 1024;

/**
 * The first `sizeBytes` bytes of `file`, which the stream owns from here on. Errors the stream with `unavailable` when the
 * file ends early or cannot be read.
 */
export function readStream(file: FileHandle, sizeBytes: number): ReadableStream<Uint8Array> {
  let offsetBytes = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          if (offsetBytes < sizeBytes) {
            // A fresh buffer each time: the consumer may keep what it is given.
            const buffer = new Uint8Array(Math.min(readBytes, sizeBytes - offsetBytes));
            const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, offsetBytes);
            if (bytesRead === 0) throw new Error(`the file ends at ${offsetBytes} of ${sizeBytes} bytes`);
            offsetBytes += bytesRead;
            controller.enqueue(buffer.subarray(0, bytesRead));
          }
          if (offsetBytes === sizeBytes) {
            await file.close();
            controller.close();
          }
        } catch (error) {
          await file.close().catch(() => {});
          controller.error(storageError(error, "reading an upload back"));
        }
      },
      cancel: () => file.close(),
    },
    { highWaterMark: 0 },
  );
}
