/**
 * Service keys in the hands of superusers: making, changing, approving and deleting them, and removing those that nobody
 * wants any more. How services bring keys themselves is `submitted.ts`. Source: quay-api, section 15; quay-behaviour, 20.
 */

import { calculateJwkThumbprint, exportJWK, exportPKCS8, exportSPKI, generateKeyPair } from "jose";
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { TOKEN_KEYS } from "../token/keys.ts";
import {
  endNotices,
  findKey,
  findStaleKeys,
  insertKey,
  lockKey,
  removeKey,
  type ServiceKey,
  setApproval,
  updateKey,
} from "./queries.ts";

type KeyApp = Pick<App, "config" | "db" | "clock">;

/** As in Quay: what every JWT library can verify. */
const ALGORITHM = "RS256";
const MODULUS_BITS = 2048;
const NAME_CHARS_MAX = 254;
const METADATA_CHARS_MAX = 16 * 1024;

/** Source: quay-behaviour reference, section 1. */
export function isServiceName(text: string): boolean {
  return /^[a-z0-9_]{1,255}$/.test(text);
}

export interface NewServiceKey {
  readonly service: string;
  readonly name: string;
  /** Epoch ms; undefined: never. */
  readonly expiresMs: number | undefined;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly notes: string;
}

export interface MadeServiceKey {
  readonly kid: string;
  readonly publicPem: string;
  /** Shown once and kept nowhere. */
  readonly privatePem: string;
}

/** Makes a key pair for a service, approved by who made it. Throws `invalid_request` with Quay's texts. */
export async function createServiceKey(
  app: KeyApp,
  caller: Caller,
  request: RequestOrigin,
  input: NewServiceKey,
): Promise<MadeServiceKey> {
  const { service, name, expiresMs, notes } = input;
  if (!isServiceName(service)) throw invalid("Invalid service name: it must match [a-z0-9_]+");
  requireForeign(app.config, service);
  requireName(name);
  requireFuture(app, expiresMs);
  const metadata = {
    ...input.metadata,
    created_by: "Quay Superuser Panel",
    creator: caller.principal?.username ?? null,
    ip: request.ip ?? null,
  };
  requireBounded(metadata);
  const pair = await generateKeyPair(ALGORITHM, { modulusLength: MODULUS_BITS, extractable: true });
  const jwk = await exportJWK(pair.publicKey);
  const kid = await calculateJwkThumbprint(jwk);
  const nowMs = app.clock.nowMs();
  const approval = {
    type: "ServiceKeyApprovalType.SUPERUSER",
    approvedMs: nowMs,
    notes,
    approverId: caller.principal?.accountId,
  } as const;
  await app.db.tx(async (tx) => {
    await insertKey(tx, { kid, service, name, jwk, metadata, expiresMs, rotationSeconds: undefined, approval, nowMs });
    const entry = { preshared: true, auto_approved: true, ...keyMetadata({ kid, service, name, expiresMs }) };
    for (const kind of ["service_key_create", "service_key_approve"] as const) {
      await logKey(app.config, tx, { kind, caller, request, nowMs, metadata: entry });
    }
  });
  return { kid, publicPem: await exportSPKI(pair.publicKey), privatePem: await exportPKCS8(pair.privateKey) };
}

export interface ServiceKeyChange {
  readonly name?: string | undefined;
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  /** Epoch ms; null: never; undefined: as it is. */
  readonly expiresMs?: number | null | undefined;
}

/** Changes a key and gives it as it is then. Throws `not_found` and `invalid_request`. */
export async function updateServiceKey(
  app: KeyApp,
  caller: Caller,
  request: RequestOrigin,
  kid: string,
  change: ServiceKeyChange,
): Promise<ServiceKey> {
  const { name, metadata, expiresMs } = change;
  if (name !== undefined) requireName(name);
  if (metadata !== undefined) requireBounded(metadata);
  requireFuture(app, expiresMs ?? undefined);
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    const key = await getLocked(tx, kid);
    if (key.isOwn && expiresMs !== undefined) {
      throw invalid("The registry itself decides how long the keys live that it signs its tokens with");
    }
    await updateKey(tx, key, change);
    const after = await getLocked(tx, kid);
    if (expiresMs !== undefined) {
      const entry = { ...keyMetadata(after), old_expiration_date: isoOf(key.expiresMs) };
      await logKey(app.config, tx, { kind: "service_key_extend", caller, request, nowMs, metadata: entry });
    }
    if (name !== undefined || metadata !== undefined) {
      const entry = keyMetadata(after);
      await logKey(app.config, tx, { kind: "service_key_modify", caller, request, nowMs, metadata: entry });
    }
    return after;
  });
}

