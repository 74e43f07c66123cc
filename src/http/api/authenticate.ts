/**
 * Who calls /api/v1: an OAuth token as bearer (or `access_token`), or a browser's session. Basic log-ins are for /v2 and not
 * taken here. Source: quay-api reference, section 1.1.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import { ANONYMOUS, type Caller } from "../../domain/access/actor.ts";
import { findOauthCaller } from "../../domain/oauth/bearer.ts";
import { findSession, type Session, touchSession } from "../../domain/session/session.ts";
import { RegistryError } from "../../errors.ts";
import { sessionTokenOf } from "../auth/session.ts";

export interface Authenticated {
  readonly caller: Caller;
  readonly session: Session | undefined;
}

/** Throws `unauthorized` or `token_expired` for a bearer token that is not good; a session that is over is nobody's. */
export async function authenticate(app: App, request: Request, query: URLSearchParams): Promise<Authenticated> {
  const bearer = bearerOf(request, query);
  if (bearer !== undefined) return { caller: await findOauthCaller(app, bearer), session: undefined };
  return findSessionCaller(app, request);
}

/** Who a browser's session says it is, whatever else the request carries; nobody's when it is over. */
export async function authenticateSession(app: App, request: Request): Promise<Caller> {
  return (await findSessionCaller(app, request)).caller;
}

async function findSessionCaller(app: App, request: Request): Promise<Authenticated> {
  const token = sessionTokenOf(app, request);
  if (token === undefined) return { caller: ANONYMOUS, session: undefined };
  const nowMs = app.clock.nowMs();
  const session = await findSession(app.db, token, nowMs);
  const principal = session && (await app.lookup.principal(session.accountId));
  if (!session || !principal) return { caller: ANONYMOUS, session: undefined };
  await touchSession(app, session, nowMs);
  const caller: Caller = {
    principal,
    grants: undefined,
    expired: false,
    authKind: "session",
    credential: { kind: "session" },
  };
  return { caller, session };
}

function bearerOf(request: Request, query: URLSearchParams): string | undefined {
  const header = request.headers.get("authorization");
  const match = header === null ? null : /^bearer +(\S+) *$/i.exec(header);
  if (match?.[1]) return match[1];
  return query.get("access_token") || undefined;
}

/**
 * Throws `fresh_login_required` unless the session's password check is recent. Exempt are OAuth tokens and users who have no
 * password to be asked for. Source: quay-api reference, section 1.4.
 */
export async function requireFreshLogin(app: App, { caller, session }: Authenticated): Promise<void> {
  if (caller.authKind === "oauth") return;
  if (caller.principal?.kind !== "user" || !session) throw new RegistryError("fresh_login_required");
  const account = await app.lookup.account(caller.principal.accountId);
  if (account?.passwordHash === undefined) return;
  if (app.clock.nowMs() - session.freshMs <= durationMs(app.config.FRESH_LOGIN_TIMEOUT)) return;
  throw new RegistryError("fresh_login_required");
}
