/**
 * /v2/auth: the token service. GET as Docker clients use it, POST in the OAuth2 form that containerd tries first. Source:
 * quay-api reference, section 18; Docker's token specification.
 */

import type { App } from "../../app.ts";
import type { RequestOrigin } from "../../domain/audit/audit.ts";
import { noteLogin } from "../../domain/audit/logins.ts";
import { pathRules } from "../../domain/blob/blob.ts";
import type { Login } from "../../domain/credential/log-in.ts";
import { parseScopes, type RequestedScope } from "../../domain/token/scope.ts";
import { issueToken } from "../../domain/token/token.ts";
import { RegistryError } from "../../errors.ts";
import { readBody } from "../registry/body.ts";
import { audienceOf } from "../registry/challenge.ts";
import { auditedLogin, basicLogin } from "./caller.ts";

interface TokenContext {
  readonly app: App;
  readonly request: Request;
  readonly query: URLSearchParams;
  /** Where the request came from, for the action log. */
  origin(): RequestOrigin;
}

const FORM_BYTES_MAX = 64 * 1024;

export async function tokenRoute({ app, request, query, origin }: TokenContext): Promise<Response> {
  const form = request.method === "POST" ? await readForm(request) : undefined;
  const holder = form ? await formLogin(app, form, origin) : await headerLogin(app, request, origin);
  const scopes = requestedScopes(app, (form ?? query).getAll("scope"));
  if (!holder && (scopes.length === 0 || !app.config.FEATURE_ANONYMOUS_ACCESS)) {
    throw new RegistryError("unauthorized", { message: "credentials are needed for a token without scope" });
  }
  // The audience is always us: what the client asked for as `service` is only compared by clients.
  const issued = await issueToken(app, holder, audienceOf(app.config), scopes);
  // What `docker login` does. With a scope it is the beginning of a pull or push, which has its own entry.
  if (holder && scopes.length === 0) noteLogin(app, { type: "v2auth", ...holder, request: origin() });
  const body = {
    token: issued.token,
    access_token: issued.token,
    expires_in: issued.expiresInSeconds,
    issued_at: new Date(issued.issuedMs).toISOString(),
    ...(form ? { scope: form.getAll("scope").join(" ") } : {}),
  };
  return new Response(JSON.stringify(body), {
    headers: { "Content-Type": "application/json", "Cache-Control": "no-store" },
  });
}

function requestedScopes(app: App, values: readonly string[]): RequestedScope[] {
  return parseScopes(values, { ...pathRules(app.config), serverHostname: app.config.SERVER_HOSTNAME });
}

async function headerLogin(app: App, request: Request, origin: () => RequestOrigin): Promise<Login | undefined> {
  const authorization = request.headers.get("authorization");
  return authorization === null ? undefined : basicLogin(app, authorization, origin);
}

async function formLogin(app: App, form: URLSearchParams, origin: () => RequestOrigin): Promise<Login> {
  const grantType = form.get("grant_type");
  if (grantType !== "password") {
    throw new RegistryError("unsupported", {
      message: `grant_type "${grantType ?? ""}" is not supported, use password or GET with Basic`,
    });
  }
  return auditedLogin(app, form.get("username") ?? "", form.get("password") ?? "", origin);
}

async function readForm(request: Request): Promise<URLSearchParams> {
  return new URLSearchParams(new TextDecoder().decode(await readBody(request, FORM_BYTES_MAX)));
}
