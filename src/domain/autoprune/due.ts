/**
 * When a repository is due for a look by its auto-prune policies: noted in the transaction that gives a reason, taken by the
 * worker that looks, and set again by it. What it does then is in `prune.ts`.
 */

import type { Config } from "../../config/schema.ts";
import type { Database, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { PolicyScope } from "../policy/scope.ts";

/** Pushes of this time are looked at together. */
const GATHER_MS = 10_000;
/** Whoever takes a repository has this long before another does; two that look at once do no harm. */
const LOOK_LEASE_MS = 10 * 60_000;

/** What DEFAULT_NAMESPACE_AUTOPRUNE_POLICY was when repositories were last looked at for it; no row without one. */
const DEFAULT_POLICY = "autoprune_default";

/** A lifetime of a tag began. Costs two looks into indexes where no policy is. */
export async function notePrunable(tx: Tx, repositoryId: number): Promise<void> {
  await tx.sql`/* prune.note_tag */
    insert into prune_repository (repository_id, due_ms)
    select r.id, ${tx.dialect.nowMs} + ${GATHER_MS} from repository r
    where r.id = ${repositoryId} and (
      exists (select 1 from autoprune_policy p
              where p.namespace_id = r.namespace_id and (p.repository_id is null or p.repository_id = r.id))
      or exists (select 1 from setting where key = ${DEFAULT_POLICY}))
    on conflict (repository_id) do update set due_ms = excluded.due_ms where prune_repository.due_ms > excluded.due_ms`;
}

/** Looks at every repository once when the config has another default policy than the last time. */
export async function noteDefaultPolicy(db: Database, config: Config): Promise<void> {
  const policy = config.FEATURE_AUTO_PRUNE ? config.DEFAULT_NAMESPACE_AUTOPRUNE_POLICY : null;
  const value = policy === null ? undefined : JSON.stringify(policy);
  const [row] = await db.sql<{
    value: string;
  }>`/* prune.default */ select value from setting where key = ${DEFAULT_POLICY}`;
  if (row?.value === value) return;
  await db.tx(async (tx) => {
    await tx.sql`/* prune.no_default */ delete from setting where key = ${DEFAULT_POLICY}`;
    if (value === undefined) return;
    await tx.sql`/* prune.new_default */
      insert into setting (key, value) values (${DEFAULT_POLICY}, ${value}) on conflict do nothing`;
    await tx.sql`/* prune.note_all */
      insert into prune_repository (repository_id, due_ms)
      select id, ${tx.dialect.nowMs} from repository where deleted_ms is null
      on conflict (repository_id) do update set due_ms = excluded.due_ms, pulls_due_ms = 0`;
  });
}

/** A policy was made, changed or deleted: all that it is for is looked at. */
export async function notePolicy(tx: Tx, scope: PolicyScope): Promise<void> {
  const inScope = scope.repository
    ? tx.sql`id = ${scope.repository.id}`
    : tx.sql`namespace_id = ${scope.namespaceId} and deleted_ms is null`;
  await tx.sql`/* prune.note_policy */
    insert into prune_repository (repository_id, due_ms)
    select id, ${tx.dialect.nowMs} from repository where ${inScope}
    on conflict (repository_id) do update set due_ms = excluded.due_ms, pulls_due_ms = 0`;
}

/** A repository that is being looked at. */
export interface TakenRepository {
  readonly id: number;
  /** Stands in its row until there is another reason to look, and is how one is noticed. */
  readonly takenUntilMs: number;
  /** Before this no tag can be due by its last pull. */
  readonly pullsDueMs: number;
}

/**
 * Takes the repository that has been due longest. A lifetime that begins from now on makes it due again: what the taker does
 * not see, the next look will.
 */
export async function takeDueRepository(db: Database): Promise<TakenRepository | undefined> {
  const { nowMs } = db.dialect;
  const due = await db.sql`/* prune.look */ select 1 as one from prune_repository where due_ms <= ${nowMs} limit 1`;
  if (due.length === 0) return undefined;
  return db.tx(
    async (tx) => {
      // "=" and not "in": PostgreSQL may ask the subquery of an "in" once for each row, and then takes them all.
      const [row] = await tx.sql<{ repository_id: number; due_ms: number; pulls_due_ms: number }>`/* prune.take */
        update prune_repository set due_ms = ${nowMs} + ${LOOK_LEASE_MS}
        where due_ms <= ${nowMs} and repository_id = (
          select repository_id from prune_repository where due_ms <= ${nowMs} order by due_ms limit 1 ${tx.dialect.skipLocked})
        returning repository_id, due_ms, pulls_due_ms`;
      if (!row) return undefined;
      const takenUntilMs = toNumber(row.due_ms);
      return { id: toNumber(row.repository_id), takenUntilMs, pullsDueMs: toNumber(row.pulls_due_ms) };
    },
    { durable: false },
  );
}

/** Says when to look next; without a time when there is another reason. Nothing when there has been one since the taking. */
export async function finishLook(
  tx: Tx,
  taken: TakenRepository,
  next: { readonly dueMs: number; readonly pullsDueMs: number } | undefined,
): Promise<void> {
  if (next) {
    await tx.sql`/* prune.postpone */
      update prune_repository set due_ms = ${next.dueMs}, pulls_due_ms = ${next.pullsDueMs}
      where repository_id = ${taken.id} and due_ms = ${taken.takenUntilMs}`;
  } else {
    await tx.sql`/* prune.done */
      delete from prune_repository where repository_id = ${taken.id} and due_ms = ${taken.takenUntilMs}`;
  }
}
