/** The key layout of a blob store, drawn once: Quay's own, so that an existing bucket can be served in place. */

import { RegistryError } from "../errors.ts";
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

/**
 * Key of a named file that is no blob, such as an archive of action logs: `folder/name` below the engine's storage_path.
 * `folder` comes from the config, with or without slashes at its ends. Throws `invalid_request` for what could leave the
 * store or meet a blob or an upload.
 */
export function fileKey(folder: string, name: string): string {
  return requireObjectKey(`${folder.replace(/^\/+|\/+$/g, "")}/${name}`);
}

/** One part of a file's key: no `.` or `..`, no separators of any system. */
const filePartPattern = /^(?!\.\.?$)[A-Za-z0-9._-]{1,128}$/;
/** First words that belong to blobs and uploads or look as if, in any case: some disks do not tell case apart. */
const reservedFolders: ReadonlySet<string> = new Set(["sha256", "sha512", "md5", "uploads"]);
const fileKeyCharsMax = 512;

const blobKeyPattern = /^(?:sha256\/([0-9a-f]{2})\/\1[0-9a-f]{62}|sha512\/([0-9a-f]{2})\/\2[0-9a-f]{126})$/;
const uploadIdPattern = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * Gives back a key that has the layout of `blobKey` or `fileKey`. Throws `invalid_request` for any other text, such as one
 * with `..`.
 */
export function requireObjectKey(key: string): string {
  if (blobKeyPattern.test(key) || isFileKey(key)) return key;
  throw new RegistryError("invalid_request", {
    message: `"${key.slice(0, fileKeyCharsMax)}" is not the key of an object: it must look like sha256/ab/ab… with 64 (sha512: 128) hex digits, or folder/name in letters, digits, dots, dashes and underscores`,
  });
}

function isFileKey(key: string): boolean {
  const [folder = "", ...rest] = key.split("/");
  if (key.length > fileKeyCharsMax || rest.length === 0 || reservedFolders.has(folder.toLowerCase())) return false;
  return [folder, ...rest].every((part) => filePartPattern.test(part));
}

export function isUploadId(text: string): boolean {
  return uploadIdPattern.test(text);
}

/** The key of an upload. Throws `blob_upload_unknown` when the id is not a lower-case UUID: no upload has such a name. */
export function requireUploadKey(uploadId: string): string {
  if (isUploadId(uploadId)) return uploadKey(uploadId);
  throw new RegistryError("blob_upload_unknown", { message: `upload "${uploadId}" is not known: its id is no UUID` });
}
