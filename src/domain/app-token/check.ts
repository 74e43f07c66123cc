/**
 * App-specific tokens as they are used: password of the user name `$app`, with every right of their owner on /v2. Making
 * and revoking them is `app-token.ts`.
 */

import type { App } from "../../app.ts";
import { toNumber } from "../../db/decode.ts";
import { RegistryError } from "../../errors.ts";
import { isSameSecret } from "../../lib/same-secret.ts";
import { touchLater } from "../credential/last-access.ts";
import { type Login, loginOf, resumeLogin } from "../credential/log-in.ts";

/** Source: quay-api reference, section 18. */
export const APP_TOKEN_USERNAME = "$app";
/** Source: quay-behaviour reference, section 1: 120 characters, of which 60 find the row. */
export const APP_TOKEN_CHARS = 120;
export const APP_TOKEN_NAME_CHARS = 60;
const TOKEN = /^[A-Za-z0-9]{120}$/;

type CheckApp = Pick<App, "config" | "db" | "lookup" | "clock" | "logins" | "secrets" | "log">;

/** The log-in by an app-specific token. Throws `unauthorized` when there is none such, or its time or account is over. */
export async function checkAppToken(app: CheckApp, token: string): Promise<Login> {
  if (!app.config.FEATURE_APP_SPECIFIC_TOKENS || !TOKEN.test(token)) throw invalid();
  const key = app.logins.key(APP_TOKEN_USERNAME, token);
  const known = app.logins.get(key);
  const login = (known && (await resumeLogin(app, known))) ?? (await checkFresh(app, token, key));
  if (login.credential.kind === "app-token") {
    const owner = { table: "account", id: login.principal.accountId } as const;
    touchLater(app, owner, { table: "app_token", id: login.credential.uuid });
  }
  return login;
}

async function checkFresh(app: CheckApp, token: string, key: string): Promise<Login> {
  app.logins.delete(key);
  const [row] = await app.db.sql<{
    uuid: string;
    account_id: number;
    token_encrypted: string;
  }>`/* app_token.by_token */
    select uuid, account_id, token_encrypted from app_token where token_name = ${token.slice(0, APP_TOKEN_NAME_CHARS)}`;
  if (!row || !isSameSecret(app.secrets.open(row.token_encrypted), token)) throw invalid();
  const login = await loginOf(app, `app-token:${row.uuid}`);
  if (!login) throw invalid();
  app.logins.set(key, { accountId: toNumber(row.account_id), credential: login.credential, against: undefined });
  return login;
}

function invalid(): RegistryError {
  return new RegistryError("unauthorized", { message: "Invalid token" });
}
