/** Puts a text that is made piece by piece into a store as one named file, without holding it. */

import type { StorageDriver } from "../../storage/driver.ts";

export interface FileToStore {
  /** A UUID; the caller keeps it, and the state, to drop what a crash leaves. */
  readonly uploadId: string;
  readonly key: string;
  readonly content: AsyncIterable<string | Uint8Array> | Iterable<string | Uint8Array>;
  /** Called when the upload exists, before anything is written. */
  onStarted(state: string): Promise<void>;
}

/** Pieces are gathered up to this before they go to the store. */
const PIECE_BYTES = 64 * 1024;

/** Durable when it resolves, with the size in bytes. What was there under the key is replaced; an error leaves it. */
export async function storeFile(driver: StorageDriver, file: FileToStore): Promise<number> {
  const { uploadId, key, content } = file;
  const started = await driver.createUpload(uploadId);
  await file.onStarted(started);
  const writer = await driver.openUpload(uploadId, started, 0);
  let sizeBytes = 0;
  try {
    let pieces: Uint8Array[] = [];
    let gathered = 0;
    const write = async () => {
      await writer.write(Buffer.concat(pieces));
      sizeBytes += gathered;
      pieces = [];
      gathered = 0;
    };
    for await (const piece of content) {
      const bytes = typeof piece === "string" ? Buffer.from(piece) : piece;
      pieces.push(bytes);
      gathered += bytes.byteLength;
      if (gathered >= PIECE_BYTES) await write();
    }
    if (gathered > 0) await write();
    await driver.commitUpload(uploadId, await writer.flush(), key, sizeBytes);
    return sizeBytes;
  } catch (error) {
    await writer.abort();
    await driver.deleteUpload(uploadId, started);
    throw error;
  }
}
