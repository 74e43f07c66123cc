/** What `berth gc` shows to people. */

import type { explanationView, gcStatusView } from "../domain/gc/views.ts";

type StatusView = ReturnType<typeof gcStatusView>;
type ExplanationView = ReturnType<typeof explanationView>;

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** As "1.5 GiB"; small numbers in full. */
export function showBytes(bytes: number): string {
  let [amount, unit] = [bytes, 0];
  while (amount >= 1024 && unit < UNITS.length - 1) [amount, unit] = [amount / 1024, unit + 1];
  return `${unit === 0 ? amount : amount.toFixed(1)} ${UNITS[unit]}`;
}

/** To the second, UTC. */
export function showTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

const KINDS: Readonly<Record<string, string>> = {
  expiring_tags: "tags that expire",
  ended_tags: "ended tags in the time machine",
  manifests: "manifests to be looked at",
  links: "blobs in repositories to be looked at",
  blobs: "blobs to be looked at",
  repositories: "deleted repositories",
  namespaces: "deleted namespaces and robots",
  uploads: "uploads under way",
};

const KIND_WIDTH = Math.max(...Object.values(KINDS).map((text) => text.length));

export function statusText(status: StatusView): string {
  const off = Object.entries(status.enabled).flatMap(([name, isOn]) => (isOn ? [] : [name.replaceAll("_", " ")]));
  return [
    `as of ${showTime(status.at_ms)}, a round every ${status.frequency_s} s${off.length > 0 ? `; off: ${off.join(", ")}` : ""}`,
    "",
    `${"waits".padEnd(KIND_WIDTH + 2)}     all      due  first due`,
    ...status.waiting.map((each) => {
      const first = each.first_due_ms === null ? "" : showTime(each.first_due_ms);
      const failing = each.failing > 0 ? `  ${each.failing} failed so far` : "";
      const [all, due] = [bounded(each.waiting, each.waiting_more), bounded(each.due, each.due_more)];
      return `  ${(KINDS[each.kind] ?? each.kind).padEnd(KIND_WIDTH)}${all.padStart(8)} ${due.padStart(8)}  ${first}${failing}`.trimEnd();
    }),
    "",
    `comes back, as things stand${status.reclaimable.exact ? "" : " (at least: there is more than was looked at)"}`,
    ...status.reclaimable.buckets.map(
      ({ when, blobs, bytes }) => `  ${when.padEnd(14)} ${showBytes(bytes).padStart(12)}  ${blobs} blobs`,
    ),
    "",
    status.freed.since_ms === null
      ? "freed: nothing yet"
      : `freed since ${showTime(status.freed.since_ms).slice(0, 10)}`,
    ...freedLines(status.freed),
    ...(status.rounds.length > 0 ? ["", "last rounds that freed something"] : []),
    ...status.rounds.map(({ instance, state, started_ms, duration_ms, bytes, blobs, rows }) => {
      const took = `${(duration_ms / 1000).toFixed(1)} s`;
      return `  ${instance}  ${state}  ${showTime(started_ms)}  ${took}  ${showBytes(bytes)} in ${blobs} blobs, ${rows} rows`;
    }),
  ].join("\n");
}

function freedLines(freed: StatusView["freed"]): string[] {
  if (freed.since_ms === null) return [];
  const spans = { "in all": freed.total, "last 7 days": freed.last_7_days, today: freed.today };
  return Object.entries(spans).map(
    ([name, { bytes, blobs, rows }]) =>
      `  ${name.padEnd(14)} ${showBytes(bytes).padStart(12)}  ${blobs} blobs, ${rows} rows`,
  );
}

function bounded(count: number, isMore: boolean): string {
  return isMore ? `${count}+` : String(count);
}

export function explanationText(view: ExplanationView, nowMs: number): string {
  const off = view.enabled
    ? []
    : ["FEATURE_GARBAGE_COLLECTION is off in this config, or REGISTRY_STATE readonly: nothing of this is collected"];
  return [...linesOf(view, nowMs), ...(view.content ? linesOf(view.content, nowMs) : []), ...off].join("\n");
}

function linesOf(view: Omit<ExplanationView, "content" | "enabled">, nowMs: number): string[] {
  const size = view.size_bytes === null ? "" : ` (${showBytes(view.size_bytes)})`;
  const isStuck = view.state === "kept" && view.reasons.length === 0 && view.exact;
  return [
    `${view.kind} ${view.reference}${size}: ${stateText(view, nowMs)}`,
    ...view.reasons.map(
      ({ depth, explanation, until_ms }) =>
        `  ${"  ".repeat(depth)}- ${explanation}${until_ms === null ? "" : `, until ${showTime(until_ms)}`}`,
    ),
    ...(isStuck ? ["  - nothing was found that keeps it, and nobody is to look at it: please report this"] : []),
    ...(view.exact ? [] : ["  - there is more than was looked at: it may go earlier than this says"]),
  ];
}

function stateText({ state, goes_ms }: Pick<ExplanationView, "state" | "goes_ms">, nowMs: number): string {
  if (state === "kept") return "kept";
  if (state === "due") return "due: the next round takes it";
  if (state === "deleting") return "is being deleted";
  return goes_ms === null ? "waits" : `kept until ${showTime(goes_ms)} (${showSpan(goes_ms - nowMs)}), as things stand`;
}

/** As "13 days"; what is over is soon. */
function showSpan(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 2) return "a moment";
  if (minutes < 120) return `${minutes} minutes`;
  return minutes < 2880 ? `${Math.round(minutes / 60)} hours` : `${Math.round(minutes / 1440)} days`;
}
