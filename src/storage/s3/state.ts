/**
 * What an upload's row keeps for this driver: the segments that hold its bytes, in order. Pure; any instance goes on from
 * the text alone.
 */

import { z } from "zod";
import { RegistryError } from "../../errors.ts";

/** The object that one request's bytes became. */
export interface Segment {
  /** Below the upload's own prefix. */
  readonly name: string;
  readonly sizeBytes: number;
}

export interface UploadState {
  readonly segments: readonly Segment[];
  /** Names of segments whose bytes a later one has taken over: of no use once this state is the recorded one. */
  readonly dropped: readonly string[];
  /** Last bytes that wait, in this process or unseen in the store, for the commit that was promised: how many. */
  readonly heldBytes?: number;
}

export const EMPTY_STATE: UploadState = { segments: [], dropped: [] };

const namePattern = /^[0-9]{1,6}-[0-9a-f]{12}$/;
const shape = z.object({
  id: z.string(),
  segments: z.array(z.tuple([z.string().regex(namePattern), z.int().positive()])),
  dropped: z.array(z.string().regex(namePattern)).default([]),
  held: z.int().nonnegative().optional(),
});

export function encodeState(id: string, { segments, dropped, heldBytes }: UploadState): string {
  const rows = segments.map(({ name, sizeBytes }) => [name, sizeBytes]);
  return JSON.stringify({ id, segments: rows, ...(dropped.length > 0 ? { dropped } : {}), held: heldBytes });
}

/** Reads a state back. Undefined when it is of another upload or was never given by this driver. */
export function decodeState(id: string, text: string): UploadState | undefined {
  const read = shape.safeParse(parseJson(text));
  if (!read.success || read.data.id !== id) return undefined;
  const { segments, dropped, held } = read.data;
  return {
    segments: segments.map(([name, sizeBytes]) => ({ name, sizeBytes })),
    dropped,
    ...(held === undefined ? {} : { heldBytes: held }),
  };
}

export function sizeOf({ segments, heldBytes = 0 }: UploadState): number {
  return segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, heldBytes);
}

/** The name of an upload's next segment. The random part keeps two requests, of which one hangs, out of each other's way. */
export function segmentName(segmentsBefore: number): string {
  return `${segmentsBefore + 1}-${crypto.randomUUID().replaceAll("-", "").slice(0, 12)}`;
}

export interface Continuation {
  /** Segments that stay as they are. */
  readonly kept: readonly Segment[];
  /** The segment whose first `sizeBytes` are read back to the head of the next one. */
  readonly head: Segment | undefined;
  /** Segments that the next one replaces. */
  readonly dropped: readonly string[];
}

/**
 * How an upload goes on at `offsetBytes`, which it has. Segments up to there stay, but for a last one that the offset cuts or
 * that is shorter than `headBelowBytes`: it goes into the next one, so that a blob has not too many of them and each may be
 * a part of a copy.
 */
export function continueAt({ segments }: UploadState, offsetBytes: number, headBelowBytes: number): Continuation {
  const kept: Segment[] = [];
  let at = 0;
  for (const segment of segments) {
    if (at >= offsetBytes) break;
    const sizeBytes = Math.min(segment.sizeBytes, offsetBytes - at);
    const isLast = at + sizeBytes === offsetBytes;
    if (sizeBytes < segment.sizeBytes || (isLast && sizeBytes < headBelowBytes)) {
      return { kept, head: { name: segment.name, sizeBytes }, dropped: namesOf(segments.slice(kept.length)) };
    }
    kept.push(segment);
    at += sizeBytes;
  }
  return { kept, head: undefined, dropped: namesOf(segments.slice(kept.length)) };
}

export function namesOf(segments: readonly Segment[]): string[] {
  return segments.map(({ name }) => name);
}

export function uploadUnknown(id: string, why: string, cause?: unknown): RegistryError {
  return new RegistryError("blob_upload_unknown", { message: `upload "${id}" ${why}`, cause });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
