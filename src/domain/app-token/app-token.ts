/**
 * App-specific tokens: made by a user to be the password of one client, shown again on demand, revoked one by one. How
 * they log in is `check.ts`. Source: quay-api reference, section 16; quay-behaviour, section 17.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Db, SqlQuery } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { randomText } from "../../lib/random.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { credentialKey } from "../credential/credential.ts";
import { APP_TOKEN_CHARS, APP_TOKEN_NAME_CHARS } from "./check.ts";

export interface AppToken {
  readonly id: number;
  readonly uuid: string;
  readonly title: string;
  readonly createdMs: number;
  /** Undefined: does not expire. */
  readonly expiresMs: number | undefined;
  readonly lastAccessedMs: number | undefined;
  /** Whose it is. */
  readonly username: string;
}

/** A title is one line of a list. */
const TITLE_CHARS_MAX = 255;
/** What counts as expiring soon. */
const EXPIRING_WINDOW_MS = 28 * 24 * 3600 * 1000;

export type AppTokenApp = Pick<App, "config" | "db" | "clock" | "secrets">;

/** Makes a token for the account; gives it with its text. Throws `invalid_request` for an empty or too long title. */
export async function createAppToken(
  app: AppTokenApp,
  input: { accountId: number; title: string; caller: Caller; request: RequestOrigin },
): Promise<{ token: AppToken; code: string }> {
  const title = input.title.trim();
  if (title === "" || title.length > TITLE_CHARS_MAX) {
    const message = `The title of a token must have between 1 and ${TITLE_CHARS_MAX} characters`;
    throw new RegistryError("invalid_request", { message });
  }
  const code = randomText(APP_TOKEN_CHARS);
  const uuid = crypto.randomUUID();
  const nowMs = app.clock.nowMs();
  const lifeText = app.config.APP_SPECIFIC_TOKEN_EXPIRATION;
  const expiresMs = lifeText === null ? null : nowMs + durationMs(lifeText);
  await app.db.tx(async (tx) => {
    await tx.sql`/* app_token.insert */
      insert into app_token (uuid, account_id, title, token_name, token_encrypted, created_ms, expires_ms)
      values (${uuid}, ${input.accountId}, ${title}, ${code.slice(0, APP_TOKEN_NAME_CHARS)}, ${app.secrets.seal(code)},
              ${nowMs}, ${expiresMs})`;
    await logAction(tx, {
      kind: "create_app_specific_token",
      caller: input.caller,
      namespaceId: input.accountId,
      request: input.request,
      nowMs,
      metadata: { app_specific_token_title: title, app_specific_token: uuid },
    });
  });
  const { token } = await getAppToken(app, input.accountId, uuid);
  return { token, code };
}

/** One token of the account, with its text. Throws `not_found`. */
export async function getAppToken(
  app: Pick<App, "db" | "secrets">,
  accountId: number,
  uuid: string,
): Promise<{ token: AppToken; code: string }> {
  const [row] = await app.db.sql<TokenRow & { token_encrypted: string }>`/* app_token.get */
    select t.id, t.uuid, t.title, t.created_ms, t.expires_ms, t.last_accessed_ms, a.username, t.token_encrypted
    from app_token t join account a on a.id = t.account_id where t.uuid = ${uuid} and t.account_id = ${accountId}`;
  if (!row) throw new RegistryError("not_found");
  return { token: decode(row), code: app.secrets.open(row.token_encrypted) };
}

/** Which tokens a list shows; both ends of the page are ids. */
export interface AppTokenPage {
  /** Undefined: of everybody, for superusers. */
  readonly accountId: number | undefined;
  /** Only those that expire within four weeks. */
  readonly expiringOnly: boolean;
  readonly afterId: number;
  readonly limit: number;
}

/** Tokens in the order they were made. */
export async function listAppTokens(app: Pick<App, "db" | "clock">, page: AppTokenPage): Promise<AppToken[]> {
  const { db } = app;
  const nowMs = app.clock.nowMs();
  const rows = await db.sql<TokenRow>`/* app_token.list */
    select t.id, t.uuid, t.title, t.created_ms, t.expires_ms, t.last_accessed_ms, a.username
    from app_token t join account a on a.id = t.account_id
    where t.id > ${page.afterId} ${ownedBy(db, page.accountId)} ${page.expiringOnly ? expiring(db, nowMs) : nothing(db)}
    order by t.id limit ${page.limit}`;
  return rows.map(decode);
}

/** Takes a token back, at once on every instance, with all that was made with it. Throws `not_found`. */
export async function revokeAppToken(
  app: AppTokenApp,
  input: { accountId: number; uuid: string; caller: Caller; request: RequestOrigin },
): Promise<void> {
  const { accountId, uuid } = input;
  await app.db.tx(async (tx) => {
    const [row] = await tx.sql<{ title: string }>`/* app_token.delete */
      delete from app_token where uuid = ${uuid} and account_id = ${accountId} returning title`;
    if (!row) throw new RegistryError("not_found");
    tx.changed(credentialKey(`app-token:${uuid}`));
    await logAction(tx, {
      kind: "revoke_app_specific_token",
      caller: input.caller,
      namespaceId: accountId,
      request: input.request,
      nowMs: app.clock.nowMs(),
      metadata: { app_specific_token_title: row.title, app_specific_token: uuid },
    });
  });
}

/** Tokens removed in one step. */
const SWEEP_MAX = 500;

/** Removes tokens that expired EXPIRED_APP_SPECIFIC_TOKEN_GC ago, a bounded step; gives how many there were. */
export async function sweepAppTokens(app: Pick<App, "config" | "db" | "clock">): Promise<number> {
  const keptText = app.config.EXPIRED_APP_SPECIFIC_TOKEN_GC;
  if (keptText === null) return 0;
  const beforeMs = app.clock.nowMs() - durationMs(keptText);
  const [due] = await app.db.sql`/* app_token.any_expired */
    select 1 as one from app_token where expires_ms <= ${beforeMs} limit 1`;
  if (!due) return 0;
  return app.db.tx(async (tx) => {
    const rows = await tx.sql`/* app_token.sweep */
      delete from app_token where id in
        (select id from app_token where expires_ms <= ${beforeMs} order by expires_ms limit ${SWEEP_MAX})
      returning id`;
    return rows.length;
  });
}

interface TokenRow {
  id: number;
  uuid: string;
  title: string;
  created_ms: number;
  expires_ms: number | null;
  last_accessed_ms: number | null;
  username: string;
}

function decode(row: TokenRow): AppToken {
  return {
    id: toNumber(row.id),
    uuid: row.uuid,
    title: row.title,
    createdMs: toNumber(row.created_ms),
    expiresMs: row.expires_ms === null ? undefined : toNumber(row.expires_ms),
    lastAccessedMs: row.last_accessed_ms === null ? undefined : toNumber(row.last_accessed_ms),
    username: row.username,
  };
}

function ownedBy(db: Db, accountId: number | undefined): SqlQuery<unknown> {
  return accountId === undefined ? nothing(db) : db.sql`and t.account_id = ${accountId}`;
}

function expiring(db: Db, nowMs: number): SqlQuery<unknown> {
  return db.sql`and t.expires_ms > ${nowMs} and t.expires_ms <= ${nowMs + EXPIRING_WINDOW_MS}`;
}

function nothing(db: Db): SqlQuery<unknown> {
  return db.sql``;
}
