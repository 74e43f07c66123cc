/**
 * OAuth tokens as they are used: as bearer of /api/v1 and as the password of `$oauthtoken` on /v2. What a token may is
 * what its owner may now, capped by its scopes. How tokens come into being is not here.
 */

import type { App } from "../../app.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { isSameSecret } from "../../lib/same-secret.ts";
import type { Caller } from "../access/actor.ts";
import { touchLater } from "../credential/last-access.ts";
import { type Login, loginOf, resumeLogin } from "../credential/log-in.ts";
import { hashToken, splitToken } from "./token-text.ts";

export type BearerApp = Pick<App, "config" | "db" | "lookup" | "clock" | "logins" | "log">;

/** User name under which an OAuth token logs in on /v2. Source: quay-api reference, section 18. */
export const OAUTH_USERNAME = "$oauthtoken";

/**
 * The caller behind an OAuth token of /api/v1: `authKind` "oauth", with scopes, and superuser only by the scope of that
 * name. Throws `token_expired` when its time is over and `unauthorized` when there is no such token or its owner is
 * disabled. The secret of a token is checked once; revocation and disabling hold from the next request on.
 */
export async function findOauthCaller(app: BearerApp, token: string): Promise<Caller> {
  const { principal, scopes, credential } = await checkOauthToken(app, token);
  return { principal, grants: undefined, expired: false, authKind: "oauth", scopes, credential };
}

/** The log-in by an OAuth token. Throws as `findOauthCaller`. */
export async function checkOauthToken(app: BearerApp, token: string): Promise<Login> {
  const parts = splitToken(token);
  if (!parts) throw refused();
  const key = app.logins.key(OAUTH_USERNAME, token);
  const known = app.logins.get(key);
  const login = (known && (await resumeLogin(app, known))) ?? (await checkFresh(app, parts, key));
  if (login.credential.kind === "oauth") {
    const owner = { table: "account", id: login.principal.accountId } as const;
    touchLater(app, owner, { table: "oauth_token", id: login.credential.uuid });
  }
  return login;
}

async function checkFresh(
  app: BearerApp,
  { name, secret }: { name: string; secret: string },
  key: string,
): Promise<Login> {
  app.logins.delete(key);
  const [row] = await app.db.sql<{
    uuid: string;
    account_id: number;
    token_hash: string;
    expires_ms: number;
  }>`/* oauth.by_token */ select uuid, account_id, token_hash, expires_ms from oauth_token where token_name = ${name}`;
  if (!isSameSecret(row?.token_hash ?? "", hashToken(secret)) || !row) throw refused();
  if (toNumber(row.expires_ms) <= app.clock.nowMs()) {
    throw new RegistryError("token_expired", { message: "The OAuth token has expired" });
  }
  const login = await loginOf(app, `oauth:${row.uuid}`);
  if (!login) throw refused();
  app.logins.set(key, { accountId: toNumber(row.account_id), credential: login.credential, against: undefined });
  return login;
}

function refused(): RegistryError {
  return new RegistryError("unauthorized", { message: "The OAuth token is not valid" });
}
