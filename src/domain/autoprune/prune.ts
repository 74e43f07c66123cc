/**
 * Ends the tags that auto-prune policies have no use for; they can be restored for the time machine's window, as if somebody
 * had deleted them. Immutable tags stay, and repositories that are read-only or mirrors are left alone. Source:
 * quay-behaviour reference, section 21.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { databaseNowMs } from "../../db/now.ts";
import { ANONYMOUS } from "../access/actor.ts";
import { logAction } from "../audit/audit.ts";
import { type ImmutabilityRules, loadImmutabilityRules } from "../immutability/rules.ts";
import { referenceKey } from "../lookup/lookup.ts";
import { type CurrentTag, endTag } from "../tag/queries.ts";
import { type AutopruneRule, listRulesFor, patternOf } from "./policy.ts";

type PruneApp = Pick<App, "config" | "db">;

/** Tags read at once, and ended in one transaction: it holds up pushes to the repository for some milliseconds. */
const BATCH = 200;
/** A repository whose policies go by age is looked at this often at least, and not for each tag that grows old. */
const LOOK_MS = 60 * 60_000;
/** One that cannot be pruned now. */
const LATER_MS = 24 * 60 * 60_000;

interface Repository {
  readonly id: number;
  readonly name: string;
  readonly namespaceId: number;
  readonly namespace: string;
  readonly isPrunable: boolean;
}

/** A living tag, as far as a policy looks at it. */
export interface PrunableTag extends CurrentTag {
  readonly name: string;
}

/** Prunes the repository that has been due longest. Gives true when there was one. */
export async function pruneNext(app: PruneApp): Promise<boolean> {
  const { db } = app;
  const [due] = await db.sql<{ repository_id: number }>`/* prune.look */
    select repository_id from prune_repository where due_ms <= ${db.dialect.nowMs} order by due_ms limit 1`;
  if (!due) return false;
  const repositoryId = toNumber(due.repository_id);
  const repository = await findRepository(db, repositoryId);
  const rules = repository?.isPrunable ? await listRulesFor(app.config, db, repository) : [];
  const nowMs = await databaseNowMs(db);
  let nextMs: number | undefined = repository && !repository.isPrunable ? nowMs + LATER_MS : undefined;
  for (const rule of rules) {
    if (repository) await prune(app, repository, rule, nowMs);
    if (rule.method === "creation_date") nextMs = nowMs + Math.min(LOOK_MS, durationMs(String(rule.value)));
  }
  await db.tx((tx) => postpone(tx, repositoryId, nowMs, nextMs));
  return true;
}

/** Tags that the rule would end now, the newest first. What is protected stays, and counts among those that are kept. */
export async function* prunableTags(
  db: Db,
  repositoryId: number,
  rule: AutopruneRule,
  protects: (name: string, tag: CurrentTag) => boolean,
  nowMs: number,
): AsyncGenerator<PrunableTag> {
  const matches = patternOf(rule);
  const keep = rule.method === "number_of_tags" ? Number(rule.value) : 0;
  const beforeMs = rule.method === "creation_date" ? nowMs - durationMs(String(rule.value)) : Number.MAX_SAFE_INTEGER;
  let seen = 0;
  for await (const tag of livingTags(db, repositoryId, beforeMs, nowMs)) {
    if (!matches(tag.name)) continue;
    seen++;
    if (seen > keep && !protects(tag.name, tag)) yield tag;
  }
}

async function prune(app: PruneApp, repository: Repository, rule: AutopruneRule, nowMs: number): Promise<void> {
  const rules = await loadImmutabilityRules(app.config, app.db, repository);
  const protects = (name: string, tag: CurrentTag) => rules.isImmutable(name, tag);
  let batch: PrunableTag[] = [];
  for await (const tag of prunableTags(app.db, repository.id, rule, protects, nowMs)) {
    batch.push(tag);
    if (batch.length < BATCH) continue;
    await endAll(app, repository, rule, batch, nowMs);
    batch = [];
  }
  if (batch.length > 0) await endAll(app, repository, rule, batch, nowMs);
}

/** Ends those that are still as they were seen: a push, or somebody who protects a tag, may have been faster. */
async function endAll(
  app: PruneApp,
  repository: Repository,
  rule: AutopruneRule,
  tags: readonly PrunableTag[],
  nowMs: number,
): Promise<void> {
  await app.db.tx(async (tx) => {
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
    for (const tag of rows.map(decodeTag)) {
      if (rules.isImmutable(tag.name, tag)) continue;
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

/** Living, visible tags that began before a time, newest first, page by page along the index. */
async function* livingTags(db: Db, repositoryId: number, beforeMs: number, nowMs: number): AsyncGenerator<PrunableTag> {
  let last = { startMs: beforeMs, id: 0 };
  for (;;) {
    const rows = await db.sql<TagRow>`/* prune.tags */
      select id, name, manifest_id, start_ms, expires_ms, immutable, immutability_lifted from tag
      where repository_id = ${repositoryId} and end_ms is null and hidden = false
        and (start_ms, id) < (${last.startMs}, ${last.id})
        and (expires_ms is null or expires_ms > ${nowMs})
      order by start_ms desc, id desc limit ${BATCH}`;
    const tags = rows.map(decodeTag);
    yield* tags;
    const end = tags.at(-1);
    if (!end || tags.length < BATCH) return;
    last = { startMs: end.startMs, id: end.id };
  }
}

/** Not when a push has given it a reason since. */
async function postpone(tx: Tx, repositoryId: number, lookedMs: number, nextMs: number | undefined): Promise<void> {
  if (nextMs === undefined) {
    await tx.sql`/* prune.done */
      delete from prune_repository where repository_id = ${repositoryId} and due_ms <= ${lookedMs}`;
  } else {
    await tx.sql`/* prune.postpone */
      update prune_repository set due_ms = ${nextMs} where repository_id = ${repositoryId} and due_ms <= ${lookedMs}`;
  }
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

interface TagRow {
  id: number;
  name: string;
  manifest_id: number;
  start_ms: number;
  expires_ms: number | null;
  immutable: unknown;
  immutability_lifted: unknown;
}

function decodeTag(row: TagRow): PrunableTag {
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
