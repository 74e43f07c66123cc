/**
 * Digests: what a valid one looks like, and how one is computed from bytes. Verifying content while it streams is the
 * business of domain/upload, which feeds a hasher made here.
 */

import { RegistryError } from "../errors.ts";
import { quoteValue, showValue } from "./quote.ts";

declare const digestBrand: unique symbol;

/** `sha256:` with 64 or `sha512:` with 128 lower-case hex digits. Made only by `parseDigest`, `findDigest` and hashers. */
export type Digest = string & { readonly [digestBrand]: true };

export type DigestAlgorithm = "sha256" | "sha512";

/** The algorithms that content may be addressed with, the default first. Spec: image-spec "Registered algorithms". */
export const DIGEST_ALGORITHMS: readonly DigestAlgorithm[] = ["sha256", "sha512"];

/** Digest of no bytes at all: the empty blob, which some clients push and mount. */
export const EMPTY_SHA256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" as Digest;

const HEX_LENGTH: Record<DigestAlgorithm, number> = { sha256: 64, sha512: 128 };
const VALID = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;
const LIKE = /^[A-Za-z0-9]+(?:[+._-][A-Za-z0-9]+)*:[A-Za-z0-9=_-]+$/;

/** True for one of `DIGEST_ALGORITHMS`. */
export function isDigestAlgorithm(text: string): text is DigestAlgorithm {
  return text === "sha256" || text === "sha512";
}

/** True for a digest that Berth can serve: known algorithm, right length, lower-case hex. */
export function isDigest(text: string): text is Digest {
  return VALID.test(text);
}

/**
 * True when the text has a digest's shape (`algorithm:encoded`), whether or not it is valid: enough to tell it from a tag,
 * which holds no colon. Spec: image-spec "Digests".
 */
export function isDigestLike(text: string): boolean {
  return LIKE.test(text);
}

/** The digest, or undefined when it is not a valid one. */
export function findDigest(text: string): Digest | undefined {
  return isDigest(text) ? text : undefined;
}

/** Throws `digest_invalid` with what is wrong: shape, algorithm, length or letter case. Spec: image-spec "Digests". */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new RegistryError("digest_invalid", {
    message: `invalid digest ${quoteValue(text)}: ${whatIsWrong(text)}`,
    detail: { digest: showValue(text) },
  });
}

/** The algorithm part of a digest. */
export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith("sha512:") ? "sha512" : "sha256";
}

/** The hex part of a digest. */
export function digestHex(digest: Digest): string {
  return digest.slice(digest.indexOf(":") + 1);
}

/** A running hash. `digest()` tells the digest of everything so far and leaves the hasher ready for more. */
export interface Hasher {
  readonly algorithm: DigestAlgorithm;
  update(chunk: Uint8Array): void;
  digest(): Digest;
}

export function createHasher(algorithm: DigestAlgorithm): Hasher {
  const hasher = new Bun.CryptoHasher(algorithm);
  return {
    algorithm,
    update(chunk) {
      hasher.update(chunk);
    },
    // A copy, so that a client that named the wrong digest may name the right one without sending its bytes again.
    digest: () => `${algorithm}:${hasher.copy().digest("hex")}` as Digest,
  };
}

/** The digest of bytes held in memory; for whole blobs use a hasher while they stream. */
export function digestOf(bytes: Uint8Array | string, algorithm: DigestAlgorithm = "sha256"): Digest {
  return `${algorithm}:${new Bun.CryptoHasher(algorithm).update(bytes).digest("hex")}` as Digest;
}

function whatIsWrong(text: string): string {
  const colon = text.indexOf(":");
  if (colon <= 0) return 'expected an algorithm, ":" and hex digits, such as "sha256:" with 64 of them';
  const algorithm = text.slice(0, colon);
  const hex = text.slice(colon + 1);
  if (!isDigestAlgorithm(algorithm)) {
    return isDigestAlgorithm(algorithm.toLowerCase())
      ? `the algorithm must be written in lower case, "${algorithm.toLowerCase()}"`
      : `algorithm ${quoteValue(algorithm)} is not supported, use ${DIGEST_ALGORITHMS.join(" or ")}`;
  }
  const expected = HEX_LENGTH[algorithm];
  if (hex.length !== expected) return `${algorithm} takes ${expected} hex digits, got ${hex.length} characters`;
  if (/^[0-9A-Fa-f]+$/.test(hex)) return "hex digits must be lower case";
  return `${algorithm} takes ${expected} lower-case hex digits (0-9, a-f)`;
}
