/** When a repository is due for a look by its auto-prune policies. Called in the transaction that gives them a reason. */

import type { Config } from "../../config/schema.ts";
import type { Database, Tx } from "../../db/db.ts";
import type { PolicyScope } from "../policy/scope.ts";

/** Pushes of this time are looked at together. */
const GATHER_MS = 10_000;

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
      select id, ${tx.dialect.nowMs} from repository where deleted_ms is null on conflict do nothing`;
  });
}

/** A policy was made or changed: all that it is for is looked at. */
export async function notePolicy(tx: Tx, scope: PolicyScope): Promise<void> {
  const inScope = scope.repository
    ? tx.sql`id = ${scope.repository.id}`
    : tx.sql`namespace_id = ${scope.namespaceId} and deleted_ms is null`;
  await tx.sql`/* prune.note_policy */
    insert into prune_repository (repository_id, due_ms)
    select id, ${tx.dialect.nowMs} from repository where ${inScope}
    on conflict (repository_id) do update set due_ms = excluded.due_ms`;
}
