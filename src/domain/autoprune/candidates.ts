/**
 * Which tags of a repository a rule would end. The pruning worker and the dry run both ask here, so that the one does what
 * the other says. Source: quay-behaviour reference, section 21; the last pull is ours.
 */

import { durationMs } from "../../config/units.ts";
import type { Db } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import type { Allowance } from "../../lib/allowance.ts";
import { findLastPulls, PULLS_WRITTEN_MS } from "../pullstats/last-pulls.ts";
import type { CurrentTag } from "../tag/queries.ts";
import { type AutopruneRule, patternOf } from "./policy.ts";

/** Tags read at once, and ended in one transaction: it holds up pushes to the repository for some milliseconds. */
export const TAGS_AT_ONCE = 200;

/** A living tag, as far as a policy looks at it. */
export interface PrunableTag extends CurrentTag {
  readonly name: string;
}

/** One look at a repository. */
export interface Look {
  readonly nowMs: number;
  /** What stays whatever a rule says. It counts among those that are kept. */
  protects(name: string, tag: CurrentTag): boolean;
  /** Ids of tags that rules before this one have ended. */
  readonly ended?: ReadonlySet<number>;
  /** Without one there is no bound but the repository's size. */
  readonly allowance?: Allowance;
  /** Told of a tag that is kept by its last pull, and when it may be due. */
  keptUntil?(dueMs: number): void;
}

/** Tags that the rule would end now, the newest first. */
export async function* prunableTags(
  db: Db,
  repositoryId: number,
  rule: AutopruneRule,
  look: Look,
): AsyncGenerator<PrunableTag> {
  const matches = patternOf(rule);
  const keep = rule.method === "number_of_tags" ? Number(rule.value) : 0;
  let seen = 0;
  for await (const page of livingTags(db, repositoryId, dueBefore(rule, look.nowMs), look)) {
    const matching = page.filter((tag) => matches(tag.name));
    const kept = await keptByPulls(db, repositoryId, rule, matching, look.nowMs);
    for (const tag of matching) {
      seen++;
      const keptUntilMs = kept.get(tag.id);
      if (keptUntilMs !== undefined) look.keptUntil?.(keptUntilMs);
      else if (seen <= keep) continue;
      else if (!look.protects(tag.name, tag)) yield tag;
      // It is looked for again a while later: somebody may lift what protects it.
      else if (rule.method === "last_pull_date") look.keptUntil?.(look.nowMs);
    }
  }
}

/** When each of these tags may be due that a last pull keeps now, by its id. Empty when the rule does not go by that. */
export async function keptByPulls(
  db: Db,
  repositoryId: number,
  rule: AutopruneRule,
  tags: readonly PrunableTag[],
  nowMs: number,
): Promise<Map<number, number>> {
  if (rule.method !== "last_pull_date" || tags.length === 0) return new Map();
  const pulls = await findLastPulls(db, repositoryId, tags);
  const beforeMs = dueBefore(rule, nowMs);
  return new Map(
    [...pulls].filter(([, lastMs]) => lastMs >= beforeMs).map(([id, lastMs]) => [id, dueAfterPull(rule, lastMs)]),
  );
}

/** Epoch ms at which a tag that was last pulled, or began, at `lastMs` is due by a rule that goes by that. */
export function dueAfterPull(rule: AutopruneRule, lastMs: number): number {
  return lastMs + durationMs(String(rule.value)) + PULLS_WRITTEN_MS;
}

/** When the first of the tags may be due that are too young to be looked at; undefined without any. */
export async function nextToAge(
  db: Db,
  repositoryId: number,
  rule: AutopruneRule,
  nowMs: number,
): Promise<number | undefined> {
  const [row] = await db.sql<{ start_ms: number }>`/* prune.next_start */
    select start_ms from tag
    where repository_id = ${repositoryId} and end_ms is null and hidden = false and start_ms >= ${dueBefore(rule, nowMs)}
    order by start_ms limit 1`;
  return row && dueAfterPull(rule, toNumber(row.start_ms));
}

/** A tag must have begun, or been pulled, before this for the rule to end it. */
function dueBefore(rule: AutopruneRule, nowMs: number): number {
  if (rule.method === "number_of_tags") return Number.MAX_SAFE_INTEGER;
  const agoMs = durationMs(String(rule.value));
  return nowMs - agoMs - (rule.method === "last_pull_date" ? PULLS_WRITTEN_MS : 0);
}

/** Living, visible tags that began before a time, newest first, page by page along the index. */
async function* livingTags(
  db: Db,
  repositoryId: number,
  beforeMs: number,
  { nowMs, ended, allowance }: Look,
): AsyncGenerator<PrunableTag[]> {
  let last = { startMs: beforeMs, id: 0 };
  while (!allowance?.isSpent) {
    const rows = await db.sql<TagRow>`/* prune.tags */
      select id, name, manifest_id, start_ms, expires_ms, immutable, immutability_lifted from tag
      where repository_id = ${repositoryId} and end_ms is null and hidden = false
        and (start_ms, id) < (${last.startMs}, ${last.id})
        and (expires_ms is null or expires_ms > ${nowMs})
      order by start_ms desc, id desc limit ${TAGS_AT_ONCE}`;
    await allowance?.spend(rows.length);
    const tags = rows.map(decodeTag);
    yield ended ? tags.filter(({ id }) => !ended.has(id)) : tags;
    const end = tags.at(-1);
    if (!end || tags.length < TAGS_AT_ONCE) return;
    last = { startMs: end.startMs, id: end.id };
  }
}

export interface TagRow {
  id: number;
  name: string;
  manifest_id: number;
  start_ms: number;
  expires_ms: number | null;
  immutable: unknown;
  immutability_lifted: unknown;
}

export function decodeTag(row: TagRow): PrunableTag {
  return {
    id: toNumber(row.id),
    name: row.name,
    manifestId: toNumber(row.manifest_id),
    startMs: toNumber(row.start_ms),
    expiresMs: row.expires_ms === null ? undefined : toNumber(row.expires_ms),
    immutable: toBoolean(row.immutable),
    immutabilityLifted: toBoolean(row.immutability_lifted),
  };
}
