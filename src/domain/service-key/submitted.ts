/**
 * Keys that services bring themselves, without a log-in: proven by a JWT that the key itself has signed they wait for a
 * superuser, proven by an older key of the service that is trusted they take its place. Source: quay-behaviour, section 20.
 */

import { decodeProtectedHeader, errors, importJWK, jwtVerify } from "jose";
import { z } from "zod";
import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { ANONYMOUS } from "../access/actor.ts";
import type { RequestOrigin } from "../audit/audit.ts";
import { findSuperuserIds } from "../superuser/queries.ts";
import {
  countUnapproved,
  endNotices,
  findKey,
  insertKey,
  insertNotice,
  lockKey,
  type NewKey,
  type ServiceKey,
  updateKey,
} from "./queries.ts";
import { dropKey, isServiceName, keyMetadata, logKey, requireForeign, requireFuture } from "./service-key.ts";

type KeyApp = Pick<App, "config" | "db" | "clock">;

/** Anybody may bring a key, so only so many wait at a time. */
const WAITING_MAX = 100;
const KID = /^[A-Za-z0-9._:=-]{1,255}$/;
const PART_CHARS_MAX = 1024;
const ROTATION_SECONDS_MAX = 365 * 24 * 3600;
/** For clocks that differ. */
const LEEWAY_SECONDS = 30;

const part = () => z.string().min(1).max(PART_CHARS_MAX);
/** The public parts, and nothing else is kept. */
const publicJwk = () =>
  z.discriminatedUnion("kty", [
    z.object({ kty: z.literal("RSA"), n: part(), e: part(), d: z.never().optional() }),
    z.object({ kty: z.literal("EC"), crv: z.literal("P-256"), x: part(), y: part(), d: z.never().optional() }),
  ]);
type PublicJwk = z.output<ReturnType<typeof publicJwk>>;

export interface Proof {
  /** A JWT: issuer is the service, audience this registry. */
  readonly jwt: string;
  /** Root of this registry's URLs. */
  readonly audience: string;
}

export interface SubmittedKey extends Proof {
  readonly service: string;
  readonly kid: string;
  readonly jwk: unknown;
  /** Epoch ms. */
  readonly expiresMs: number | undefined;
  /** How long the key still counts after another one replaced it. */
  readonly rotationSeconds: number | undefined;
}

/**
 * Takes a key: "waiting" when a superuser has to approve it, "rotated" when it replaced the one that signed. Throws
 * `invalid_request` for what proves nothing, `denied` for a signer that is not trusted, `conflict` for an id that is taken,
 * and `too_many_requests` while too many wait.
 */
export async function submitKey(
  app: KeyApp,
  request: RequestOrigin,
  input: SubmittedKey,
): Promise<"waiting" | "rotated"> {
  const { service, kid } = input;
  requireNames(service, kid);
  requireForeign(app.config, service);
  requireFuture(app, input.expiresMs);
  requireRotation(input.rotationSeconds);
  const jwk = parseJwk(input.jwk);
  const signerKid = signerOf(input.jwt);
  if (signerKid !== undefined && signerKid !== kid) {
    await rotate(app, request, { ...input, jwk }, signerKid);
    return "rotated";
  }
  await requireProof(app, service, input, jwk);
  await keepWaiting(app, request, { ...input, jwk });
  return "waiting";
}

/** Removes a key, as proven by itself or by a trusted one of its service. Throws as `submitKey`, and `not_found`. */
export async function withdrawKey(
  app: KeyApp,
  request: RequestOrigin,
  input: Proof & { service: string; kid: string },
): Promise<void> {
  const { service, kid } = input;
  requireNames(service, kid);
  requireForeign(app.config, service);
  const signerKid = signerOf(input.jwt);
  if (signerKid === undefined) throw invalid("The token's header names no key that signed it");
  const signer = await getSigner(app, service, signerKid);
  if (signerKid !== kid && !signer.approval) throw untrusted();
  await requireProof(app, service, input, signer.jwk);
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const key = await lockKey(tx, kid);
    if (key?.service !== service) throw new RegistryError("not_found");
    await dropKey(tx, key);
    const metadata = { ...keyMetadata(key), signer_kid: signerKid, ...originOf(request) };
    await logKey(app.config, tx, { kind: "service_key_delete", caller: ANONYMOUS, request, nowMs, metadata });
  });
}

type Checked = SubmittedKey & { readonly jwk: PublicJwk };

async function keepWaiting(app: KeyApp, request: RequestOrigin, input: Checked): Promise<void> {
  const nowMs = app.clock.nowMs();
  const key: NewKey = {
    ...input,
    name: "",
    metadata: { ip: request.ip ?? null },
    approval: undefined,
    nowMs,
  };
  await app.db.tx(async (tx) => {
    // Those who come at once take turns, so that the bound holds.
    await tx.sql`/* service_key.lock_waiting */
      insert into setting (key, value) values ('service_keys', '') on conflict (key) do update set value = excluded.value`;
    if ((await countUnapproved(tx, WAITING_MAX)) >= WAITING_MAX) {
      throw new RegistryError("too_many_requests", { message: "too many keys wait for approval; try again later" });
    }
    await insertOrRefuse(tx, key);
    await tellSuperusers(app, tx, key);
    const metadata = { preshared: false, ...keyMetadata(key), ...originOf(request) };
    await logKey(app.config, tx, { kind: "service_key_create", caller: ANONYMOUS, request, nowMs, metadata });
  });
}

