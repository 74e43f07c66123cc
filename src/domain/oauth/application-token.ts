/**
 * Tokens that an organization's admin makes for an application without a browser. They act as that admin within their
 * scopes, and belong to the application: every admin of the organization sees and revokes them. Source: quay-api
 * reference, section 20 (3.18); the shapes are Berth's own.
 */

import type { App } from "../../app.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller, OauthScope, Principal } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import type { Application } from "./application.ts";
import { parseRequestedScopes, parseStoredScopes, scopesInclude } from "./scopes.ts";
import { deleteToken, insertToken, TOKEN_LIFE_SECONDS, tokenMetadata } from "./token.ts";

export interface ApplicationToken {
  readonly id: number;
  readonly uuid: string;
  readonly title: string;
  readonly scopes: ReadonlySet<OauthScope>;
  readonly username: string;
  readonly createdMs: number;
  readonly expiresMs: number;
  readonly lastAccessedMs: number | undefined;
}

type TokenApp = Pick<App, "config" | "db" | "clock">;

const TITLE_CHARS_MAX = 255;

/** The application's tokens of this kind, in the order they were made. */
export async function listApplicationTokens(
  app: Pick<App, "db">,
  applicationId: number,
  afterId: number,
  limit: number,
): Promise<ApplicationToken[]> {
  const rows = await app.db.sql<TokenRow>`/* application_token.list */
    select t.id, t.uuid, t.title, t.scope, t.created_ms, t.expires_ms, t.last_accessed_ms, a.username
    from oauth_token t join account a on a.id = t.account_id
    where t.application_id = ${applicationId} and t.title is not null and t.id > ${afterId}
    order by t.id limit ${limit}`;
  return rows.map(decode);
}

/** Throws `not_found`. */
export async function getApplicationToken(
  app: Pick<App, "db">,
  applicationId: number,
  uuid: string,
): Promise<ApplicationToken> {
  const [row] = await app.db.sql<TokenRow>`/* application_token.get */
    select t.id, t.uuid, t.title, t.scope, t.created_ms, t.expires_ms, t.last_accessed_ms, a.username
    from oauth_token t join account a on a.id = t.account_id
    where t.uuid = ${uuid} and t.application_id = ${applicationId} and t.title is not null`;
  if (!row) throw new RegistryError("not_found");
  return decode(row);
}

export interface NewApplicationToken {
  readonly title: string;
  /** Separated by spaces or commas. */
  readonly scope: string;
  /** Ten years when undefined. */
  readonly lifeSeconds: number | undefined;
}

/**
 * Makes a token that acts as the calling admin. Throws `invalid_request` for unknown scopes and beyond
 * OAUTH_APPLICATION_MAXIMUM_TOKEN_COUNT, and `denied` when the caller's own token does not cover the scopes: nobody makes
 * a wider token out of a narrower one.
 */
export async function createApplicationToken(
  app: TokenApp,
  application: Application,
  by: { principal: Principal; caller: Caller; request: RequestOrigin },
  input: NewApplicationToken,
): Promise<{ token: ApplicationToken; accessToken: string }> {
  const scopes = parseRequestedScopes(input.scope);
  const title = input.title.trim();
  if (title === "" || title.length > TITLE_CHARS_MAX) {
    const message = `The title of a token must have between 1 and ${TITLE_CHARS_MAX} characters`;
    throw new RegistryError("invalid_request", { message });
  }
  if (by.caller.scopes && !scopesInclude(by.caller.scopes, scopes)) {
    throw new RegistryError("denied", {
      message: "The token of this request does not have all the scopes that were asked for",
      detail: { decision: "token-scope" },
    });
  }
  const nowMs = app.clock.nowMs();
  const made = await app.db.tx(async (tx) => {
    // Locks the application, so that two requests at once do not both take the last place.
    await tx.sql`/* application_token.lock */ update oauth_application set name = name where id = ${application.id}`;
    const limit = app.config.OAUTH_APPLICATION_MAXIMUM_TOKEN_COUNT;
    if (limit !== undefined) {
      const [row] = await tx.sql<{ total: number }>`/* application_token.count */
        select count(*) as total from
          (select id from oauth_token
           where application_id = ${application.id} and title is not null and expires_ms > ${nowMs}
           limit ${limit}) as counted`;
      if (toNumber(row?.total) >= limit) {
        const message = `The application has ${limit} tokens, as many as OAUTH_APPLICATION_MAXIMUM_TOKEN_COUNT allows`;
        throw new RegistryError("invalid_request", { message });
      }
    }
    const { uuid, token } = await insertToken(tx, {
      applicationId: application.id,
      accountId: by.principal.accountId,
      scopes,
      title,
      nowMs,
      lifeSeconds: input.lifeSeconds ?? TOKEN_LIFE_SECONDS,
    });
    await logAction(tx, {
      kind: "create_oauth_api_token",
      caller: by.caller,
      namespaceId: application.organizationId,
      request: by.request,
      nowMs,
      metadata: { ...tokenMetadata(uuid, application, scopes), title },
    });
    return { uuid, token };
  });
  return { token: await getApplicationToken(app, application.id, made.uuid), accessToken: made.token };
}

/** Takes a token back. Throws `not_found`. */
export async function revokeApplicationToken(
  app: Pick<App, "db" | "clock">,
  application: Application,
  uuid: string,
  by: { caller: Caller; request: RequestOrigin },
): Promise<void> {
  const { scopes, title } = await getApplicationToken(app, application.id, uuid);
  await app.db.tx(async (tx) => {
    if (!(await deleteToken(tx, uuid))) throw new RegistryError("not_found");
    await logAction(tx, {
      kind: "oauth_token_revoked",
      caller: by.caller,
      namespaceId: application.organizationId,
      request: by.request,
      nowMs: app.clock.nowMs(),
      metadata: { ...tokenMetadata(uuid, application, scopes), title },
    });
  });
}

interface TokenRow {
  id: number;
  uuid: string;
  title: string;
  scope: string;
  username: string;
  created_ms: number;
  expires_ms: number;
  last_accessed_ms: number | null;
}

function decode(row: TokenRow): ApplicationToken {
  return {
    id: toNumber(row.id),
    uuid: row.uuid,
    title: row.title,
    scopes: parseStoredScopes(row.scope),
    username: row.username,
    createdMs: toNumber(row.created_ms),
    expiresMs: toNumber(row.expires_ms),
    lastAccessedMs: row.last_accessed_ms === null ? undefined : toNumber(row.last_accessed_ms),
  };
}
