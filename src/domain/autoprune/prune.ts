/**
 * Ends the tags that auto-prune policies have no use for; they can be restored for the time machine's window, as if somebody
 * had deleted them. Immutable tags stay, and repositories that are read-only or mirrors are left alone. Source:
 * quay-behaviour reference, section 21.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { databaseNowMs } from "../../db/now.ts";
import { ANONYMOUS } from "../access/actor.ts";
import { logAction } from "../audit/audit.ts";
import { type ImmutabilityRules, loadImmutabilityRules } from "../immutability/rules.ts";
import { referenceKey } from "../lookup/lookup.ts";
import { type CurrentTag, endTag } from "../tag/queries.ts";
import {
  decodeTag,
  dueAfterPull,
  keptByPulls,
  nextToAge,
  type PrunableTag,
  prunableTags,
  TAGS_AT_ONCE,
  type TagRow,
} from "./candidates.ts";
import { finishLook, takeDueRepository } from "./due.ts";
import { type AutopruneRule, listRulesFor } from "./policy.ts";

type PruneApp = Pick<App, "config" | "db">;

/** A repository whose policies go by age is looked at this often at least, and not for each tag that grows old. */
const LOOK_MS = 60 * 60_000;
/** One that cannot be pruned now, or holds protected tags that nobody pulls. */
const LATER_MS = 24 * 60 * 60_000;

interface Repository {
  readonly id: number;
  readonly name: string;
  readonly namespaceId: number;
  readonly namespace: string;
  readonly isPrunable: boolean;
}

/** Prunes the repository that has been due longest. Gives true when there was one. */
export async function pruneNext(app: PruneApp): Promise<boolean> {
  const { db } = app;
  const taken = await takeDueRepository(db);
  if (!taken) return false;
  const repository = await findRepository(db, taken.id);
  const nowMs = await databaseNowMs(db);
  if (!repository?.isPrunable) {
    const next = repository && { dueMs: nowMs + LATER_MS, pullsDueMs: 0 };
    await db.tx((tx) => finishLook(tx, taken, next));
    return true;
  }
  let dueMs = Number.POSITIVE_INFINITY;
  let pullsDueMs = Number.POSITIVE_INFINITY;
  for (const rule of await listRulesFor(app.config, db, repository)) {
    if (rule.method === "last_pull_date") {
      const isDue = taken.pullsDueMs <= nowMs;
      pullsDueMs = Math.min(pullsDueMs, isDue ? await pruneByPulls(app, repository, rule, nowMs) : taken.pullsDueMs);
    } else {
      await prune(app, repository, rule, nowMs);
      if (rule.method === "creation_date") dueMs = Math.min(dueMs, nowMs + intervalMs(rule));
    }
  }
  dueMs = Math.min(dueMs, pullsDueMs);
  const next = Number.isFinite(dueMs) ? { dueMs, pullsDueMs: Number.isFinite(pullsDueMs) ? pullsDueMs : 0 } : undefined;
  await db.tx((tx) => finishLook(tx, taken, next));
  return true;
}

function intervalMs(rule: AutopruneRule): number {
  return Math.min(LOOK_MS, durationMs(String(rule.value)));
}

/**
 * Gives when the first of the tags that stay may be due. Pulls can only make that later, and a tag that begins from now on
 * is due no sooner than all of the rule's time from now; so neither needs to tell us.
 */
async function pruneByPulls(
  app: PruneApp,
  repository: Repository,
  rule: AutopruneRule,
  nowMs: number,
): Promise<number> {
  let firstMs = Math.min(
    dueAfterPull(rule, nowMs),
    (await nextToAge(app.db, repository.id, rule, nowMs)) ?? Number.POSITIVE_INFINITY,
  );
  await prune(app, repository, rule, nowMs, (dueMs) => {
    firstMs = Math.min(firstMs, dueMs > nowMs ? dueMs : nowMs + LATER_MS);
  });
  return Math.max(firstMs, nowMs + intervalMs(rule));
}

async function prune(
  app: PruneApp,
  repository: Repository,
  rule: AutopruneRule,
  nowMs: number,
  keptUntil: (dueMs: number) => void = () => {},
): Promise<void> {
  const rules = await loadImmutabilityRules(app.config, app.db, repository);
  const protects = (name: string, tag: CurrentTag) => rules.isImmutable(name, tag);
  let batch: PrunableTag[] = [];
  for await (const tag of prunableTags(app.db, repository.id, rule, { nowMs, protects, keptUntil })) {
    batch.push(tag);
    if (batch.length < TAGS_AT_ONCE) continue;
    await endAll(app, repository, rule, batch, nowMs);
    batch = [];
  }
  if (batch.length > 0) await endAll(app, repository, rule, batch, nowMs);
}

/** Ends those that are still as they were seen: a push, a pull, or somebody who protects a tag, may have been faster. */
async function endAll(
  app: PruneApp,
  repository: Repository,
  rule: AutopruneRule,
  tags: readonly PrunableTag[],
  nowMs: number,
): Promise<void> {
  await app.db.tx(async (tx) => {
    // Pulls are written by transactions that hold this row as well: those that were answered long enough ago are there.
    const locked = await tx.sql`/* prune.lock */
      select id from repository where id = ${repository.id} and deleted_ms is null and state = 'NORMAL' ${tx.dialect.forUpdate}`;
    if (locked.length === 0) return;
    const rules: ImmutabilityRules = await loadImmutabilityRules(app.config, tx, repository);
    const rows = await tx.sql<TagRow>`/* prune.still_there */
      select id, name, manifest_id, start_ms, expires_ms, immutable, immutability_lifted from tag
      where end_ms is null and ${tx.dialect.inList(
        "id",
        tags.map(({ id }) => id),
      )}`;
    const living = rows.map(decodeTag);
    const kept = await keptByPulls(tx, repository.id, rule, living, nowMs);
    for (const tag of living) {
      if (kept.has(tag.id) || rules.isImmutable(tag.name, tag)) continue;
      await endTag(tx, tag, nowMs);
      tx.changed(referenceKey(repository.id, tag.name));
      await logAction(tx, {
        kind: "autoprune_tag_delete",
        caller: ANONYMOUS,
        namespaceId: repository.namespaceId,
        repositoryId: repository.id,
        request: { ip: undefined, userAgent: undefined },
        nowMs,
        metadata: {
          repo: repository.name,
          namespace: repository.namespace,
          tag: tag.name,
          performer: "autoprune worker",
          method: rule.method,
          value: rule.value,
        },
      });
    }
  });
}

async function findRepository(db: Db, id: number): Promise<Repository | undefined> {
  const [row] = await db.sql<{
    name: string;
    namespace_id: number;
    namespace: string;
    state: string;
  }>`/* prune.repository */
    select r.name, r.namespace_id, a.username as namespace, r.state
    from repository r join account a on a.id = r.namespace_id where r.id = ${id} and r.deleted_ms is null`;
  if (!row) return undefined;
  const { name, namespace, state } = row;
  return { id, name, namespaceId: toNumber(row.namespace_id), namespace, isPrunable: state === "NORMAL" };
}
