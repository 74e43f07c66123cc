/**
 * The one place where a request path under /v2 becomes a route. Access control and handlers both work on its result, so
 * no spelling of a path (encoded slashes, dots, doubled slashes) can be one repository to one and another to the other.
 */

import { RegistryError } from "../errors.ts";
import { quoteValue } from "./quote.ts";

/** Parts are raw: names, references and digests still have to go through their parsers. None of them is empty. */
export type V2Route =
  | { readonly kind: "base" }
  | { readonly kind: "token" }
  | { readonly kind: "catalog" }
  | { readonly kind: "manifest"; readonly name: string; readonly reference: string }
  | { readonly kind: "blob"; readonly name: string; readonly digest: string }
  | { readonly kind: "upload-start"; readonly name: string }
  | { readonly kind: "upload"; readonly name: string; readonly uploadId: string }
  | { readonly kind: "tags"; readonly name: string }
  | { readonly kind: "referrers"; readonly name: string; readonly digest: string }
  | { readonly kind: "unknown" };

/** Longest path looked at, encoded: the longest name and a sha512 digest with every character encoded fit twice. */
const PATH_LENGTH_MAX = 4096;

const UNKNOWN: V2Route = { kind: "unknown" };
const PREFIX = "/v2/";
const UPLOADS = "/blobs/uploads";

/** Anything but visible ASCII and space. */
const ODD_BYTES = /[^\x20-\x7e]/;
/** A component that is empty, `.` or `..`; the empty one after a last slash does not count. */
const BAD_COMPONENT = /\/(?:\/|\.\.?(?:\/|$))/;

/**
 * Reads the path of a request as it came over the wire, still encoded and without its query. It is decoded once. Throws
 * `name_invalid` for encodings that are none, bytes outside visible ASCII, and empty, `.` or `..` components, which are
 * refused and never collapsed. Names may hold path words (`a/manifests/b`), so the path is read from its end.
 */
export function parseV2Path(rawPath: string): V2Route {
  if (rawPath.length > PATH_LENGTH_MAX) throw invalid(rawPath, `a path has at most ${PATH_LENGTH_MAX} characters`);
  const path = rawPath.includes("%") ? decode(rawPath) : rawPath;
  if (ODD_BYTES.test(path)) throw invalid(rawPath, "only visible ASCII characters are allowed in paths");
  if (BAD_COMPONENT.test(path)) throw invalid(rawPath, 'empty, "." and ".." components are not allowed in paths');
  if (path === "/v2" || path === PREFIX) return { kind: "base" };
  if (!path.startsWith(PREFIX)) return UNKNOWN;
  if (path.endsWith("/")) return path.endsWith(`${UPLOADS}/`) ? uploadStart(path.slice(0, -1)) : UNKNOWN;
  if (path === "/v2/auth") return { kind: "token" };
  if (path === "/v2/_catalog") return { kind: "catalog" };
  return parseFromEnd(path);
}

/** Reads `/v2/<name>/<word>/<last>`. */
function parseFromEnd(path: string): V2Route {
  const lastSlash = path.lastIndexOf("/");
  const wordSlash = path.lastIndexOf("/", lastSlash - 1);
  if (wordSlash < PREFIX.length) return UNKNOWN;
  const last = path.slice(lastSlash + 1);
  const name = path.slice(PREFIX.length, wordSlash);
  switch (path.slice(wordSlash + 1, lastSlash)) {
    case "manifests":
      return { kind: "manifest", name, reference: last };
    case "blobs":
      return last === "uploads" ? uploadStart(path) : { kind: "blob", name, digest: last };
    case "uploads":
      return name.endsWith("/blobs")
        ? { kind: "upload", name: name.slice(0, -"/blobs".length), uploadId: last }
        : UNKNOWN;
    case "tags":
      return last === "list" ? { kind: "tags", name } : UNKNOWN;
    case "referrers":
      return { kind: "referrers", name, digest: last };
    default:
      return UNKNOWN;
  }
}

/** `/v2/<name>/blobs/uploads`, of which the name may turn out to be missing. */
function uploadStart(path: string): V2Route {
  const name = path.slice(PREFIX.length, -UPLOADS.length);
  return name === "" ? UNKNOWN : { kind: "upload-start", name };
}

function decode(rawPath: string): string {
  try {
    return decodeURIComponent(rawPath);
  } catch {
    // Also invalid UTF-8: cut off, overlong or surrogates.
    throw invalid(rawPath, 'every "%" must start a valid encoding such as "%2F"');
  }
}

function invalid(rawPath: string, expected: string): RegistryError {
  return new RegistryError("name_invalid", { message: `invalid path ${quoteValue(rawPath)}: ${expected}` });
}
