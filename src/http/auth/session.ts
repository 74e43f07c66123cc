/**
 * The session cookie and the CSRF value that belongs to it. The value follows from the cookie and a key that the instances
 * share, so that nothing is stored for visitors who have not signed in. Source: quay-api reference, section 1.1.
 */

import { timingSafeEqual } from "node:crypto";
import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import { newSessionToken } from "../../domain/session/session.ts";

type CookieApp = Pick<App, "config" | "secretKey">;

/** The shape of the values that we give out; anything else in the cookie is not ours. */
const TOKEN = /^[A-Za-z0-9_-]{43}$/;

/** The cookie's value, undefined when the request has none of our shape. */
export function sessionTokenOf(app: CookieApp, request: Request): string | undefined {
  const header = request.headers.get("cookie");
  if (header === null) return undefined;
  const prefix = `${app.config.SESSION_COOKIE_NAME}=`;
  for (const part of header.split(";")) {
    const pair = part.trim();
    if (pair.startsWith(prefix) && TOKEN.test(pair.slice(prefix.length))) return pair.slice(prefix.length);
  }
  return undefined;
}

/** The `Set-Cookie` of a session. An ended one is replaced by that of a visitor. */
export function sessionCookie(app: CookieApp, token: string): string {
  const { config } = app;
  const parts = [`${config.SESSION_COOKIE_NAME}=${token}`, "Path=/", `SameSite=${config.SESSION_COOKIE_SAMESITE}`];
  if (config.SESSION_COOKIE_HTTPONLY) parts.push("HttpOnly");
  if (config.SESSION_COOKIE_SECURE) parts.push("Secure");
  if (config.FEATURE_PERMANENT_SESSIONS) {
    parts.push(`Max-Age=${Math.floor(durationMs(config.SESSION_TIMEOUT) / 1000)}`);
  }
  return parts.join("; ");
}

/** Headers of an answer that begins a session: the cookie, and the CSRF value to go on with. */
export function sessionHeaders(app: CookieApp, token: string): Record<string, string> {
  return { "Set-Cookie": sessionCookie(app, token), "X-Next-CSRF-Token": csrfToken(app, token) };
}

/** Headers of an answer that ends the session: a fresh visitor's cookie in its place. */
export function visitorHeaders(app: CookieApp): Record<string, string> {
  return sessionHeaders(app, newSessionToken());
}

/** The CSRF value of a cookie. */
export function csrfToken(app: CookieApp, sessionToken: string): string {
  return new Bun.CryptoHasher("sha256", app.secretKey).update(`csrf:${sessionToken}`).digest("base64url");
}

/** True when the request carries the CSRF value of its own cookie: as header or as query or form field. */
export function hasCsrf(app: CookieApp, request: Request, field: string | null | undefined): boolean {
  const sessionToken = sessionTokenOf(app, request);
  const given = request.headers.get("x-csrf-token") ?? field;
  if (sessionToken === undefined || given === undefined || given === null) return false;
  const expected = Buffer.from(csrfToken(app, sessionToken));
  const actual = Buffer.from(given);
  return expected.length === actual.length && timingSafeEqual(expected, actual);
}

/** GET /csrf_token: the value for the cookie that came, or a new cookie with its value. */
export function csrfRoute(app: CookieApp, request: Request): Response {
  const known = sessionTokenOf(app, request);
  const token = known ?? newSessionToken();
  const headers: Record<string, string> = { "Cache-Control": "no-store" };
  if (known === undefined) headers["Set-Cookie"] = sessionCookie(app, token);
  return Response.json({ csrf_token: csrfToken(app, token) }, { headers });
}
