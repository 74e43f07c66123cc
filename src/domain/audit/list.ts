/**
 * The action log as it is shown: pages of a namespace, a repository or the whole registry, newest first, and counts by kind
 * and day. Ids become names here, in one query for a page; an account that is gone has none.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { type LogCount, type LogFilter, requireLookup, type StoredLogEntry } from "../../logsink/contract.ts";
import type { AccountKind } from "../user/account.ts";
import { SERVICE_KEY_KINDS } from "./kinds.ts";
import type { LogRange } from "./range.ts";
import { requireCountable } from "./range.ts";
import { createNameResolver } from "./resolve.ts";

type LogApp = Pick<App, "db" | "logsink" | "config">;

/** Whose log it is; nothing is the whole registry. */
export interface LogScope {
  readonly namespaceId?: number;
  readonly repositoryId?: number;
}

export interface LogQuery extends LogScope {
  readonly range: LogRange;
  /** User name of who did it. */
  readonly performer?: string | undefined;
  /** Leaves out what only superusers see. */
  readonly withoutServiceKeys: boolean;
}

/** Where the next page begins; opaque to callers. */
export interface LogPosition {
  readonly createdMs: number;
  readonly id: number;
  /** How many of the entries that this row counts were shown; 0 when all were. */
  readonly shown: number;
  /** Number of the page that begins here, from 2. */
  readonly page: number;
}

export interface ShownAccount {
  readonly kind: AccountKind;
  readonly username: string;
  readonly email: string | undefined;
}

export interface ShownEntry {
  readonly kind: string;
  readonly metadata: Record<string, unknown>;
  readonly ip: string | undefined;
  readonly createdMs: number;
  readonly performer: ShownAccount | undefined;
  readonly namespace: ShownAccount | undefined;
}

/** Source: quay-api reference, section 1.4. */
export const LOGS_PER_PAGE = 20;

/** One page, and where the next one begins if there is one. Throws `not_implemented` when the sink cannot look up. */
export async function listLogs(
  app: LogApp,
  query: LogQuery,
  position?: LogPosition,
): Promise<{ entries: ShownEntry[]; next: LogPosition | undefined }> {
  const lookup = requireLookup(app.logsink);
  const filter = await filterOf(app.db, query);
  const page = position?.page ?? 1;
  if (!filter || page > pagesMax(app)) return { entries: [], next: undefined };
  const rows = await lookup.list(filter, {
    order: "newest",
    limit: LOGS_PER_PAGE + 1,
    after: position,
    inclusive: position !== undefined && position.shown > 0,
  });
  const { shown, next } = takePage(rows, position);
  const entries = await nameEntries(app.db, shown);
  return { entries, next: next && page < pagesMax(app) ? { ...next, page: page + 1 } : undefined };
}

/** Counts by kind and day. Throws `invalid_request` beyond a month, `not_implemented` when the sink cannot look up. */
export async function countLogs(app: LogApp, query: LogQuery): Promise<LogCount[]> {
  requireCountable(query.range);
  const lookup = requireLookup(app.logsink);
  const filter = await filterOf(app.db, query);
  return filter ? lookup.aggregate(filter) : [];
}

/** Undefined when nothing can match: nobody has the performer's name. */
async function filterOf(db: Db, query: LogQuery): Promise<LogFilter | undefined> {
  const { namespaceId, repositoryId, range, withoutServiceKeys } = query;
  let performerId: number | undefined;
  if (query.performer !== undefined && query.performer !== "") {
    const performer = { name: query.performer };
    performerId = (await createNameResolver(db)([{ performer }])).account(query.performer);
    if (performerId === undefined) return undefined;
  }
  // A repository's entries are its namespace's too, so that its own index is enough.
  const scope = repositoryId === undefined ? { namespaceId } : { repositoryId };
  return { ...scope, performerId, ...range, withoutKinds: withoutServiceKeys ? SERVICE_KEY_KINDS : undefined };
}

function pagesMax(app: LogApp): number {
  return app.config.ACTION_LOG_MAX_PAGE ?? Number.POSITIVE_INFINITY;
}

/** Cuts a page out of rows of which each may count many entries. */
function takePage(
  rows: readonly StoredLogEntry[],
  position: LogPosition | undefined,
): { shown: StoredLogEntry[]; next: Omit<LogPosition, "page"> | undefined } {
  const shown: StoredLogEntry[] = [];
  for (const [index, row] of rows.entries()) {
    const before = row.id === position?.id ? position.shown : 0;
    const taken = Math.min(row.count - before, LOGS_PER_PAGE - shown.length);
    for (let copy = 0; copy < taken; copy++) shown.push(row);
    if (shown.length < LOGS_PER_PAGE) continue;
    const { createdMs, id } = row;
    if (before + taken < row.count) return { shown, next: { createdMs, id, shown: before + taken } };
    return { shown, next: index + 1 < rows.length ? { createdMs, id, shown: 0 } : undefined };
  }
  return { shown, next: undefined };
}

/** The entries with the names of who did it and whose namespace it was. One query for all. */
export async function nameEntries(db: Db, entries: readonly StoredLogEntry[]): Promise<ShownEntry[]> {
  const ids = new Set<number>();
  for (const { performerId, namespaceId } of entries) {
    if (performerId !== undefined) ids.add(performerId);
    if (namespaceId !== undefined) ids.add(namespaceId);
  }
  const accounts = await findShownAccounts(db, [...ids]);
  const named = (id: number | undefined) => (id === undefined ? undefined : accounts.get(id));
  return entries.map((entry) => ({
    kind: entry.kind,
    metadata: parseMetadata(entry.metadata),
    ip: entry.ip,
    createdMs: entry.createdMs,
    performer: named(entry.performerId),
    namespace: named(entry.namespaceId),
  }));
}

async function findShownAccounts(db: Db, ids: readonly number[]): Promise<Map<number, ShownAccount>> {
  if (ids.length === 0) return new Map();
  const rows = await db.sql<{
    id: number;
    kind: AccountKind;
    username: string;
    email: string | null;
  }>`/* audit.accounts */
    select id, kind, username, email from account where ${db.dialect.inList("id", ids)} and deleted_ms is null`;
  return new Map(
    rows.map(({ id, kind, username, email }) => [toNumber(id), { kind, username, email: email ?? undefined }]),
  );
}

/** What is no JSON object, which only a hand in the database makes, is shown as it is. */
export function parseMetadata(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Shown below.
  }
  return { __raw: text };
}
