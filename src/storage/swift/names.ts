/**
 * The names that one engine uses in its container, drawn once. Blobs and the folder of segments lie as in Quay's buckets;
 * what tells of uploads that are under way is our own.
 *
 *     sha256/ab/abcdef…                   a blob: an object, or the manifest of a large one
 *     uploads/<uuid>                      an upload that can be continued
 *     uploads/<uuid>/<run>                all bytes of a short upload, or empty: there are segments of that run
 *     uploads/<uuid>/commit               the upload's segments may belong to the object whose key it names
 *     uploads/<uuid>/delete               somebody removes the upload's segments
 *     segments/<uuid>/<run>/<number>      bytes of a longer upload, and of the blob that it became
 */

import { isUploadId, uploadKey } from "../paths.ts";

/** Bytes of one run: one request's. Six random bytes in hex, so that no other request ever writes there. */
export function newRun(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(6))).toString("hex");
}

export class SwiftNames {
  readonly #prefix: string;

  /** `simpleConcat` puts storage_path before the key as it is, without a slash between. */
  constructor(storagePath: string, simpleConcat: boolean) {
    const path = storagePath.replace(/^\/+/, "");
    this.#prefix = simpleConcat || path === "" || path.endsWith("/") ? path : `${path}/`;
  }

  object(key: string): string {
    return this.#prefix + key;
  }

  upload(uploadId: string): string {
    return this.object(uploadKey(uploadId));
  }

  run(uploadId: string, run: string): string {
    return `${this.upload(uploadId)}/${run}`;
  }

  commitFlag(uploadId: string): string {
    return `${this.upload(uploadId)}/commit`;
  }

  deleteFlag(uploadId: string): string {
    return `${this.upload(uploadId)}/delete`;
  }

  /** Everything of an upload that became a blob, or is to be one. */
  segments(uploadId: string): string {
    return this.object(`segments/${uploadId}/`);
  }

  runSegments(uploadId: string, run: string): string {
    return `${this.segments(uploadId)}${run}/`;
  }

  /** Numbers have one width, because Swift puts a dynamic large object together in the order of names. */
  segment(uploadId: string, run: string, index: number): string {
    return this.runSegments(uploadId, run) + String(index).padStart(9, "0");
  }

  get uploads(): string {
    return this.object("uploads/");
  }

  get probe(): string {
    return this.object("uploads/.check");
  }

  /** The upload that a name below `uploads/` or `segments/` belongs to; undefined for every other name. */
  uploadIdOf(name: string): string | undefined {
    if (!name.startsWith(this.#prefix)) return undefined;
    const [folder, uploadId = ""] = name.slice(this.#prefix.length).split("/");
    return (folder === "uploads" || folder === "segments") && isUploadId(uploadId) ? uploadId : undefined;
  }
}
