/**
 * Credentials that can be taken back one by one: app-specific tokens, OAuth tokens and federated log-ins of robots. What
 * was once found right by its secret is known from then on by an id, and asked for by that id whether it still holds; so
 * a revoked token ends at once what was made with it. Checking the secrets is the business of the kinds' own folders.
 */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { Credential, OauthScope } from "../access/actor.ts";
import { parseStoredScopes } from "../oauth/scopes.ts";

/** What a credential is worth as long as its row is there. */
export interface CredentialFacts {
  readonly accountId: number;
  readonly credential: Credential;
  /** What an OAuth token allows at most; undefined: no such cap. */
  readonly scopes: ReadonlySet<OauthScope> | undefined;
  /** Epoch ms; undefined: it does not expire. */
  readonly expiresMs: number | undefined;
}

/** Names a credential in registry tokens and cache keys; undefined for those that live and die with their account. */
export function credentialId(accountId: number, credential: Credential): string | undefined {
  if (credential.kind === "app-token") return `app-token:${credential.uuid}`;
  if (credential.kind === "oauth") return `oauth:${credential.uuid}`;
  if (credential.kind === "federation") return federationId(accountId, credential.issuer, credential.subject);
  return undefined;
}

/** Cache key of one credential: whoever takes it back names this in `tx.changed`. */
export function credentialKey(id: string): string {
  return `credential:${id}`;
}

export function federationId(robotId: number, issuer: string, subject: string): string {
  const hash = new Bun.CryptoHasher("sha256").update(JSON.stringify([issuer, subject])).digest("hex");
  return `federation:${robotId}:${hash.slice(0, 32)}`;
}

/** The credential of this id as it stands now, undefined when it was taken back. Expiry is left to the caller. */
export async function findCredential(db: Db, id: string): Promise<CredentialFacts | undefined> {
  const [kind, ...rest] = id.split(":");
  const key = rest.join(":");
  if (kind === "app-token") return findAppToken(db, key);
  if (kind === "oauth") return findOauthToken(db, key);
  if (kind === "federation") return findFederation(db, id, Number(rest[0]));
  return undefined;
}

async function findAppToken(db: Db, uuid: string): Promise<CredentialFacts | undefined> {
  const [row] = await db.sql<{
    account_id: number;
    title: string;
    expires_ms: number | null;
  }>`/* credential.app_token */
    select account_id, title, expires_ms from app_token where uuid = ${uuid}`;
  if (!row) return undefined;
  return {
    accountId: toNumber(row.account_id),
    credential: { kind: "app-token", uuid, title: row.title },
    scopes: undefined,
    expiresMs: row.expires_ms === null ? undefined : toNumber(row.expires_ms),
  };
}

async function findOauthToken(db: Db, uuid: string): Promise<CredentialFacts | undefined> {
  const [row] = await db.sql<{
    account_id: number;
    scope: string;
    expires_ms: number;
    client_id: string;
    name: string;
  }>`/* credential.oauth */
    select t.account_id, t.scope, t.expires_ms, a.client_id, a.name
    from oauth_token t join oauth_application a on a.id = t.application_id where t.uuid = ${uuid}`;
  if (!row) return undefined;
  return {
    accountId: toNumber(row.account_id),
    credential: { kind: "oauth", uuid, clientId: row.client_id, application: row.name },
    scopes: parseStoredScopes(row.scope),
    expiresMs: toNumber(row.expires_ms),
  };
}

async function findFederation(db: Db, id: string, robotId: number): Promise<CredentialFacts | undefined> {
  const rows = await db.sql<{ issuer: string; subject: string }>`/* credential.federation */
    select issuer, subject from robot_federation where robot_id = ${robotId}`;
  const row = rows.find(({ issuer, subject }) => federationId(robotId, issuer, subject) === id);
  if (!row) return undefined;
  const credential: Credential = { kind: "federation", issuer: row.issuer, subject: row.subject };
  return { accountId: robotId, credential, scopes: undefined, expiresMs: undefined };
}
