/**
 * One copy of a blob from reading it to what follows: nothing when it is right, else it goes out of service at once and is
 * copied anew from another store. Every step may be done twice and by two at a time.
 */

import type { App } from "../../app.ts";
import type { TokenBucket } from "../../lib/token-bucket.ts";
import { errorFields } from "../../observe/logger.ts";
import type { Digest } from "../../oci/digest.ts";
import type { BadKind } from "../blob/bad-copies.ts";
import { runCopy, takeCopyOf } from "../replication/run.ts";
import {
  isInService,
  type KnownCopy,
  listCopiesOf,
  listNeighbours,
  putBack,
  queueRepair,
  takeOutOfService,
} from "./copies.ts";
import { type Copy, readCopy } from "./read-copy.ts";

export type ScrubApp = Pick<App, "config" | "db" | "storage" | "log">;

/** What a scrub tells of itself, for metrics and for whoever watches it. */
export type ScrubEvent =
  | { readonly kind: "read"; readonly location: string; readonly sizeBytes: number }
  /** One that was in service until now. */
  | { readonly kind: "bad"; readonly location: string; readonly digest: Digest; readonly bad: BadKind }
  | { readonly kind: "repaired"; readonly location: string; readonly digest: Digest }
  | { readonly kind: "unreadable"; readonly location: string; readonly digest: Digest; readonly message: string };

export interface ExamineOptions {
  readonly signal: AbortSignal;
  readonly budget: TokenBucket | undefined;
  readonly report: (event: ScrubEvent) => void;
  /** Believe at once that an object is gone, whatever else is missing: somebody asked for this very blob. */
  readonly isAlone?: boolean;
}

/** `away`: nothing in its store can be read now; `gone`: nobody needs the copy any more. */
export type Outcome = "good" | "bad" | "repaired" | "unreadable" | "away" | "gone";

/** Blobs that are looked for before one that is missing is believed to be the only one. */
const NEIGHBOURS = 4;

/** Reads a copy and does what has to be done about it. Throws the signal's reason, and what the database throws. */
export async function examineCopy(app: ScrubApp, copy: KnownCopy, options: ExamineOptions): Promise<Outcome> {
  const verdict = await read(app, copy, options);
  if (verdict.is === "good") return copy.isBad && (await restore(app, copy, options)) ? "repaired" : "good";
  if (verdict.is === "unreadable") {
    const fields = { digest: copy.digest, location: copy.location, ...errorFields(verdict.error) };
    if (verdict.isAway) {
      app.log.warn("blobs cannot be compared with their digests while their store is away", fields);
      return "away";
    }
    app.log.warn("a blob cannot be read to compare it with its digest", fields);
    options.report({ kind: "unreadable", ...nameOf(copy), message: messageOf(verdict.error) });
    return "unreadable";
  }
  if (!copy.isBad) {
    if (!(await takeOutOfService(app, copy, verdict))) return "gone";
    const { kind, found } = verdict;
    app.log.error("the bytes of a blob are bad in one store and are not served from there any more", {
      ...nameOf(copy),
      kind,
      found,
      sizeBytes: copy.sizeBytes,
    });
    options.report({ kind: "bad", ...nameOf(copy), bad: kind });
  }
  return (await repair(app, copy, options)) ? "repaired" : "bad";
}

function read(app: ScrubApp, copy: KnownCopy, { signal, budget, report, isAlone }: ExamineOptions) {
  return readCopy(app, copy, {
    signal,
    budget,
    onBytes: (sizeBytes) => report({ kind: "read", location: copy.location, sizeBytes }),
    others: async () => (isAlone ? [] : listNeighbours(app.db, copy, NEIGHBOURS)),
  });
}

/**
 * Copies the blob anew from a store that has it, by the job that replication runs too, so that nobody copies it twice. Without
 * such a store it is read once more: a push may have written it just before it went out of service.
 */
async function repair(app: ScrubApp, copy: KnownCopy, options: ExamineOptions): Promise<boolean> {
  if (!(await queueRepair(app, copy))) {
    if (copy.isBad) return false;
    const verdict = await read(app, copy, options);
    return verdict.is === "good" && (await restore(app, copy, options));
  }
  const wrong = new Set<string>();
  const job = await takeCopyOf(app, copy.blobId, copy.location);
  if (job) {
    await runCopy(app, job, {
      signal: options.signal,
      report: (event) => {
        if (event.kind === "corrupt" && event.location !== copy.location) wrong.add(event.location);
      },
    });
  }
  // Sources that turned out to be bad need not wait for their own turn.
  for (const location of wrong) {
    const source = (await listCopiesOf(app.db, copy.digest)).find((each) => each.location === location && !each.isBad);
    if (source) await examineCopy(app, source, options);
  }
  options.signal.throwIfAborted();
  if (!(await isInService(app.db, copy))) return false;
  tellRepaired(app, copy, options);
  return true;
}

async function restore(app: ScrubApp, copy: KnownCopy, options: ExamineOptions): Promise<boolean> {
  if (!(await putBack(app, copy))) return false;
  tellRepaired(app, copy, options);
  return true;
}

function tellRepaired(app: ScrubApp, copy: Copy, { report }: ExamineOptions): void {
  app.log.info("a copy of a blob is right again and in service", nameOf(copy));
  report({ kind: "repaired", ...nameOf(copy) });
}

function nameOf({ digest, location }: Copy): { digest: Digest; location: string } {
  return { digest, location };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
