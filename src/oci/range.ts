/**
 * Byte ranges: the `Content-Range` of upload chunks, the `Range` of blob pulls, and the `Range` header that tells how much
 * of an upload is stored. Offsets are bytes; `end` is inclusive unless it says otherwise.
 */

import { RegistryError } from "../errors.ts";
import { quoteValue } from "./quote.ts";

export interface ByteRange {
  readonly start: number;
  /** Offset of the last byte, inclusive. */
  readonly end: number;
}

/** `3-7`, `bytes 3-7/10`, `bytes=3-7/*`. Digits are bounded: beyond 20 no offset is safe. */
const CONTENT_RANGE = /^(?:bytes[ =])?[ \t]*(\d{1,20})-(\d{1,20})(?:\/(?:\*|\d{1,20}))?$/i;
const RANGE = /^bytes[ \t]*=[ \t]*(\d*)[ \t]*-[ \t]*(\d*)$/i;

/** Longest header value looked at; more is no range anybody means. */
const HEADER_LENGTH_MAX = 256;

/**
 * The place of an upload chunk: `a-b` as the spec has it, also `bytes a-b/*` that general HTTP clients send. Undefined
 * when the header is absent. Throws `range_invalid` when it is malformed or ends before it starts. Spec:
 * distribution-spec "Pushing a blob in chunks".
 */
export function parseContentRange(header: string | null | undefined): ByteRange | undefined {
  if (header === null || header === undefined) return undefined;
  const match = header.length > HEADER_LENGTH_MAX ? null : CONTENT_RANGE.exec(header.trim());
  const start = Number(match?.[1]);
  const end = Number(match?.[2]);
  if (!match || !Number.isSafeInteger(start) || !Number.isSafeInteger(end) || end < start) {
    throw new RegistryError("range_invalid", {
      message: `invalid Content-Range ${quoteValue(header)}: expected "<first>-<last>", byte offsets with first <= last`,
    });
  }
  return { start, end };
}

/**
 * The part of a blob that a pull asks for, clipped to its size. Undefined means "send all of it, 200": no header, another
 * unit, several ranges or a malformed value, as RFC 9110 section 14.2 allows. Throws `range_invalid` with the
 * `Content-Range: bytes *\/size` of a 416 when the range lies past the end, and when it ends before it starts: RFC 9110
 * leaves a choice there, and the conformance suite of the distribution-spec counts a full answer as "no ranges".
 */
export function parseRange(header: string | null | undefined, sizeBytes: number): ByteRange | undefined {
  if (!header || header.length > HEADER_LENGTH_MAX) return undefined;
  const match = RANGE.exec(header.trim());
  const first = match?.[1] ?? "";
  const last = match?.[2] ?? "";
  if (first === "" && last === "") return undefined;
  if (first === "") {
    const suffix = Number(last);
    if (suffix === 0 || sizeBytes === 0) throw unsatisfiable(header, sizeBytes);
    return { start: Math.max(0, sizeBytes - suffix), end: sizeBytes - 1 };
  }
  // Numbers too large to be exact still compare rightly with any size that exists.
  const start = Number(first);
  const end = last === "" ? Number.POSITIVE_INFINITY : Number(last);
  if (end < start || start >= sizeBytes) throw unsatisfiable(header, sizeBytes);
  return { start, end: Math.min(end, sizeBytes - 1) };
}

/** `Content-Range` of a 206 answer. */
export function formatContentRange(range: ByteRange, sizeBytes: number): string {
  return `bytes ${range.start}-${range.end}/${sizeBytes}`;
}

/**
 * `Range` of an upload's status: `0-<last>`. An upload without bytes says `0-0`, which is also what one byte says; the
 * spec has no other form for it and clients know it from docker's registry.
 */
export function formatUploadRange(storedBytes: number): string {
  return `0-${Math.max(0, storedBytes - 1)}`;
}

function unsatisfiable(header: string, sizeBytes: number): RegistryError {
  return new RegistryError("range_invalid", {
    message: `cannot serve Range ${quoteValue(header)}: the blob has ${sizeBytes} bytes`,
    detail: { size: sizeBytes },
    headers: { "Content-Range": `bytes */${sizeBytes}` },
  });
}
