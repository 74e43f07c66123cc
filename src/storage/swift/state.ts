/**
 * What an upload's row keeps for this driver: which runs of segments hold its bytes. Pure; names follow from it and from
 * `names.ts`, so that any instance continues from the text alone.
 */

import { z } from "zod";
import { RegistryError } from "../../errors.ts";
import type { SwiftNames } from "./names.ts";

/** Bytes that one request wrote: segments of one size, of which only the last may be shorter. */
export interface Run {
  readonly run: string;
  readonly sizeBytes: number;
  readonly segmentBytes: number;
  /** Its bytes lie in the one object `uploads/<uuid>/<run>`: the whole upload so far is shorter than a segment. */
  readonly isLoose: boolean;
}

export interface UploadState {
  readonly runs: readonly Run[];
  /** Objects whose bytes a later run has taken over: of no use as soon as this state is the recorded one. */
  readonly dropped: readonly string[];
  /** The bytes wait in the memory of the process that took them: how many. */
  readonly heldBytes?: number;
}

/** An object that holds some of an upload's bytes. */
export interface Piece {
  readonly name: string;
  readonly sizeBytes: number;
}

export const EMPTY_STATE: UploadState = { runs: [], dropped: [] };

const runShape = z.tuple([z.string().regex(/^[0-9a-f]{12}$/), z.number(), z.number(), z.boolean()]);
const stateShape = z.object({
  id: z.string(),
  runs: z.array(runShape),
  dropped: z.array(z.string()).default([]),
  held: z.number().optional(),
});

export function encodeState(id: string, { runs, dropped, heldBytes }: UploadState): string {
  const rows = runs.map(({ run, sizeBytes, segmentBytes, isLoose }) => [run, sizeBytes, segmentBytes, isLoose]);
  return JSON.stringify({ id, runs: rows, ...(dropped.length > 0 ? { dropped } : {}), held: heldBytes });
}

/** Reads a state back. Undefined when it is of another upload or was never given by this driver. */
export function decodeState(id: string, text: string): UploadState | undefined {
  const read = stateShape.safeParse(parseJson(text));
  if (!read.success || read.data.id !== id) return undefined;
  const runs = read.data.runs.map(
    ([run, sizeBytes, segmentBytes, isLoose]): Run => ({ run, sizeBytes, segmentBytes, isLoose }),
  );
  const { dropped, held } = read.data;
  return { runs, dropped, ...(held === undefined ? {} : { heldBytes: held }) };
}

export function sizeOf({ runs, heldBytes = 0 }: UploadState): number {
  return runs.reduce((sum, { sizeBytes }) => sum + sizeBytes, heldBytes);
}

/** The objects that hold the first `limitBytes` of an upload, in order; the last one's size is cut to what is wanted. */
export function* piecesOf(names: SwiftNames, id: string, runs: readonly Run[], limitBytes: number): Generator<Piece> {
  let left = limitBytes;
  for (const { run, sizeBytes, segmentBytes, isLoose } of runs) {
    for (let at = 0, index = 0; at < sizeBytes && left > 0; at += segmentBytes, index++) {
      const wanted = Math.min(left, segmentBytes, sizeBytes - at);
      yield { name: isLoose ? names.run(id, run) : names.segment(id, run, index), sizeBytes: wanted };
      left -= wanted;
    }
  }
}

export interface Continuation {
  /** Runs that stay as they are. */
  readonly kept: readonly Run[];
  /** The object whose first bytes are read back and stored again at the head of the next run. */
  readonly head: Piece | undefined;
}

/**
 * How an upload goes on at `offsetBytes`. Whole segments stay; a last one shorter than `headBelowBytes`, one that the offset
 * cuts, and a loose one are taken into the next run, so that many short requests do not make many short segments.
 */
export function continueAt(
  names: SwiftNames,
  id: string,
  state: UploadState,
  offsetBytes: number,
  headBelowBytes: number,
): Continuation {
  const pieces = [...piecesOf(names, id, state.runs, offsetBytes)];
  const last = pieces.at(-1);
  if (!last) return { kept: [], head: undefined };
  const whole = [...piecesOf(names, id, state.runs, offsetBytes + 1)][pieces.length - 1];
  const isCut = offsetBytes < sizeOf(state) && (whole?.sizeBytes ?? 0) > last.sizeBytes;
  const isLoose = state.runs[0]?.isLoose === true;
  if (!isCut && !isLoose && last.sizeBytes >= headBelowBytes)
    return { kept: cut(state.runs, offsetBytes), head: undefined };
  return { kept: cut(state.runs, offsetBytes - last.sizeBytes), head: last };
}

/** The first `sizeBytes` of runs, which end with a segment. */
function cut(runs: readonly Run[], sizeBytes: number): Run[] {
  const kept: Run[] = [];
  let left = sizeBytes;
  for (const run of runs) {
    if (left <= 0) break;
    kept.push({ ...run, sizeBytes: Math.min(left, run.sizeBytes) });
    left -= run.sizeBytes;
  }
  return kept;
}

export function uploadUnknown(id: string, why: string, cause?: unknown): RegistryError {
  return new RegistryError("blob_upload_unknown", { message: `upload "${id}" ${why}`, cause });
}

/** What a JSON text says; undefined when it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
