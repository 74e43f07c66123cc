/** From the `Authorization` header of a /v2 request to a `Caller`: Basic, Bearer, or nobody. */

import type { App } from "../../app.ts";
import { ANONYMOUS, type Caller, type Principal } from "../../domain/access/actor.ts";
import type { TokenVerifier } from "../../domain/token/token.ts";
import { login } from "../../domain/user/login.ts";
import { RegistryError } from "../../errors.ts";

/** Who is calling /v2. Throws `unauthorized` for credentials that are wrong, `too_many_logins` while locked out. */
export async function callerOf(
  app: App,
  verifier: TokenVerifier,
  authorization: string | null,
  audience: string,
): Promise<Caller> {
  if (authorization === null) return ANONYMOUS;
  if (authorization.startsWith("Bearer ")) return verifier.callerOf(app, authorization.slice(7).trim(), audience);
  const principal = await basicPrincipal(app, authorization);
  return { principal, grants: undefined, expired: false, authKind: "basic" };
}

/** Who a Basic header says and proves to be. Throws `unauthorized`. */
export async function basicPrincipal(app: App, authorization: string): Promise<Principal> {
  const credentials = readBasic(authorization);
  if (!credentials) {
    throw new RegistryError("unauthorized", { message: "the Authorization header is neither Basic nor Bearer" });
  }
  return login(app, credentials.username, credentials.secret);
}

function readBasic(authorization: string): { username: string; secret: string } | undefined {
  const match = /^basic +([A-Za-z0-9+/=_-]+) *$/i.exec(authorization);
  if (!match?.[1]) return undefined;
  const text = Buffer.from(match[1], "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon === -1 ? undefined : { username: text.slice(0, colon), secret: text.slice(colon + 1) };
}
