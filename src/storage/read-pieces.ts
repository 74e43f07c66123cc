/**
 * Reads a stored object from its first byte to its last in pieces, at the reader's pace: for whoever looks at all bytes of a
 * store and may take hours over it, so that neither memory nor a connection waits for the reader.
 */

import { type FileHandle, open } from "node:fs/promises";
import { RegistryError } from "../errors.ts";
import type { ObjectSource, StorageDriver } from "./driver.ts";
import { isAbsent, storageError } from "./local-files.ts";

/** One read of a file. */
const FILE_PIECE_BYTES = 256 * 1024;
/**
 * One request to a store on another machine: a slow reader holds no connection for longer than this takes, and what a store
 * sends ahead of the reader is bounded by it.
 */
const REQUEST_BYTES = 4 * 1024 * 1024;

/**
 * The object's `sizeBytes` bytes, which is what the store said it has. A piece is good until the next one is asked for. Throws
 * `blob_unknown` when it is gone, `size_invalid` when it ends early, and what the driver throws.
 */
export async function* readPieces(driver: StorageDriver, key: string, sizeBytes: number): AsyncGenerator<Uint8Array> {
  for (let offsetBytes = 0; offsetBytes < sizeBytes; ) {
    const source = await driver.source(key, sizeBytes);
    if (!source) throw new RegistryError("blob_unknown", { message: `the object "${key}" is not there any more` });
    if (source.kind === "file") {
      yield* readFile(source.path, sizeBytes);
      return;
    }
    const end = Math.min(offsetBytes + REQUEST_BYTES, sizeBytes);
    for await (const piece of await openRange(source, offsetBytes, end)) {
      offsetBytes += piece.byteLength;
      yield piece;
    }
    if (offsetBytes !== end) throw endsEarly(key, offsetBytes, sizeBytes);
  }
}

function openRange(
  source: Extract<ObjectSource, { kind: "stream" }>,
  start: number,
  end: number,
): Promise<ReadableStream<Uint8Array>> {
  return source.open({ start, end: end - 1 });
}

async function* readFile(path: string, sizeBytes: number): AsyncGenerator<Uint8Array> {
  const file = await openFile(path);
  try {
    const buffer = new Uint8Array(Math.min(FILE_PIECE_BYTES, sizeBytes));
    for (let offsetBytes = 0; offsetBytes < sizeBytes; ) {
      const wanted = Math.min(buffer.byteLength, sizeBytes - offsetBytes);
      const { bytesRead } = await read(file, buffer, wanted, offsetBytes);
      if (bytesRead === 0) throw endsEarly(path, offsetBytes, sizeBytes);
      offsetBytes += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r");
  } catch (error) {
    if (isAbsent(error)) {
      throw new RegistryError("blob_unknown", { message: `the file "${path}" is not there any more`, cause: error });
    }
    throw storageError(error, "reading a blob");
  }
}

async function read(
  file: FileHandle,
  buffer: Uint8Array,
  length: number,
  offset: number,
): Promise<{ bytesRead: number }> {
  try {
    return await file.read(buffer, 0, length, offset);
  } catch (error) {
    throw storageError(error, "reading a blob");
  }
}

function endsEarly(name: string, offsetBytes: number, sizeBytes: number): RegistryError {
  return new RegistryError("size_invalid", { message: `"${name}" ends at ${offsetBytes} of ${sizeBytes} bytes` });
}
