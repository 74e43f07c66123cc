/** From the `Authorization` header of a /v2 request to a `Caller`: Basic, Bearer, or nobody. */

import type { App } from "../../app.ts";
import { ANONYMOUS, type Caller } from "../../domain/access/actor.ts";
import type { RequestOrigin } from "../../domain/audit/audit.ts";
import { noteFailedLogin } from "../../domain/audit/logins.ts";
import type { Login } from "../../domain/credential/log-in.ts";
import type { TokenVerifier } from "../../domain/token/token.ts";
import { login } from "../../domain/user/login.ts";
import { RegistryError } from "../../errors.ts";

/** Who is calling /v2. Throws `unauthorized` for credentials that are wrong, `too_many_logins` while locked out. */
export async function callerOf(
  app: App,
  verifier: TokenVerifier,
  authorization: string | null,
  audience: string,
  origin: () => RequestOrigin,
): Promise<Caller> {
  if (authorization === null) return ANONYMOUS;
  if (authorization.startsWith("Bearer ")) return verifier.callerOf(app, authorization.slice(7).trim(), audience);
  const { principal, scopes, credential } = await basicLogin(app, authorization, origin);
  return { principal, grants: undefined, expired: false, authKind: "basic", scopes, credential };
}

/** Who a Basic header says and proves to be. Throws `unauthorized`. */
export async function basicLogin(app: App, authorization: string, origin: () => RequestOrigin): Promise<Login> {
  const credentials = readBasic(authorization);
  if (!credentials) {
    throw new RegistryError("unauthorized", { message: "the Authorization header is neither Basic nor Bearer" });
  }
  return auditedLogin(app, credentials.username, credentials.secret, origin);
}

/** `login`, with an entry in the action log when it fails. */
export async function auditedLogin(
  app: App,
  username: string,
  secret: string,
  origin: () => RequestOrigin,
): Promise<Login> {
  try {
    return await login(app, username, secret);
  } catch (error) {
    noteFailedLogin(app, { type: "v2auth", username, error, request: origin() });
    throw error;
  }
}

/** Name and secret of a Basic header, undefined when it is none. */
export function readBasic(authorization: string): { username: string; secret: string } | undefined {
  const match = /^basic +([A-Za-z0-9+/=_-]+) *$/i.exec(authorization);
  if (!match?.[1]) return undefined;
  const text = Buffer.from(match[1], "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon === -1 ? undefined : { username: text.slice(0, colon), secret: text.slice(colon + 1) };
}
