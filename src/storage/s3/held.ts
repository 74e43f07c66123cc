/**
 * Last bytes of uploads that wait in this process for the commit that was promised: in memory, or as parts in the store that
 * nobody sees. What is not committed in time is given up.
 */

import type { Multipart } from "./multipart.ts";
import { uploadUnknown } from "./state.ts";
import type { Gathered } from "./writer.ts";

/** How long they wait. */
const HOLD_MS = 10 * 60_000;

export interface Held {
  /** Undefined: no bytes. */
  readonly gathered: Gathered | undefined;
  /** Where the bytes will be seen. */
  readonly key: string;
}

export class HeldUploads {
  readonly #held = new Map<string, Held & { readonly timer: ReturnType<typeof setTimeout> }>();
  readonly #abort: (uploadId: string, multipart: Multipart) => Promise<void>;

  /** `abort` drops the parts of one that was given up. */
  constructor(abort: (uploadId: string, multipart: Multipart) => Promise<void>) {
    this.#abort = abort;
  }

  /** Keeps an upload's bytes; there is none yet. */
  hold(uploadId: string, gathered: Gathered | undefined, key: string): void {
    const timer = setTimeout(() => void this.giveUp(uploadId), HOLD_MS);
    timer.unref();
    this.#held.set(uploadId, { gathered, key, timer });
  }

  /** Throws `blob_upload_unknown` when nothing is held any more. */
  require(uploadId: string): Held {
    const held = this.#held.get(uploadId);
    if (held) return held;
    throw uploadUnknown(uploadId, "is not held here any more and must be started again");
  }

  /** Forgets what was held, and gives its memory back. */
  letGo(uploadId: string): void {
    const held = this.#held.get(uploadId);
    if (!held) return;
    this.#held.delete(uploadId);
    clearTimeout(held.timer);
    if (held.gathered?.kind === "part") held.gathered.part.release();
  }

  /** The same, and drops the parts that are in the store. */
  async giveUp(uploadId: string): Promise<void> {
    const held = this.#held.get(uploadId)?.gathered;
    this.letGo(uploadId);
    if (held?.kind === "multipart") await this.#abort(uploadId, held.multipart);
  }
}
