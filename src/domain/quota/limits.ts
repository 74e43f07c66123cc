/**
 * Quotas of namespaces and their limits: reading, checking and changing them. What a namespace uses is `report.ts`; what a
 * push may still add is decided where pushes are. Source: quay-api reference, section 13; quay-behaviour, section 9.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import { type ActionMetadata, logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { findAccount } from "../user/account.ts";
import {
  findQuota,
  insertLimit,
  insertQuota,
  type LimitType,
  lockQuota,
  type NamespaceQuota,
  type QuotaLimit,
  removeLimit,
  removeQuota,
  updateLimit,
  updateQuota,
} from "./queries.ts";

type QuotaApp = Pick<App, "db" | "clock">;

/** Whose quota it is, by id, and its name for texts and the log. */
export interface QuotaOwner {
  readonly id: number;
  readonly username: string;
}

/** Who changes a quota, and from where. */
export interface QuotaChange {
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

/** What somebody wants a limit to be. */
export interface LimitInput {
  readonly type: string;
  readonly percent: number;
}

/** The user or organization of this name. Throws `not_found`, also for robots: they have no namespace. */
export async function getQuotaOwner(db: Db, name: string, kind?: "organization"): Promise<QuotaOwner> {
  const account = await findAccount(db, name);
  if (!account || account.kind === "robot" || (kind && account.kind !== kind)) throw new RegistryError("not_found");
  return account;
}

/** The namespace's quota with this id. Throws `not_found`, also for another namespace's. */
export async function getQuota(db: Db, namespaceId: number, quotaId: number): Promise<NamespaceQuota> {
  const quota = await findQuota(db, namespaceId);
  if (quota?.id !== quotaId) throw new RegistryError("not_found");
  return quota;
}

/** A limit of that quota. Throws `not_found`, also for another quota's. */
export async function getLimit(db: Db, namespaceId: number, quotaId: number, limitId: number): Promise<QuotaLimit> {
  return limitOf(await getQuota(db, namespaceId, quotaId), limitId);
}

/** Gives a namespace its one quota. Throws `invalid_request`: with `existsText` when it has one already. */
export async function createQuota(
  app: QuotaApp,
  owner: QuotaOwner,
  limitBytes: number,
  existsText: string,
  change: QuotaChange,
): Promise<void> {
  await app.db.tx(async (tx) => {
    await holdOwner(tx, owner);
    if (await findQuota(tx, owner.id)) throw invalid(existsText);
    requireBytes(limitBytes);
    if (!(await insertQuota(tx, owner.id, limitBytes))) throw invalid(existsText);
    await log(app, tx, owner, change, "org_create_quota", { limit_bytes: limitBytes, limit: bytesText(limitBytes) });
  });
}

/** Gives a quota another size and gives it as it is then; undefined leaves it. Throws `not_found`, `invalid_request`. */
export async function resizeQuota(
  app: QuotaApp,
  owner: QuotaOwner,
  quotaId: number,
  limitBytes: number | undefined,
  change: QuotaChange,
): Promise<NamespaceQuota> {
  if (limitBytes === undefined) return getQuota(app.db, owner.id, quotaId);
  return app.db.tx(async (tx) => {
    const quota = found(await lockQuota(tx, owner.id, quotaId));
    requireBytes(limitBytes);
    if (limitBytes === quota.limitBytes) return quota;
    await updateQuota(tx, quotaId, limitBytes);
    await log(app, tx, owner, change, "org_change_quota", {
      limit_bytes: limitBytes,
      limit: bytesText(limitBytes),
      previous_limit_bytes: quota.limitBytes,
      previous_limit: bytesText(quota.limitBytes),
    });
    return { ...quota, limitBytes };
  });
}

/** Takes a namespace's quota away, with its limits. Throws `not_found`. */
export async function deleteQuota(
  app: QuotaApp,
  owner: QuotaOwner,
  quotaId: number,
  change: QuotaChange,
): Promise<void> {
  await app.db.tx(async (tx) => {
    const { limitBytes } = found(await lockQuota(tx, owner.id, quotaId));
    await removeQuota(tx, quotaId);
    const metadata = { quota_id: quotaId, limit_bytes: limitBytes, limit: bytesText(limitBytes) };
    await log(app, tx, owner, change, "org_delete_quota", metadata);
  });
}

/** Adds a limit to a quota. Throws `not_found`, `invalid_request` with Quay's texts. */
export async function createLimit(
  app: QuotaApp,
  owner: QuotaOwner,
  quotaId: number,
  input: LimitInput,
  change: QuotaChange,
): Promise<void> {
  await app.db.tx(async (tx) => {
    const quota = found(await lockQuota(tx, owner.id, quotaId));
    const limit = { type: readType(input.type), percent: requirePercent(input.percent) };
    requireRoomFor(limit, quota.limits);
    await insertLimit(tx, quotaId, limit);
    const metadata = { type: limit.type, threshold_percent: limit.percent };
    await log(app, tx, owner, change, "org_create_quota_limit", metadata);
  });
}

/** Changes a limit and gives its quota as it is then. What is undefined stays. Throws as creating one. */
export async function changeLimit(
  app: QuotaApp,
  owner: QuotaOwner,
  path: { readonly quotaId: number; readonly limitId: number },
  input: { readonly type: string | undefined; readonly percent: number | undefined },
  change: QuotaChange,
): Promise<NamespaceQuota> {
  return app.db.tx(async (tx) => {
    const quota = found(await lockQuota(tx, owner.id, path.quotaId));
    const before = limitOf(quota, path.limitId);
    const limit = {
      id: before.id,
      type: input.type === undefined ? before.type : readType(input.type),
      percent: input.percent === undefined ? before.percent : requirePercent(input.percent),
    };
    const others = quota.limits.filter(({ id }) => id !== limit.id);
    requireRoomFor(limit, others);
    if (limit.type === before.type && limit.percent === before.percent) return quota;
    await updateLimit(tx, limit);
    await log(app, tx, owner, change, "org_change_quota_limit", {
      type: limit.type,
      threshold_percent: limit.percent,
      previous_type: before.type,
      previous_threshold_percent: before.percent,
    });
    return { ...quota, limits: quota.limits.map((each) => (each.id === limit.id ? limit : each)) };
  });
}

/** Throws `not_found`. */
export async function deleteLimit(
  app: QuotaApp,
  owner: QuotaOwner,
  path: { readonly quotaId: number; readonly limitId: number },
  change: QuotaChange,
): Promise<void> {
  await app.db.tx(async (tx) => {
    const limit = limitOf(found(await lockQuota(tx, owner.id, path.quotaId)), path.limitId);
    await removeLimit(tx, limit.id);
    const metadata = { limit_id: limit.id, type: limit.type, threshold_percent: limit.percent };
    await log(app, tx, owner, change, "org_delete_quota_limit", metadata);
  });
}

/** Keeps the namespace from being deleted before its quota is there, which would be left behind. */
async function holdOwner(tx: Tx, owner: QuotaOwner): Promise<void> {
  const rows = await tx.sql`/* quota.owner */
    select id from account where id = ${owner.id} and deleted_ms is null ${tx.dialect.forKeyShare}`;
  if (rows.length === 0) throw new RegistryError("not_found");
}

function requireBytes(limitBytes: number): void {
  if (!Number.isInteger(limitBytes) || limitBytes <= 0) {
    throw invalid(`Invalid quota size limit value: '${limitBytes}'`);
  }
  // JSON's numbers are exact to here: what is kept would not be what was asked for.
  if (!Number.isSafeInteger(limitBytes)) throw invalid("Unsupported quota size limit.");
}

function requirePercent(percent: number): number {
  if (Number.isInteger(percent) && percent >= 1 && percent <= 100) return percent;
  throw invalid("Quota limit threshold must be between 1 and 100");
}

function readType(type: string): LimitType {
  const small = type.toLowerCase();
  if (small === "warning") return "Warning";
  if (small === "reject") return "Reject";
  throw invalid("Quota type must be one of [Warning, Reject]");
}

/** A quota refuses from one size on; it may warn at several. */
function requireRoomFor(limit: Omit<QuotaLimit, "id">, others: readonly QuotaLimit[]): void {
  if (others.some(({ type, percent }) => type === limit.type && percent === limit.percent)) {
    throw invalid("Quota limit already exists");
  }
  if (limit.type === "Reject" && others.some(({ type }) => type === "Reject")) {
    throw invalid("Only one quota limit of type 'Reject' allowed.");
  }
}

function limitOf(quota: NamespaceQuota, limitId: number): QuotaLimit {
  return found(quota.limits.find(({ id }) => id === limitId));
}

function found<T>(subject: T | undefined): T {
  if (subject === undefined) throw new RegistryError("not_found");
  return subject;
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}

const UNITS = ["Byte", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** As Quay's log words sizes: `1.5 GiB`. */
function bytesText(bytes: number): string {
  const step = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), UNITS.length - 1);
  return `${(bytes / 1024 ** step).toFixed(1)} ${UNITS[step]}`;
}

/** Quay's words for these kinds say "org" also where it is a user's namespace. */
async function log(
  app: QuotaApp,
  tx: Tx,
  owner: QuotaOwner,
  { caller, request }: QuotaChange,
  kind: ActionKind,
  metadata: ActionMetadata,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  const all = { namespace: owner.username, ...metadata };
  await logAction(tx, { kind, caller, namespaceId: owner.id, request, nowMs, metadata: all });
}
