/**
 * What an upload's row keeps for this driver, and the names that follow from it: any instance continues an upload from the
 * text alone. Each request of an upload has a blob of its own, a segment, which nobody writes into afterwards.
 */

import { RegistryError } from "../../errors.ts";
import { isUploadId, uploadKey } from "../paths.ts";

/** The bytes of one request, or of one and the last ones before it. */
export interface Segment {
  /** Tells it from every other one that was ever begun at this place of this upload. */
  readonly nonce: string;
  /** How many of its bytes count, from the first. */
  readonly sizeBytes: number;
}

export interface UploadState {
  readonly segments: readonly Segment[];
  /** The bytes wait in the memory of the process that took them: how many. */
  readonly heldBytes?: number;
}

export const EMPTY_STATE: UploadState = { segments: [] };

/** Bytes of a blob below the engine's storage_path. */
export interface Piece {
  readonly key: string;
  readonly sizeBytes: number;
}

const noncePattern = /^[0-9a-f]{12}$/;

export function newNonce(): string {
  return crypto.randomUUID().slice(-12);
}

/** Key of the segment at `index`. The upload's own key is an empty blob that says that the upload is there. */
export function segmentKey(uploadId: string, index: number, nonce: string): string {
  return `${uploadKey(uploadId)}/${String(index).padStart(5, "0")}-${nonce}`;
}

/** `<uuid> <nonce>:<size>,… <held>`: a long upload has thousands of segments, and its row is written for each. */
export function encodeState(uploadId: string, { segments, heldBytes }: UploadState): string {
  const list = segments.map(({ nonce, sizeBytes }) => `${nonce}:${sizeBytes}`).join(",");
  return `${uploadId} ${list || "-"} ${heldBytes ?? "-"}`;
}

/** Reads a state back. Undefined when it is of another upload or was never given by this driver. */
export function decodeState(uploadId: string, text: string): UploadState | undefined {
  const [id, list, held, ...rest] = text.split(" ");
  if (id !== uploadId || list === undefined || held === undefined || rest.length > 0) return undefined;
  const segments: Segment[] = [];
  for (const item of list === "-" ? [] : list.split(",")) {
    const [nonce = "", size = ""] = item.split(":");
    if (!noncePattern.test(nonce) || !/^\d+$/.test(size)) return undefined;
    segments.push({ nonce, sizeBytes: Number(size) });
  }
  if (held === "-") return { segments };
  return /^\d+$/.test(held) ? { segments, heldBytes: Number(held) } : undefined;
}

export function sizeOf({ segments, heldBytes = 0 }: UploadState): number {
  return segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, heldBytes);
}

/** The segments of the first `limitBytes`, the last one cut to what is wanted. */
export function cutSegments(segments: readonly Segment[], limitBytes: number): Segment[] {
  const kept: Segment[] = [];
  let left = limitBytes;
  for (const { nonce, sizeBytes } of segments) {
    if (left <= 0) break;
    kept.push({ nonce, sizeBytes: Math.min(left, sizeBytes) });
    left -= sizeBytes;
  }
  return kept;
}

/** Where the bytes of segments lie, in order. */
export function piecesOf(uploadId: string, segments: readonly Segment[]): Piece[] {
  return segments.map(({ nonce, sizeBytes }, index) => ({ key: segmentKey(uploadId, index, nonce), sizeBytes }));
}

/** The upload that a key below `uploads/` belongs to, undefined for what is no upload's. */
export function uploadIdOf(key: string): string | undefined {
  const [, uploadId = ""] = key.split("/");
  return isUploadId(uploadId) ? uploadId : undefined;
}

export function uploadUnknown(uploadId: string, why: string, cause?: unknown): RegistryError {
  return new RegistryError("blob_upload_unknown", { message: `upload "${uploadId}" ${why}`, cause });
}
