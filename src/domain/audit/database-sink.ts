/**
 * The built-in sink: rows of `action_log` in our own database. Entries of changes are not written here but by `logAction`,
 * in the transaction of the change; this takes what is gathered beside requests, and reads everything back.
 */

import type { Database, Db, SqlQuery, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { LogCount, LogEntry, LogFilter, LogLookup, LogSink, StoredLogEntry } from "../../logsink/contract.ts";

/** Rows of one statement at most; a power of two, so that few texts need to be prepared. */
const ROWS_MAX = 256;

export function createDatabaseSink(db: Database): LogSink & { readonly lookup: LogLookup } {
  return {
    name: "database",
    write: (entries) => db.tx((tx) => insertEntries(tx, entries)),
    lookup: {
      list: (filter, page) => listEntries(db, filter, page),
      aggregate: (filter) => aggregateEntries(db, filter),
    },
  };
}

async function insertEntries(tx: Tx, entries: readonly LogEntry[]): Promise<void> {
  for (let at = 0; at < entries.length; ) {
    const rows = 2 ** Math.floor(Math.log2(Math.min(entries.length - at, ROWS_MAX)));
    const values = entries
      .slice(at, at + rows)
      .map((entry) => [
        entry.kind,
        entry.namespaceId ?? null,
        entry.performerId ?? null,
        entry.repositoryId ?? null,
        entry.ip ?? null,
        entry.metadata,
        entry.count,
        entry.createdMs,
      ]);
    await tx.sql`/* audit.insert_batch */
      insert into action_log (kind, namespace_id, performer_id, repository_id, ip, metadata, entry_count, created_ms)
      values ${tx.dialect.rows(values)}`;
    at += rows;
  }
}

export interface EntryRow {
  id: number;
  kind: string;
  namespace_id: number | null;
  performer_id: number | null;
  repository_id: number | null;
  ip: string | null;
  metadata: string;
  entry_count: number;
  created_ms: number;
}

async function listEntries(
  db: Db,
  filter: LogFilter,
  page: Parameters<LogLookup["list"]>[1],
): Promise<StoredLogEntry[]> {
  const { after, inclusive, limit } = page;
  const newest = page.order === "newest";
  const rows = await db.sql<EntryRow>`/* audit.list */
    select id, kind, namespace_id, performer_id, repository_id, ip, metadata, entry_count, created_ms
    from action_log where ${matching(db, filter)} ${after ? from(db, after, newest, inclusive === true) : db.sql``}
    order by ${newest ? db.sql`created_ms desc, id desc` : db.sql`created_ms, id`} limit ${limit}`;
  return rows.map(decodeEntry);
}

function from(
  db: Db,
  after: { createdMs: number; id: number },
  newest: boolean,
  inclusive: boolean,
): SqlQuery<unknown> {
  const { createdMs, id } = after;
  if (newest) {
    return inclusive
      ? db.sql`and (created_ms, id) <= (${createdMs}, ${id})`
      : db.sql`and (created_ms, id) < (${createdMs}, ${id})`;
  }
  return inclusive
    ? db.sql`and (created_ms, id) >= (${createdMs}, ${id})`
    : db.sql`and (created_ms, id) > (${createdMs}, ${id})`;
}

async function aggregateEntries(db: Db, filter: LogFilter): Promise<LogCount[]> {
  const rows = await db.sql<{ kind: string; day: number; entries: number }>`/* audit.aggregate */
    select kind, created_ms / 86400000 as day, cast(sum(entry_count) as bigint) as entries
    from action_log where ${matching(db, filter)} group by kind, created_ms / 86400000 order by 2, kind`;
  return rows.map((row) => ({
    kind: row.kind,
    dayMs: toNumber(row.day) * 86_400_000,
    count: toNumber(row.entries),
  }));
}

function matching(db: Db, filter: LogFilter): SqlQuery<unknown> {
  const { namespaceId, repositoryId, performerId, withoutKinds } = filter;
  return db.sql`created_ms >= ${filter.startMs} and created_ms < ${filter.endMs}
    ${namespaceId === undefined ? db.sql`` : db.sql`and namespace_id = ${namespaceId}`}
    ${repositoryId === undefined ? db.sql`` : db.sql`and repository_id = ${repositoryId}`}
    ${performerId === undefined ? db.sql`` : db.sql`and performer_id = ${performerId}`}
    ${withoutKinds?.length ? db.sql`and not (${db.dialect.inList("kind", withoutKinds)})` : db.sql``}`;
}

/** Also used by archiving, which reads rows in the order of their ids. */
export function decodeEntry(row: EntryRow): StoredLogEntry {
  const optional = (id: number | null) => (id === null ? undefined : toNumber(id));
  return {
    id: toNumber(row.id),
    kind: row.kind,
    namespaceId: optional(row.namespace_id),
    performerId: optional(row.performer_id),
    repositoryId: optional(row.repository_id),
    ip: row.ip ?? undefined,
    metadata: row.metadata,
    createdMs: toNumber(row.created_ms),
    count: toNumber(row.entry_count),
  };
}
