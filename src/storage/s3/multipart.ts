/**
 * Multipart uploads: parts of an object that become visible together, by Complete, or not at all. Source: the S3 API
 * reference, "Uploading and copying objects using multipart upload".
 */

import type { PartBuffer } from "../remote/part-pool.ts";
import { discard } from "../remote/request.ts";
import { PassingFailure } from "../remote/retry.ts";
import { headObject, isMissing, type S3Client } from "./client.ts";
import { encodeKey } from "./sign.ts";
import { escapeXml, textOf } from "./xml.ts";

/** Parts in one multipart upload, by the S3 API. */
export const PARTS_MAX = 10_000;
/** Every part but the last has this size at least, by the S3 API. */
export const PART_BYTES_MIN = 5 * 1024 * 1024;
/** A server puts the parts together, or copies one, before it answers: it has so long more, by its slowest pace, up to a bound. */
const ANSWER_MS = 30_000;
const WORK_BYTES_PER_MS = 2_000;
const WORK_ANSWER_MAX_MS = 300_000;
/** Somebody waits for the error that made us give up. */
const ABORT_ANSWER_MS = 10_000;

export interface Multipart {
  readonly key: string;
  readonly id: string;
}

/** Headers of every object that is made: its type, and how the store encrypts it. */
export type ObjectHeaders = Readonly<Record<string, string>>;

export async function createMultipart(
  client: S3Client,
  key: string,
  headers: ObjectHeaders,
  signal: AbortSignal,
): Promise<Multipart> {
  const answer = await client.callXml({ method: "POST", key, query: { uploads: "" }, headers, signal });
  const id = textOf(answer, "UploadId");
  if (!id) throw new PassingFailure(`${client.name} began a multipart upload without an id`);
  return { key, id };
}

/** Sends part `number` (from 1) from its buffer, as often as it takes, and gives its ETag. */
export async function uploadPart(
  client: S3Client,
  { key, id }: Multipart,
  number: number,
  part: PartBuffer,
  signal: AbortSignal,
): Promise<string> {
  const query = { partNumber: String(number), uploadId: id };
  const response = await client.call({ method: "PUT", key, query, body: part, signal });
  const etag = response.headers.get("etag");
  await discard(response);
  if (etag === null) throw new PassingFailure(`${client.name} took a part and gave no ETag`);
  return etag;
}

export interface CopySource {
  readonly key: string;
  /** Inclusive. */
  readonly range: { readonly start: number; readonly end: number };
}

/** Makes part `number` of bytes that are in the store and gives its ETag. */
export async function copyPart(
  client: S3Client,
  { key, id }: Multipart,
  number: number,
  source: CopySource,
  signal: AbortSignal,
): Promise<string> {
  const answer = await client.callXml({
    method: "PUT",
    key,
    query: { partNumber: String(number), uploadId: id },
    headers: {
      "x-amz-copy-source": copySource(client, source.key),
      "x-amz-copy-source-range": `bytes=${source.range.start}-${source.range.end}`,
    },
    signal,
    answerMs: workAnswerMs(source.range.end - source.range.start),
  });
  const etag = textOf(answer, "ETag");
  if (!etag) throw new PassingFailure(`${client.name} copied a part and gave no ETag`);
  return etag;
}

/** Copies a whole object of at most 5 GB. */
export async function copyObject(
  client: S3Client,
  from: { readonly key: string; readonly sizeBytes: number },
  key: string,
  headers: ObjectHeaders,
): Promise<void> {
  const copied = {
    "x-amz-copy-source": copySource(client, from.key),
    "x-amz-metadata-directive": "REPLACE",
    ...headers,
  };
  await client.callXml({ method: "PUT", key, headers: copied, answerMs: workAnswerMs(from.sizeBytes) });
}

/**
 * Makes the parts the object `key`, of `sizeBytes`. Safe to repeat: when the upload is gone after a try whose answer was
 * lost, the object that is there tells whether that try succeeded.
 */
export async function completeMultipart(
  client: S3Client,
  { key, id }: Multipart,
  etags: readonly string[],
  sizeBytes: number,
): Promise<void> {
  const parts = etags.map((etag, index) => {
    return `<Part><PartNumber>${index + 1}</PartNumber><ETag>${escapeXml(etag)}</ETag></Part>`;
  });
  const body = `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts.join("")}</CompleteMultipartUpload>`;
  await client.retry(async (tries) => {
    try {
      await client.attemptXml({
        method: "POST",
        key,
        query: { uploadId: id },
        headers: { "content-type": "application/xml" },
        body,
        answerMs: workAnswerMs(sizeBytes),
      });
    } catch (error) {
      const mayBeDone = tries > 1 && isMissing(error, "NoSuchUpload");
      if (mayBeDone && (await headObject(client, key)) === sizeBytes) return;
      throw error;
    }
  });
}

/** Drops the parts; those of an upload that is gone are no error. One short try: cleanUploads finds what is left. */
export async function abortMultipart(client: S3Client, { key, id }: Multipart): Promise<void> {
  const bounds = { once: true, answerMs: ABORT_ANSWER_MS } as const;
  try {
    await discard(await client.call({ method: "DELETE", key, query: { uploadId: id }, ...bounds }));
  } catch (error) {
    if (!isMissing(error, "NoSuchUpload")) throw error;
  }
}

function copySource(client: S3Client, key: string): string {
  return `/${client.bucket}/${encodeKey(key)}`;
}

/** How long the store may take to answer when it first has to move so many bytes. */
export function workAnswerMs(sizeBytes: number): number {
  return Math.min(WORK_ANSWER_MAX_MS, ANSWER_MS + Math.ceil(sizeBytes / WORK_BYTES_PER_MS));
}
