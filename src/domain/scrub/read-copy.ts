/**
 * Reads one copy of a blob from its first byte to its last and says what is there. It believes nothing at first sight: bytes
 * that are wrong are read a second time, and a store that has nothing at all is taken for away. It changes nothing.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { TokenBucket } from "../../lib/token-bucket.ts";
import { createHasher, type Digest, digestAlgorithm } from "../../oci/digest.ts";
import type { StorageDriver } from "../../storage/driver.ts";
import { blobKey } from "../../storage/paths.ts";
import { readPieces } from "../../storage/read-pieces.ts";
import type { BadKind } from "../blob/bad-copies.ts";

/** A copy of a blob in one store. */
export interface Copy {
  readonly blobId: number;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly location: string;
}

export type Verdict =
  | { readonly is: "good" }
  | { readonly is: "bad"; readonly kind: Exclude<BadKind, "lost">; readonly found: string }
  /** It could not be read, which says nothing of its bytes; `isAway` when nothing in that store can be read now. */
  | { readonly is: "unreadable"; readonly isAway: boolean; readonly error: unknown };

export interface ReadOptions {
  readonly signal: AbortSignal;
  /** Paid for each byte, and for each object; undefined reads as fast as it can. */
  readonly budget: TokenBucket | undefined;
  readonly onBytes: (sizeBytes: number) => void;
  /** Digests of other blobs that should be in the store: when it has none of them either, it is taken for away. */
  readonly others: () => Promise<readonly Digest[]>;
}

/** Looking for an object and opening it costs a store about as much as reading this much. */
const OBJECT_COST_BYTES = 16 * 1024;
/** A read that failed is tried again after these. */
const RETRIES_MS = [1000, 4000];

/** What is there, as far as it can be told. Throws the signal's reason, and nothing else. */
export async function readCopy(app: Pick<App, "storage">, copy: Copy, options: ReadOptions): Promise<Verdict> {
  const first = await readPatiently(app, copy, options);
  if (first.is !== "bad") return first;
  const second = await readPatiently(app, copy, options);
  if (second.is !== "bad" || second.kind !== "missing") return second;
  return (await findAway(app, copy, options)) ?? second;
}

async function readPatiently(app: Pick<App, "storage">, copy: Copy, options: ReadOptions): Promise<Verdict> {
  const { signal } = options;
  let failure: unknown;
  for (const waitMs of [0, ...RETRIES_MS]) {
    if (waitMs > 0) await delay(waitMs, undefined, { signal });
    try {
      return await readOnce(app.storage.driver(copy.location), copy, options);
    } catch (error) {
      signal.throwIfAborted();
      failure = error;
    }
  }
  return { is: "unreadable", isAway: (await failureOf(app, copy.location)) !== undefined, error: failure };
}

/** Throws what the store throws when it cannot be read. */
async function readOnce(driver: StorageDriver, copy: Copy, options: ReadOptions): Promise<Verdict> {
  const { signal, budget, onBytes } = options;
  const key = blobKey(copy.digest);
  await budget?.take(OBJECT_COST_BYTES, signal);
  const found = await driver.find(key);
  if (!found) return { is: "bad", kind: "missing", found: "" };
  if (found.sizeBytes !== copy.sizeBytes) return { is: "bad", kind: "size", found: String(found.sizeBytes) };
  const hasher = createHasher(digestAlgorithm(copy.digest));
  try {
    for await (const piece of readPieces(driver, key, copy.sizeBytes)) {
      hasher.update(piece);
      onBytes(piece.byteLength);
      await budget?.take(piece.byteLength, signal);
      signal.throwIfAborted();
    }
  } catch (error) {
    // It went, or was cut, while it was read.
    if (isContentError(error))
      return { is: "bad", kind: error.code === "size_invalid" ? "size" : "missing", found: "" };
    throw error;
  }
  const digest = hasher.digest();
  return digest === copy.digest ? { is: "good" } : { is: "bad", kind: "digest", found: digest };
}

/**
 * Something other than one missing object: the store does not work, or has nothing of what it should have, such as the empty
 * directory below a disk that is not mounted.
 */
async function findAway(app: Pick<App, "storage">, copy: Copy, options: ReadOptions): Promise<Verdict | undefined> {
  const failure = await failureOf(app, copy.location);
  if (failure !== undefined) return { is: "unreadable", isAway: true, error: failure };
  const others = await options.others();
  if (others.length === 0) return undefined;
  const driver = app.storage.driver(copy.location);
  try {
    for (const digest of others) if (await driver.find(blobKey(digest))) return undefined;
  } catch (error) {
    return { is: "unreadable", isAway: true, error };
  }
  const message = `the store "${copy.location}" has none of ${others.length + 1} blobs that it should have: is it the right one, and mounted?`;
  return { is: "unreadable", isAway: true, error: new RegistryError("unavailable", { message }) };
}

/** What is wrong with a store, undefined when it works. */
async function failureOf(app: Pick<App, "storage">, location: string): Promise<unknown> {
  try {
    await app.storage.driver(location).check();
    return undefined;
  } catch (error) {
    return error;
  }
}

function isContentError(error: unknown): error is RegistryError {
  return error instanceof RegistryError && (error.code === "blob_unknown" || error.code === "size_invalid");
}