/** Trusts a key from now on; one that is trusted already stays as it is. Throws `not_found`. */
export async function approveServiceKey(
  app: KeyApp,
  caller: Caller,
  request: RequestOrigin,
  kid: string,
  notes: string,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const key = await getLocked(tx, kid);
    if (key.approval) return;
    const approverId = caller.principal?.accountId;
    await setApproval(tx, kid, { type: "ServiceKeyApprovalType.SUPERUSER", approvedMs: nowMs, notes, approverId });
    await endNotices(tx, [kid]);
    const metadata = keyMetadata(key);
    await logKey(app.config, tx, { kind: "service_key_approve", caller, request, nowMs, metadata });
  });
}

/**
 * Deletes a key; what it signed is worth nothing from then on. Of the registry's own: tokens it signed end on every
 * instance, and the next token makes a new key. Throws `not_found`.
 */
export async function deleteServiceKey(
  app: KeyApp,
  caller: Caller,
  request: RequestOrigin,
  kid: string,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const key = await getLocked(tx, kid);
    await dropKey(tx, key);
    const metadata = { ...keyMetadata(key), created_date: isoOf(key.createdMs) };
    await logKey(app.config, tx, { kind: "service_key_delete", caller, request, nowMs, metadata });
  });
}

/** Removes a key and what superusers were told about it. */
export async function dropKey(tx: Tx, key: ServiceKey): Promise<void> {
  await removeKey(tx, key.kid);
  await endNotices(tx, [key.kid]);
  if (key.isOwn) tx.changed(TOKEN_KEYS);
}

/**
 * Removes up to `limit` keys that nobody approved in UNAPPROVED_SERVICE_KEY_TTL_SEC or that have been over for
 * EXPIRED_SERVICE_KEY_TTL_SEC; gives how many there were.
 */
export async function sweepServiceKeys(app: KeyApp, limit: number): Promise<number> {
  const nowMs = app.clock.nowMs();
  const before = {
    createdMs: nowMs - app.config.UNAPPROVED_SERVICE_KEY_TTL_SEC * 1000,
    expiresMs: nowMs - app.config.EXPIRED_SERVICE_KEY_TTL_SEC * 1000,
  };
  if ((await findStaleKeys(app.db, before, 1)).length === 0) return 0;
  return app.db.tx(async (tx) => {
    const kids = await findStaleKeys(tx, before, limit);
    for (const kid of kids) await removeKey(tx, kid);
    await endNotices(tx, kids);
    return kids.length;
  });
}

async function getLocked(tx: Tx, kid: string): Promise<ServiceKey> {
  const key = await lockKey(tx, kid);
  if (!key) throw new RegistryError("not_found");
  return key;
}

/** A key by its id. Throws `not_found`. */
export async function getServiceKey(app: Pick<App, "db">, kid: string): Promise<ServiceKey> {
  const key = await findKey(app.db, kid);
  if (!key) throw new RegistryError("not_found");
  return key;
}

/** Nobody else brings keys for the registry's own service: they would stand beside those that its tokens are known by. */
export function requireForeign(config: Pick<Config, "INSTANCE_SERVICE_KEY_SERVICE">, service: string): void {
  if (service !== config.INSTANCE_SERVICE_KEY_SERVICE) return;
  throw invalid(`The registry makes the keys of its own service "${service}" itself`);
}

/** An entry about keys; SERVICE_LOG_ACCOUNT_ID says in whose log it stands. */
export async function logKey(
  config: Pick<Config, "SERVICE_LOG_ACCOUNT_ID">,
  tx: Tx,
  entry: {
    kind: ActionKind;
    caller: Caller;
    request: RequestOrigin;
    nowMs: number;
    metadata: Record<string, unknown>;
  },
): Promise<void> {
  await logAction(tx, { ...entry, namespaceId: config.SERVICE_LOG_ACCOUNT_ID ?? undefined });
}

/** What every entry about a key tells. Source: quay-behaviour reference, section 13. */
export function keyMetadata(key: Pick<ServiceKey, "kid" | "service" | "name" | "expiresMs">) {
  return { kid: key.kid, service: key.service, name: key.name, expiration_date: isoOf(key.expiresMs) };
}

function isoOf(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}

function requireName(name: string): void {
  if (name.length > NAME_CHARS_MAX) throw invalid(`Invalid service key friendly name: ${name.slice(0, 64)}…`);
}

export function requireFuture(app: Pick<App, "clock">, expiresMs: number | undefined): void {
  if (expiresMs === undefined) return;
  if (expiresMs <= app.clock.nowMs()) throw invalid("Expiration date cannot be in the past");
  if (!Number.isSafeInteger(expiresMs) || expiresMs > EXPIRES_MS_MAX) throw invalid("Invalid expiration date");
}

/** The last date that JavaScript, Python and both databases can write. */
const EXPIRES_MS_MAX = Date.UTC(9999, 11, 31);

function requireBounded(metadata: Readonly<Record<string, unknown>>): void {
  if (JSON.stringify(metadata).length > METADATA_CHARS_MAX) {
    throw invalid(`The metadata of a key is longer than ${METADATA_CHARS_MAX} characters of JSON`);
  }
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
