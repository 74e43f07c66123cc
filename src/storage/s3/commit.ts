/**
 * From segments to the blob: copied inside the store, one as a whole or several and large ones by ranges into the parts of
 * a multipart upload. Nothing is seen under the key before the last step, which is one request.
 */

import type { S3Client } from "./client.ts";
import { S3Refusal } from "./errors.ts";
import {
  abortMultipart,
  type CopySource,
  completeMultipart,
  copyObject,
  copyPart,
  createMultipart,
  type ObjectHeaders,
} from "./multipart.ts";

/** An object that holds bytes of an upload. */
export interface StoredPiece {
  readonly key: string;
  readonly sizeBytes: number;
}

export interface AssembleOptions {
  readonly client: S3Client;
  readonly headers: ObjectHeaders;
  /** Bytes that one request may copy: 5 GB by the S3 API, less where the config says so. */
  readonly copyBytesMax: number;
  /** False for servers that copy whole objects only, of any size. */
  readonly copiesRanges: boolean;
}

/** Above this a blob is copied by ranges at once: AWS copies some 100 MB/s for each request. */
const WHOLE_COPY_BYTES_MAX = 256 * 1024 * 1024;
/** Length of one range. */
const RANGE_BYTES = 128 * 1024 * 1024;
/** Ranges of one blob under way at once. */
const COPIES_MAX = 6;
/** Ranges of one blob at most, with room to the 10,000 parts for what each segment leaves over. */
const RANGES_MAX = 4000;

/**
 * Copies the pieces, in order, into one object. Gives false when the server cannot do that, and the bytes must go through
 * us. Throws a refusal for which `isMissing` is true when a piece is gone.
 */
export async function assemble(
  options: AssembleOptions,
  pieces: readonly StoredPiece[],
  key: string,
): Promise<boolean> {
  const { client, headers, copiesRanges, copyBytesMax } = options;
  const [first, ...more] = pieces;
  if (!first) throw new Error("there is nothing to assemble");
  const isWhole =
    more.length === 0 && (!copiesRanges || first.sizeBytes <= Math.min(WHOLE_COPY_BYTES_MAX, copyBytesMax));
  if (!isWhole && !copiesRanges) return false;
  try {
    if (isWhole) await copyObject(client, first, key, headers);
    else await copyRanges(options, pieces, key);
    return true;
  } catch (error) {
    if (error instanceof S3Refusal && (error.status === 501 || error.s3Code === "NotImplemented")) return false;
    throw error;
  }
}

async function copyRanges(options: AssembleOptions, pieces: readonly StoredPiece[], key: string): Promise<void> {
  const { client, headers, copyBytesMax } = options;
  const sizeBytes = pieces.reduce((sum, piece) => sum + piece.sizeBytes, 0);
  const sources = rangesOf(pieces, Math.min(copyBytesMax, Math.max(RANGE_BYTES, Math.ceil(sizeBytes / RANGES_MAX))));
  const controller = new AbortController();
  const multipart = await createMultipart(client, key, headers, controller.signal);
  try {
    const etags: string[] = [];
    const waiting = sources.entries();
    const lane = async () => {
      for (const [index, source] of waiting) {
        etags[index] = await copyPart(client, multipart, index + 1, source, controller.signal);
      }
    };
    await Promise.all(Array.from({ length: COPIES_MAX }, lane));
    await completeMultipart(client, multipart, etags, sizeBytes);
  } catch (error) {
    controller.abort(error);
    await abortMultipart(client, multipart).catch(() => undefined);
    throw error;
  }
}

/**
 * Cuts each piece into ranges of about one length, none longer than `bytesMax`: twice what a part must have at least, or
 * more, so that none comes out shorter.
 */
export function rangesOf(pieces: readonly StoredPiece[], bytesMax: number): CopySource[] {
  return pieces.flatMap(({ key, sizeBytes }) => {
    const count = Math.ceil(sizeBytes / bytesMax);
    const lengthBytes = Math.ceil(sizeBytes / count);
    return Array.from({ length: count }, (_, index) => {
      const start = index * lengthBytes;
      return { key, range: { start, end: Math.min(sizeBytes, start + lengthBytes) - 1 } };
    });
  });
}
