/**
 * POST /oauth/access_token: the application's own call, by which it changes a code into a token. Source: quay-api
 * reference, section 17; RFC 6749, sections 4.1.3 and 5.
 */

import type { App } from "../../app.ts";
import { exchangeCode, type GrantError } from "../../domain/oauth/code.ts";
import { readBasic } from "../auth/caller.ts";

type OauthError = GrantError | "invalid_request" | "unsupported_grant_type" | "temporarily_unavailable";

const HEADERS = { "Cache-Control": "no-store", Pragma: "no-cache" } as const;

export async function accessTokenRoute(app: App, request: Request, form: URLSearchParams): Promise<Response> {
  const grantType = form.get("grant_type");
  if (grantType === null) return refused("invalid_request");
  if (grantType !== "authorization_code") return refused("unsupported_grant_type");
  if (app.config.REGISTRY_STATE === "readonly") return refused("temporarily_unavailable");
  const authorization = request.headers.get("authorization");
  const basic = authorization === null ? undefined : readBasic(authorization);
  const clientId = basic?.username ?? form.get("client_id");
  const clientSecret = basic?.secret ?? form.get("client_secret");
  const code = form.get("code");
  const redirectUri = form.get("redirect_uri");
  if (clientId === null || clientSecret === null || code === null || redirectUri === null) {
    return refused("invalid_request");
  }
  const answer = await exchangeCode(app, { clientId, clientSecret, redirectUri, code });
  if (answer.kind === "error") return refused(answer.error, basic !== undefined);
  const body = {
    access_token: answer.token,
    token_type: "Bearer",
    expires_in: answer.expiresInSeconds,
    refresh_token: null,
  };
  return Response.json(body, { headers: HEADERS });
}

/** Source of statuses: RFC 6749, section 5.2. */
function refused(error: OauthError, byBasic = false): Response {
  if (error !== "invalid_client") {
    const status = error === "temporarily_unavailable" ? 503 : 400;
    return Response.json({ error }, { status, headers: HEADERS });
  }
  const challenge: Record<string, string> = byBasic ? { "WWW-Authenticate": 'Basic realm="oauth"' } : {};
  return Response.json({ error }, { status: 401, headers: { ...HEADERS, ...challenge } });
}