async function rotate(app: KeyApp, request: RequestOrigin, input: Checked, signerKid: string): Promise<void> {
  const nowMs = app.clock.nowMs();
  const signer = await getSigner(app, input.service, signerKid);
  await requireProof(app, input.service, input, signer.jwk);
  await app.db.tx(async (tx) => {
    // Once more, locked: of two rotations at once the second finds the signer replaced.
    const old = await lockKey(tx, signerKid);
    if (!old?.approval || isOver(old, nowMs)) throw untrusted();
    const key: NewKey = {
      ...input,
      name: old.name,
      metadata: { ...old.metadata, ip: request.ip ?? null, created_by: "Key Rotation" },
      rotationSeconds: input.rotationSeconds ?? old.rotationSeconds,
      approval: {
        type: "ServiceKeyApprovalType.KEY_ROTATION",
        approvedMs: nowMs,
        notes: "",
        approverId: old.approval.approverId,
      },
      nowMs,
    };
    await insertOrRefuse(tx, key);
    const untilMs = nowMs + (old.rotationSeconds ?? 0) * 1000;
    await updateKey(tx, old, { expiresMs: Math.min(untilMs, old.expiresMs ?? untilMs) });
    await endNotices(tx, [old.kid]);
    const metadata = { ...keyMetadata(key), signer_kid: signerKid, ...originOf(request) };
    await logKey(app.config, tx, { kind: "service_key_rotate", caller: ANONYMOUS, request, nowMs, metadata });
  });
}

async function insertOrRefuse(tx: Tx, key: NewKey): Promise<void> {
  if (await insertKey(tx, key)) return;
  throw new RegistryError("conflict", { message: `there is a key "${key.kid}" already` });
}

async function tellSuperusers(app: KeyApp, tx: Tx, key: NewKey): Promise<void> {
  const { kid, service, name, jwk, nowMs, expiresMs } = key;
  const seconds = (ms: number) => Math.floor(ms / 1000);
  const metadata = {
    kid,
    service,
    name,
    jwk,
    metadata: key.metadata,
    created_date: seconds(nowMs),
    ...(expiresMs === undefined ? {} : { expiration_date: seconds(expiresMs) }),
  };
  const listed = app.config.FEATURE_SUPER_USERS ? app.config.SUPER_USERS : [];
  for (const accountId of await findSuperuserIds(tx, listed)) {
    await insertNotice(tx, { accountId, kid, metadata, nowMs });
  }
}

/** A key that counts, of this service. Throws `denied`, whatever it is that is wrong with it. */
async function getSigner(app: KeyApp, service: string, kid: string): Promise<ServiceKey> {
  const signer = KID.test(kid) ? await findKey(app.db, kid) : undefined;
  if (signer?.service !== service || isOver(signer, app.clock.nowMs())) throw untrusted();
  return signer;
}

function isOver(key: ServiceKey, nowMs: number): boolean {
  return key.expiresMs !== undefined && key.expiresMs <= nowMs;
}

/** The key that a token says it was signed with, before anything of it is believed. */
function signerOf(jwt: string): string | undefined {
  try {
    return decodeProtectedHeader(jwt).kid;
  } catch {
    throw invalid("The Authorization header holds no JWT that could be read");
  }
}

/** The token is signed by this key, by this service, for us, and not over. Only the key's own algorithm is tried. */
async function requireProof(
  app: KeyApp,
  service: string,
  { jwt, audience }: Proof,
  jwk: Readonly<Record<string, unknown>>,
): Promise<void> {
  const algorithm = jwk.kty === "RSA" ? "RS256" : "ES256";
  try {
    await jwtVerify(jwt, await importJWK(jwk, algorithm), {
      algorithms: [algorithm],
      issuer: service,
      audience,
      requiredClaims: ["exp"],
      currentDate: new Date(app.clock.nowMs()),
      clockTolerance: LEEWAY_SECONDS,
    });
  } catch (error) {
    const reason = error instanceof errors.JOSEError ? error.message : "the key cannot be used";
    throw invalid(`The token does not prove the key: ${reason}`);
  }
}

function parseJwk(value: unknown): PublicJwk {
  const parsed = publicJwk().safeParse(value, { jitless: true });
  if (parsed.success) return parsed.data;
  throw invalid("The body must be a public JWK: RSA with n and e, or EC with crv P-256, x and y, and no private part");
}

function requireNames(service: string, kid: string): void {
  if (!isServiceName(service)) throw invalid("Invalid service name: it must match [a-z0-9_]+");
  if (!KID.test(kid)) throw invalid("Invalid key id: 1 to 255 letters, digits and . _ : = -");
}

function requireRotation(seconds: number | undefined): void {
  if (seconds === undefined || (Number.isInteger(seconds) && seconds >= 0 && seconds <= ROTATION_SECONDS_MAX)) return;
  throw invalid("Invalid rotation: seconds, from 0 to a year");
}

function originOf(request: RequestOrigin) {
  return { user_agent: request.userAgent ?? null, ip: request.ip ?? null };
}

function untrusted(): RegistryError {
  return new RegistryError("denied", { message: "the key that signed the token is not one that is trusted here" });
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
