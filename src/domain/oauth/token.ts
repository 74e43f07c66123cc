/**
 * OAuth tokens as rows: making, listing and revoking them, for the user whose rights they carry and for the application
 * that they were given to. How they are used is `bearer.ts`.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller, OauthScope } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { credentialKey } from "../credential/credential.ts";
import type { Application } from "./application.ts";
import { formatScopes, parseStoredScopes, scopesInclude } from "./scopes.ts";
import { makeToken } from "./token-text.ts";

/** Source: quay-api reference, section 17: ten years of 365.25 days. */
export const TOKEN_LIFE_SECONDS = 10 * 365.25 * 24 * 3600;

export interface NewToken {
  readonly applicationId: number;
  readonly accountId: number;
  readonly scopes: ReadonlySet<OauthScope>;
  /** Undefined for tokens that somebody consented to. */
  readonly title?: string;
  readonly nowMs: number;
  readonly lifeSeconds?: number;
}

/** Makes a token; its text is given here and never again. */
export async function insertToken(
  tx: Tx,
  input: NewToken,
): Promise<{ uuid: string; token: string; expiresMs: number }> {
  const { token, name, hash } = makeToken();
  const uuid = crypto.randomUUID();
  const expiresMs = input.nowMs + (input.lifeSeconds ?? TOKEN_LIFE_SECONDS) * 1000;
  await tx.sql`/* oauth_token.insert */
    insert into oauth_token (uuid, application_id, account_id, token_name, token_hash, scope, title, created_ms, expires_ms)
    values (${uuid}, ${input.applicationId}, ${input.accountId}, ${name}, ${hash}, ${formatScopes(input.scopes)},
            ${input.title ?? null}, ${input.nowMs}, ${expiresMs})`;
  return { uuid, token, expiresMs };
}

/** Takes a token back, at once on every instance. Gives whether it was there. */
export async function deleteToken(tx: Tx, uuid: string): Promise<boolean> {
  const rows = await tx.sql`/* oauth_token.delete */ delete from oauth_token where uuid = ${uuid} returning id`;
  tx.changed(credentialKey(`oauth:${uuid}`));
  return rows.length > 0;
}

/** A token that a user gave to an application, with what the user is shown of it. */
export interface Authorization {
  readonly id: number;
  readonly uuid: string;
  readonly scopes: ReadonlySet<OauthScope>;
  readonly application: AuthorizedApplication;
}

export interface AuthorizedApplication {
  readonly name: string;
  readonly clientId: string;
  readonly description: string;
  readonly applicationUri: string;
  readonly avatarEmail: string | undefined;
  readonly organization: { readonly id: number; readonly username: string; readonly email: string | undefined };
}

/** The account's living tokens in the order they were made, after `afterId`. */
export async function listAuthorizations(
  app: Pick<App, "db" | "clock">,
  accountId: number,
  afterId: number,
  limit: number,
): Promise<Authorization[]> {
  const rows = await app.db.sql<AuthorizationRow>`/* oauth_token.authorizations */
    select t.id, t.uuid, t.scope, ${applicationColumns(app.db)}
    from oauth_token t join oauth_application a on a.id = t.application_id join account o on o.id = a.organization_id
    where t.account_id = ${accountId} and t.id > ${afterId} and t.expires_ms > ${app.clock.nowMs()}
    order by t.id limit ${limit}`;
  return rows.map(decodeAuthorization);
}

/** One of the account's living tokens. Throws `not_found`. */
export async function getAuthorization(
  app: Pick<App, "db" | "clock">,
  accountId: number,
  uuid: string,
): Promise<Authorization> {
  const [row] = await app.db.sql<AuthorizationRow>`/* oauth_token.authorization */
    select t.id, t.uuid, t.scope, ${applicationColumns(app.db)}
    from oauth_token t join oauth_application a on a.id = t.application_id join account o on o.id = a.organization_id
    where t.uuid = ${uuid} and t.account_id = ${accountId} and t.expires_ms > ${app.clock.nowMs()}`;
  if (!row) throw new RegistryError("not_found");
  return decodeAuthorization(row);
}

