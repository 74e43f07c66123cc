/** The status of garbage collection as JSON: one form for the API and for `berth gc --status --json`. Times are epoch ms. */

import type { Config } from "../../config/schema.ts";
import type { Explanation } from "./explain.ts";
import type { Reason } from "./explain-reasons.ts";
import { collected, type GcFeatures } from "./features.ts";
import type { GcStatus } from "./status.ts";
import type { Freed } from "./totals.ts";

type GcConfig = GcFeatures & Pick<Config, "GARBAGE_COLLECTION_FREQUENCY">;

/** A count with "more" ends at its bound; `exact` false means "at least". */
export function gcStatusView(config: GcConfig, status: GcStatus) {
  const { freed } = status;
  return {
    at_ms: status.atMs,
    enabled: collected(config),
    frequency_s: config.GARBAGE_COLLECTION_FREQUENCY,
    waiting: status.waiting.map(({ kind, waiting, due, firstDueMs, failing }) => ({
      kind,
      waiting: waiting.count,
      waiting_more: waiting.isMore,
      due: due.count,
      due_more: due.isMore,
      first_due_ms: firstDueMs ?? null,
      failing,
    })),
    reclaimable: { exact: status.reclaimable.isExact, buckets: status.reclaimable.buckets },
    freed: {
      since_ms: freed.sinceMs ?? null,
      total: freedView(freed.total),
      last_7_days: freedView(freed.week),
      today: freedView(freed.today),
    },
    rounds: status.rounds.map(({ instance, startedMs, durationMs, state, rows, blobs, bytes }) => ({
      instance,
      started_ms: startedMs,
      duration_ms: durationMs,
      state,
      rows,
      blobs,
      bytes,
    })),
  };
}

function freedView({ rowsByTable, ...sums }: Freed) {
  return { ...sums, rows_by_table: rowsByTable };
}

/** Why something is kept. `content` is the manifest of a tag; without `enabled` this config collects nothing that is due. */
export function explanationView(config: GcConfig, explanation: Explanation) {
  const { content } = explanation;
  return {
    ...explanationOf(explanation),
    enabled: collected(config).garbage_collection,
    content: content ? explanationOf(content) : null,
  };
}

function explanationOf({ name, kind, state, goesMs, sizeBytes, isCut, reasons }: Explanation) {
  return {
    reference: name,
    kind,
    state,
    goes_ms: goesMs ?? null,
    size_bytes: sizeBytes ?? null,
    exact: !isCut,
    reasons: flatten(reasons, 0),
  };
}

interface ReasonView {
  /** 0: it keeps the thing itself; 1: it keeps what is above in the list with 0; and so on. */
  readonly depth: number;
  readonly kind: string;
  readonly name: string;
  readonly until_ms: number | null;
  readonly explanation: string;
}

function flatten(reasons: readonly Reason[], depth: number): ReasonView[] {
  return reasons.flatMap(({ kind, name, untilMs, sentence, because }) => [
    { depth, kind, name, until_ms: untilMs ?? null, explanation: sentence },
    ...flatten(because, depth + 1),
  ]);
}
