/** The key layout of a blob store, drawn once: Quay's own, so that an existing bucket can be served in place. */

import type { Digest } from "../oci/digest.ts";

/** Key of a blob below the engine's storage_path: `sha256/ab/abcdef…`. Source: quay-config reference, section 3.1. */
export function blobKey(digest: Digest): string {
  const colon = digest.indexOf(":");
  const hex = digest.slice(colon + 1);
  return `${digest.slice(0, colon)}/${hex.slice(0, 2)}/${hex}`;
}

/** Key of an unfinished upload: `uploads/<uuid>`. */
export function uploadKey(uploadId: string): string {
  return `uploads/${uploadId}`;
}
