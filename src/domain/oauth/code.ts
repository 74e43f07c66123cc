/**
 * Codes of the authorization-code flow: good once, for minutes, for the application and address they were made for. A
 * second use means that somebody else holds the code, so it ends the token of the first. Source: RFC 6749, sections
 * 4.1.2, 4.1.3 and 10.5.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { isSameSecret } from "../../lib/same-secret.ts";
import type { OauthScope } from "../access/actor.ts";
import { type Application, findApplication } from "./application.ts";
import { formatScopes, parseStoredScopes } from "./scopes.ts";
import { deleteToken, insertToken, TOKEN_LIFE_SECONDS } from "./token.ts";
import { hashToken, makeToken, splitToken } from "./token-text.ts";

/** RFC 6749 allows ten minutes at most. */
const CODE_LIFE_MS = 5 * 60 * 1000;

export async function insertCode(
  tx: Tx,
  input: {
    applicationId: number;
    accountId: number;
    scopes: ReadonlySet<OauthScope>;
    redirectUri: string;
    nowMs: number;
  },
): Promise<string> {
  const { token, name, hash } = makeToken();
  await tx.sql`/* oauth_code.insert */
    insert into oauth_code (code_name, code_hash, application_id, account_id, scope, redirect_uri, expires_ms)
    values (${name}, ${hash}, ${input.applicationId}, ${input.accountId}, ${formatScopes(input.scopes)},
            ${input.redirectUri}, ${input.nowMs + CODE_LIFE_MS})`;
  return token;
}

/** Why no token is given. Source: RFC 6749, section 5.2. */
export type GrantError = "invalid_client" | "invalid_grant";

export type CodeAnswer =
  | { readonly kind: "token"; readonly token: string; readonly expiresInSeconds: number; readonly scope: string }
  | { readonly kind: "error"; readonly error: GrantError };

export interface CodeExchange {
  readonly clientId: string;
  readonly clientSecret: string;
  readonly redirectUri: string;
  readonly code: string;
}

/** A token for a code. */
export async function exchangeCode(
  app: Pick<App, "db" | "clock" | "secrets">,
  input: CodeExchange,
): Promise<CodeAnswer> {
  const hasNul = input.clientId.includes("\u0000");
  const application = hasNul ? undefined : await findApplication(app, input.clientId);
  const isClient = isSameSecret(application?.clientSecret ?? "", input.clientSecret);
  if (!application?.clientSecret || !isClient) return { kind: "error", error: "invalid_client" };
  const parts = splitToken(input.code);
  if (!parts) return { kind: "error", error: "invalid_grant" };
  return app.db.tx((tx) => exchangeIn(tx, app, application, parts, input.redirectUri));
}

async function exchangeIn(
  tx: Tx,
  app: Pick<App, "clock">,
  application: Application,
  { name, secret }: { name: string; secret: string },
  redirectUri: string,
): Promise<CodeAnswer> {
  const nowMs = app.clock.nowMs();
  const refused = { kind: "error", error: "invalid_grant" } as const;
  const [code] = await tx.sql<{
    code_hash: string;
    account_id: number;
    scope: string;
    redirect_uri: string;
    token_uuid: string | null;
    expires_ms: number;
  }>`/* oauth_code.take */
    select code_hash, account_id, scope, redirect_uri, token_uuid, expires_ms from oauth_code
    where code_name = ${name} and application_id = ${application.id} ${tx.dialect.forUpdate}`;
  if (!code || !isSameSecret(code.code_hash, hashToken(secret))) return refused;
  if (code.token_uuid !== null) {
    await deleteToken(tx, code.token_uuid);
    return refused;
  }
  if (toNumber(code.expires_ms) <= nowMs || code.redirect_uri !== redirectUri) return refused;
  const scopes = parseStoredScopes(code.scope);
  const { uuid, token } = await insertToken(tx, {
    applicationId: application.id,
    accountId: toNumber(code.account_id),
    scopes,
    nowMs,
  });
  await tx.sql`/* oauth_code.used */ update oauth_code set token_uuid = ${uuid} where code_name = ${name}`;
  return { kind: "token", token, expiresInSeconds: TOKEN_LIFE_SECONDS, scope: formatScopes(scopes) };
}