/** Takes back a token of the account. Throws `not_found`. */
export async function revokeAuthorization(
  app: Pick<App, "db" | "clock">,
  input: { accountId: number; uuid: string; caller: Caller; request: RequestOrigin },
): Promise<void> {
  const { application, scopes } = await getAuthorization(app, input.accountId, input.uuid);
  await app.db.tx(async (tx) => {
    if (!(await deleteToken(tx, input.uuid))) throw new RegistryError("not_found");
    await logAction(tx, {
      kind: "oauth_token_revoked",
      caller: input.caller,
      namespaceId: input.accountId,
      request: input.request,
      nowMs: app.clock.nowMs(),
      metadata: tokenMetadata(input.uuid, application, scopes),
    });
  });
}

/** What log entries say of a token. */
export function tokenMetadata(
  uuid: string,
  application: Pick<Application, "name" | "clientId">,
  scopes: ReadonlySet<OauthScope>,
): Record<string, unknown> {
  return {
    oauth_token_id: uuid,
    application_name: application.name,
    client_id: application.clientId,
    scope: formatScopes(scopes),
  };
}

/** Living tokens of one user for one application that are looked at to find out whether consent was given before. */
const LOOKED_AT_MAX = 50;

/** True when the account has given this application a living token that covers these scopes. */
export async function hasConsented(
  app: Pick<App, "db" | "clock">,
  accountId: number,
  applicationId: number,
  scopes: ReadonlySet<OauthScope>,
): Promise<boolean> {
  const rows = await app.db.sql<{ scope: string }>`/* oauth_token.consented */
    select scope from oauth_token
    where application_id = ${applicationId} and account_id = ${accountId} and title is null
      and expires_ms > ${app.clock.nowMs()}
    order by id desc limit ${LOOKED_AT_MAX}`;
  return rows.some((row) => scopesInclude(parseStoredScopes(row.scope), scopes));
}

/** Rows removed in one step. */
const SWEEP_MAX = 500;
/** An expired token is told so for this long before it is forgotten. */
const EXPIRED_KEPT_MS = 30 * 24 * 3600 * 1000;

/** Removes codes that are over and tokens that expired a month ago, a bounded step; gives how many there were. */
export async function sweepOauth(app: Pick<App, "db" | "clock">): Promise<number> {
  const nowMs = app.clock.nowMs();
  const beforeMs = nowMs - EXPIRED_KEPT_MS;
  const due = await app.db.sql`/* oauth.any_expired */
    select 1 as one where exists (select 1 from oauth_code where expires_ms <= ${nowMs})
      or exists (select 1 from oauth_token where expires_ms <= ${beforeMs})`;
  if (due.length === 0) return 0;
  return app.db.tx(async (tx) => {
    const codes = await tx.sql`/* oauth_code.sweep */
      delete from oauth_code where code_name in
        (select code_name from oauth_code where expires_ms <= ${nowMs} order by expires_ms limit ${SWEEP_MAX})
      returning code_name`;
    const tokens = await tx.sql`/* oauth_token.sweep */
      delete from oauth_token where id in
        (select id from oauth_token where expires_ms <= ${beforeMs} order by expires_ms limit ${SWEEP_MAX})
      returning id`;
    return codes.length + tokens.length;
  });
}

export const applicationColumns = (db: Db) => db.sql`
  a.name, a.client_id, a.description, a.application_uri, a.avatar_email, o.id as organization_id,
  o.username as organization, o.email as organization_email`;

export interface ApplicationColumns {
  name: string;
  client_id: string;
  description: string;
  application_uri: string;
  avatar_email: string | null;
  organization_id: number;
  organization: string;
  organization_email: string | null;
}

interface AuthorizationRow extends ApplicationColumns {
  id: number;
  uuid: string;
  scope: string;
}

function decodeAuthorization(row: AuthorizationRow): Authorization {
  return {
    id: toNumber(row.id),
    uuid: row.uuid,
    scopes: parseStoredScopes(row.scope),
    application: decodeApplicationColumns(row),
  };
}

export function decodeApplicationColumns(row: ApplicationColumns): AuthorizedApplication {
  return {
    name: row.name,
    clientId: row.client_id,
    description: row.description,
    applicationUri: row.application_uri,
    avatarEmail: row.avatar_email ?? undefined,
    organization: {
      id: toNumber(row.organization_id),
      username: row.organization,
      email: row.organization_email ?? undefined,
    },
  };
}
