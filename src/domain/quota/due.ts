/** Whether there is anything to count in the background, and where the work stands: one row that every worker goes by. */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";

const KEY = "quota_work";
/** Totals are compared so often. */
const RECONCILE_MS = 24 * 3600 * 1000;
/** Accounts given a row in one transaction. */
const ACCOUNTS = 500;

interface Progress {
  /** Accounts up to this id have a row of their usage. */
  readonly throughId: number;
  /** When the next comparison of all totals is due; database time. */
  readonly reconcileMs: number;
}

type DueApp = Pick<App, "config" | "db">;

/** True when the config lets totals be counted. */
export function countsTotals({ config }: Pick<App, "config">): boolean {
  return config.FEATURE_QUOTA_MANAGEMENT && config.QUOTA_BACKFILL;
}

/** Costs three looks into indexes. */
export async function isCountingDue(app: DueApp): Promise<boolean> {
  const { progress, nowMs } = await read(app.db);
  if (progress.reconcileMs <= nowMs) return true;
  const [row] = await app.db.sql<{ due: unknown }>`/* quota.is_due */
    select exists (select 1 from namespace_usage where backfill_state <> 'complete')
        or exists (select 1 from account where id > ${progress.throughId}) as due`;
  return toBoolean(row?.due);
}

/** Gives namespaces that have no row of their usage one. False when all have. */
export async function noteNamespaces({ db }: Pick<App, "db">): Promise<boolean> {
  return db.tx(async (tx) => {
    const { progress } = await read(tx);
    const [last] = await tx.sql<{ id: number | null }>`/* quota.next_accounts */
      select max(id) as id from (
        select id from account where id > ${progress.throughId} order by id limit ${ACCOUNTS}) piece`;
    if (last?.id == null) return false;
    const throughId = toNumber(last.id);
    await tx.sql`/* quota.note_namespaces */
      insert into namespace_usage (namespace_id)
      select id from account
      where id > ${progress.throughId} and id <= ${throughId} and kind in ('user', 'organization') and deleted_ms is null
      order by id on conflict do nothing`;
    await write(tx, { ...progress, throughId });
    return true;
  });
}

/**
 * True for the one worker that is to compare all totals now. Accounts are looked through again as well: one whose id was
 * given before another's may have been committed after it.
 */
export async function takeReconcile({ db }: Pick<App, "db">): Promise<boolean> {
  return db.tx(async (tx) => {
    const { progress, nowMs } = await read(tx);
    if (progress.reconcileMs > nowMs) return false;
    await write(tx, { throughId: 0, reconcileMs: nowMs + RECONCILE_MS });
    return progress.reconcileMs > 0;
  });
}

async function read(db: Db): Promise<{ progress: Progress; nowMs: number }> {
  const [row] = await db.sql<{ value: string | null; now_ms: number }>`/* quota.progress_row */
    select ${db.dialect.nowMs} as now_ms, (select value from setting where key = ${KEY}) as value`;
  // Written below and by nobody else.
  const progress = row?.value == null ? { throughId: 0, reconcileMs: 0 } : (JSON.parse(row.value) as Progress);
  return { progress, nowMs: toNumber(row?.now_ms ?? 0) };
}

async function write(tx: Db, progress: Progress): Promise<void> {
  await tx.sql`/* quota.note_progress */
    insert into setting (key, value) values (${KEY}, ${JSON.stringify(progress)})
    on conflict (key) do update set value = excluded.value`;
}
