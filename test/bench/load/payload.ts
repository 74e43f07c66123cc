/**
 * Content that costs the load generator next to nothing: one random block repeated, with a tail of its own that makes the
 * digest unique. The repeated part is hashed once per size; each payload adds only its tail.
 */
import { randomBytes } from "node:crypto";

export interface Payload {
  readonly sizeBytes: number;
  /** `sha256:…` */
  readonly digest: string;
  /** A view of at most `maxBytes` from `offset` on; empty at the end. Not to be changed. */
  slice(offset: number, maxBytes: number): Uint8Array;
}

const blockBytes = 8 * 1024 * 1024;
const tailBytes = 32;
let block: Uint8Array | undefined;
const prefixes = new Map<number, Bun.CryptoHasher>();

/** Makes content of `sizeBytes` (more than 32) with a digest that no other payload of this run has. */
export function makePayload(sizeBytes: number): Payload {
  block ??= randomBytes(blockBytes);
  const shared = block;
  const tail = randomBytes(tailBytes);
  const prefixBytes = sizeBytes - tailBytes;
  const hasher = hashPrefix(shared, prefixBytes).copy();
  hasher.update(tail);
  return {
    sizeBytes,
    digest: `sha256:${hasher.digest("hex")}`,
    slice: (offset, maxBytes) => {
      if (offset >= prefixBytes) return tail.subarray(offset - prefixBytes, offset - prefixBytes + maxBytes);
      const start = offset % blockBytes;
      return shared.subarray(start, Math.min(start + maxBytes, blockBytes, start + prefixBytes - offset));
    },
  };
}

/** Wraps bytes that exist already. */
export function payloadOf(content: Uint8Array): Payload {
  return {
    sizeBytes: content.length,
    digest: `sha256:${new Bun.CryptoHasher("sha256").update(content).digest("hex")}`,
    slice: (offset, maxBytes) => content.subarray(offset, offset + maxBytes),
  };
}

function hashPrefix(shared: Uint8Array, prefixBytes: number): Bun.CryptoHasher {
  let hasher = prefixes.get(prefixBytes);
  if (hasher === undefined) {
    hasher = new Bun.CryptoHasher("sha256");
    for (let left = prefixBytes; left > 0; left -= blockBytes)
      hasher.update(shared.subarray(0, Math.min(left, blockBytes)));
    prefixes.set(prefixBytes, hasher);
  }
  return hasher;
}
