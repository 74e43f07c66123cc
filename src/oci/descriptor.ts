/** Descriptors: the typed, sized, addressed references that manifests and indexes are made of. */

import { type Digest, digestAlgorithm, digestOf, findDigest } from "./digest.ts";
import { DocumentFault, fieldNames, isJsonObject, type JsonObject, kindOf, requireExactKeys } from "./json-document.ts";
import { isMediaType } from "./media-types.ts";
import { quoteValue } from "./quote.ts";

export type Annotations = Readonly<Record<string, string>>;

/** What an index says of the machine that one of its manifests is for. Spec: image-spec "Image Index". */
export interface Platform {
  readonly os?: string;
  readonly architecture?: string;
  readonly variant?: string;
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly artifactType?: string;
  /** Places outside the registry where the content can be had. */
  readonly urls?: readonly string[];
  readonly annotations?: Annotations;
  readonly platform?: Platform;
}

/** Longest URL in `urls`: what common servers take in a request line. */
const URL_LENGTH_MAX = 8192;

const FIELDS = fieldNames("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType");

/** Reads the descriptor at `path` (for messages). Throws `DocumentFault`. Spec: image-spec "Content Descriptors". */
export function readDescriptor(value: unknown, path: string): Descriptor {
  if (!isJsonObject(value)) throw new DocumentFault(path, `expected a descriptor object, got ${kindOf(value)}`);
  requireExactKeys(value, FIELDS, path);
  const mediaType = readMediaType(value, "mediaType", path);
  if (mediaType === undefined) throw new DocumentFault(`${path}.mediaType`, "expected a media type, got nothing");
  const digest = readDigest(value.digest, path);
  const sizeBytes = readSize(value.size, path);
  const artifactType = readMediaType(value, "artifactType", path);
  const urls = readUrls(value.urls, path);
  const annotations = readAnnotations(value.annotations, `${path}.annotations`);
  const platform = readPlatform(value.platform, path);
  checkData(value.data, digest, sizeBytes, path);
  return {
    mediaType,
    digest,
    sizeBytes,
    ...(artifactType !== undefined && { artifactType }),
    ...(urls && { urls }),
    ...(annotations && { annotations }),
    ...(platform && { platform }),
  };
}

/** An optional media type field; null and "" count as absent, because encoders write them for an unset value. */
export function readMediaType(object: JsonObject, field: string, path: string): string | undefined {
  const value = object[field];
  if (value === undefined || value === null || value === "") return undefined;
  if (typeof value === "string" && isMediaType(value)) return value;
  const at = path === "" ? field : `${path}.${field}`;
  throw new DocumentFault(at, `expected a media type such as "application/json", got ${kindOf(value)}`);
}

/**
 * Text to text, undefined when absent. The result has no prototype, so that a key like `__proto__` is a key like any
 * other. Spec: image-spec "Annotations".
 */
export function readAnnotations(value: unknown, path: string): Annotations | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isJsonObject(value)) throw new DocumentFault(path, `expected an object of strings, got ${kindOf(value)}`);
  const annotations: Record<string, string> = Object.create(null);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") {
      throw new DocumentFault(`${path}[${quoteValue(key)}]`, `expected a string, got ${kindOf(text)}`);
    }
    annotations[key] = text;
  }
  return annotations;
}

function readDigest(value: unknown, path: string): Digest {
  const digest = typeof value === "string" ? findDigest(value) : undefined;
  if (digest) return digest;
  const expected = 'expected "sha256:" with 64 or "sha512:" with 128 lower-case hex digits';
  throw new DocumentFault(`${path}.digest`, `${expected}, got ${kindOf(value)}`);
}

function readSize(value: unknown, path: string): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new DocumentFault(`${path}.size`, `expected a whole number of bytes from 0 to 2^53-1, got ${kindOf(value)}`);
}

function readUrls(value: unknown, path: string): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw new DocumentFault(`${path}.urls`, `expected an array, got ${kindOf(value)}`);
  return value.map((url: unknown, index) => {
    if (typeof url === "string" && url !== "" && url.length <= URL_LENGTH_MAX) return url;
    const expected = `expected a URL of at most ${URL_LENGTH_MAX} characters`;
    throw new DocumentFault(`${path}.urls[${index}]`, `${expected}, got ${kindOf(url)}`);
  });
}

function readPlatform(value: unknown, path: string): Platform | undefined {
  if (value === undefined || value === null) return undefined;
  const at = `${path}.platform`;
  if (!isJsonObject(value)) throw new DocumentFault(at, `expected an object, got ${kindOf(value)}`);
  const platform: { os?: string; architecture?: string; variant?: string } = {};
  for (const field of ["os", "architecture", "variant"] as const) {
    const text = value[field];
    if (text === undefined || text === null) continue;
    if (typeof text !== "string") throw new DocumentFault(`${at}.${field}`, `expected a string, got ${kindOf(text)}`);
    platform[field] = text;
  }
  return platform;
}

/** Content carried inside the descriptor must be the content it describes. Spec: image-spec "Embedded Content". */
function checkData(value: unknown, digest: Digest, sizeBytes: number, path: string): void {
  if (value === undefined || value === null) return;
  const at = `${path}.data`;
  if (typeof value !== "string") throw new DocumentFault(at, `expected base64 text, got ${kindOf(value)}`);
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.fromBase64(value, { alphabet: "base64", lastChunkHandling: "strict" });
  } catch {
    throw new DocumentFault(at, "expected base64 text with padding (RFC 4648, section 4)");
  }
  if (bytes.length !== sizeBytes) {
    throw new DocumentFault(at, `holds ${bytes.length} bytes, but the descriptor's size is ${sizeBytes}`);
  }
  if (digestOf(bytes, digestAlgorithm(digest)) !== digest) {
    throw new DocumentFault(at, `its bytes do not have the descriptor's digest ${quoteValue(digest)}`);
  }
}
