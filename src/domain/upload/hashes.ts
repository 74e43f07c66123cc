/**
 * Running hashes of uploads that go through this process, so that a chunked push is hashed once. A hash cannot be written
 * down half done: after a restart, or on another instance, it is computed again from the stored part.
 */

import { Lru } from "../../lib/lru.ts";
import { createHasher, type DigestAlgorithm, type Hasher } from "../../oci/digest.ts";

interface RunningHash {
  readonly hasher: Hasher;
  /** How many bytes it has seen; it is worth something only at this offset. */
  offsetBytes: number;
}

/** Uploads waiting for their next chunk at once; a hash is a few hundred bytes. */
const RUNNING_MAX = 10_000;

export class UploadHashes {
  readonly #running = new Lru<string, RunningHash>(RUNNING_MAX);
  readonly #busy = new Set<string>();

  /** The hash of the first `offsetBytes` in this algorithm, undefined when it has to be computed again. */
  take(uploadId: string, algorithm: DigestAlgorithm, offsetBytes: number): Hasher | undefined {
    if (offsetBytes === 0) return createHasher(algorithm);
    const running = this.#running.get(uploadId);
    this.#running.delete(uploadId);
    return running?.offsetBytes === offsetBytes && running.hasher.algorithm === algorithm ? running.hasher : undefined;
  }

  keep(uploadId: string, hasher: Hasher, offsetBytes: number): void {
    this.#running.set(uploadId, { hasher, offsetBytes });
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
