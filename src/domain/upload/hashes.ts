/**
 * Running hashes of uploads that go through this process, so that a chunked push is hashed once. A hash cannot be written
 * down half done: after a restart, or on another instance, it is computed again from the stored part.
 */

import { Lru } from "../../lib/lru.ts";
import { createHasher, type Digest, type DigestAlgorithm, type Hasher } from "../../oci/digest.ts";
import type { UploadSession } from "./queries.ts";

type UploadPlace = Pick<UploadSession, "id" | "offsetBytes" | "digest">;

interface RunningHash {
  readonly hasher: Hasher;
  /** How many bytes it has seen; it is worth something only at this offset. */
  readonly offsetBytes: number;
  /** What they hash to, which the session's row says too unless another instance was there meanwhile. */
  readonly digest: Digest | undefined;
}

/** Uploads waiting for their next chunk at once; a hash is a few hundred bytes. */
const RUNNING_MAX = 10_000;

export class UploadHashes {
  readonly #running = new Lru<string, RunningHash>(RUNNING_MAX);
  readonly #busy = new Set<string>();

  /**
   * The hash of a session's stored bytes in this algorithm, undefined when it has to be computed again. An offset alone would
   * not do: after a crash of the database a session may come to it a second time, elsewhere and with other bytes.
   */
  take(session: UploadPlace, algorithm: DigestAlgorithm): Hasher | undefined {
    const { id, offsetBytes, digest } = session;
    if (offsetBytes === 0) return createHasher(algorithm);
    const running = this.#running.get(id);
    this.#running.delete(id);
    const isIts = running?.offsetBytes === offsetBytes && running.digest !== undefined && running.digest === digest;
    return isIts && running.hasher.algorithm === algorithm ? running.hasher : undefined;
  }

  /** Keeps the hash of a session as it stands in its row now. */
  keep({ id, offsetBytes, digest }: UploadPlace, hasher: Hasher): void {
    this.#running.set(id, { hasher, offsetBytes, digest });
  }

  drop(uploadId: string): void {
    this.#running.delete(uploadId);
  }

  /** Runs `work` unless a request of this upload is under way in this process; then calls `refuse`, which throws. */
  async exclusive<T>(uploadId: string, work: () => Promise<T>, refuse: () => never): Promise<T> {
    if (this.#busy.has(uploadId)) refuse();
    this.#busy.add(uploadId);
    try {
      return await work();
    } finally {
      this.#busy.delete(uploadId);
    }
  }
}
