/**
 * /oauth: the authorization flows in a browser. Whoever decides is signed in by a session, and every decision carries its
 * CSRF value. Nothing here sends a browser to an address before the domain has compared it with the application's.
 */

import type { App } from "../../app.ts";
import type { Caller } from "../../domain/access/actor.ts";
import { assignToken } from "../../domain/oauth/assignment.ts";
import {
  type AuthorizationRequest,
  approve,
  errorLocation,
  isAuthorizedAlready,
  readAuthorizationRequest,
} from "../../domain/oauth/authorize.ts";
import { findStanding } from "../../domain/organization/standing.ts";
import { findAccountById } from "../../domain/user/account.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { authenticateSession } from "../api/authenticate.ts";
import { csrfToken, hasCsrf, sessionTokenOf } from "../auth/session.ts";
import { type Client, requestOrigin, splitUrl } from "../context.ts";
import { readForm } from "../form.ts";
import { baseUrl } from "../registry/challenge.ts";
import { toRegistryError } from "../registry/errors.ts";
import { accessTokenRoute } from "./access-token.ts";
import { redirectTo } from "./page.ts";
import { consentPage, errorPage, messagePage, tokenPage } from "./pages.ts";

/** Quay's page for tokens of one's own, wherever LOCAL_OAUTH_HANDLER puts it besides. */
const LOCAL_HANDLER = "/oauth/localapp";

export interface OauthAnswer {
  readonly response: Response;
  readonly username: string | undefined;
}

/** Answers what is below /oauth; undefined for a path or method that is not there. It never throws. */
export async function answerOauth(app: App, request: Request, client: Client): Promise<OauthAnswer | undefined> {
  const { path, query } = splitUrl(request.url);
  const handle = ROUTES[`${request.method} ${path}`] ?? localRoute(app, request, path);
  if (!handle) return undefined;
  let username: string | undefined;
  try {
    const parameters = request.method === "POST" ? await readForm(request) : new URLSearchParams(query);
    const exchange: Exchange = {
      app,
      request,
      client,
      parameters,
      query,
      signedIn(caller) {
        username = caller.principal?.username;
      },
    };
    return { response: await handle(exchange), username };
  } catch (thrown) {
    const error = toRegistryError(thrown);
    if (thrown !== error || error.code === "unavailable") {
      app.log.error("request failed", { method: request.method, path, ...errorFields(thrown) });
    }
    const message = error.worded ? error.message : "The registry cannot do this now.";
    return { response: errorPage(STATUS[error.code] ?? 400, message), username };
  }
}

const STATUS: Partial<Record<RegistryError["code"], number>> = {
  unauthorized: 401,
  denied: 403,
  csrf_invalid: 403,
  not_found: 404,
  request_too_large: 413,
  registry_readonly: 503,
  unavailable: 503,
};

interface Exchange {
  readonly app: App;
  readonly request: Request;
  readonly client: Client;
  /** Of the query, or for POST of the form. */
  readonly parameters: URLSearchParams;
  readonly query: string;
  /** Notes who it is, for the access log. */
  signedIn(caller: Caller): void;
}

type Handle = (exchange: Exchange) => Promise<Response>;

const ROUTES: Readonly<Record<string, Handle | undefined>> = {
  "GET /oauth/authorize": authorize,
  "POST /oauth/authorizeapp": decide,
  "POST /oauth/denyapp": decide,
  "POST /oauth/authorize/assignuser": assign,
  "POST /oauth/access_token": ({ app, request, parameters }) => accessTokenRoute(app, request, parameters),
};

function localRoute(app: App, request: Request, path: string): Handle | undefined {
  const isGet = request.method === "GET" || request.method === "HEAD";
  return isGet && (path === LOCAL_HANDLER || path === app.config.LOCAL_OAUTH_HANDLER)
    ? async () => tokenPage()
    : undefined;
}

/** The question, or at once the answer when it was given before. */
async function authorize(exchange: Exchange): Promise<Response> {
  const { app, request, parameters, query } = exchange;
  const read = await readRequest(exchange);
  if (read.kind === "redirect") return redirectTo(read.location);
  const caller = await authenticateSession(app, request);
  const { principal } = caller;
  // Back to here afterwards: a path of ours, never an address.
  if (!principal) {
    return redirectTo(`/signin?redirect_url=${encodeURIComponent(`/oauth/authorize?${query}`)}`);
  }
  exchange.signedIn(caller);
  const assignmentUuid = parameters.get("assignment_uuid") ?? undefined;
  const isOpen = app.config.REGISTRY_STATE !== "readonly";
  if (isOpen && (await isAuthorizedAlready(app, principal, read.request))) {
    return redirectTo(await approve(app, principal, read.request, assignmentUuid));
  }
  const owner = await findAccountById(app.db, read.request.application.organizationId);
  return consentPage({
    request: read.request,
    username: principal.username,
    organization: owner?.username ?? "",
    csrfToken: csrfToken(app, sessionTokenOf(app, request) ?? ""),
    assignmentUuid,
  });
}

/** The answer that somebody gave on the page. */
async function decide(exchange: Exchange): Promise<Response> {
  const { app, request, parameters } = exchange;
  const principal = (await requireDecider(exchange)).principal;
  const authorization = await requireRequest(exchange);
  if (splitUrl(request.url).path === "/oauth/denyapp") {
    return redirectTo(errorLocation(authorization, "access_denied"));
  }
  return redirectTo(await approve(app, principal, authorization, parameters.get("assignment_uuid") ?? undefined));
}

/** An organization's admin asks a user for a token. */
async function assign(exchange: Exchange): Promise<Response> {
  const { app, request, client, parameters, query } = exchange;
  if (!app.config.FEATURE_ASSIGN_OAUTH_TOKEN)
    throw new RegistryError("not_found", { message: "There is nothing here" });
  const { caller, principal } = await requireDecider(exchange);
  const authorization = await requireRequest(exchange);
  const { organizationId } = authorization.application;
  const isFullAccess = principal.superuser && app.config.FEATURE_SUPERUSERS_FULL_ACCESS;
  if (!isFullAccess && !(await findStanding(app.db, organizationId, principal)).isAdmin) {
    throw new RegistryError("denied", { message: "Only an admin of the application's organization can do this" });
  }
  const username = parameters.get("username") ?? new URLSearchParams(query).get("username") ?? "";
  await assignToken(app, authorization, username, { caller, request: requestOrigin(request, client) });
  return messagePage("Token assigned", `${username} was asked to give a token to ${authorization.application.name}.`);
}

/** Somebody signed in, whose form carries the value of its own session. Throws `unauthorized`, `csrf_invalid`. */
async function requireDecider(exchange: Exchange) {
  const { app, request, parameters } = exchange;
  if (!hasCsrf(app, request, parameters.get("_csrf_token"))) {
    throw new RegistryError("csrf_invalid", { message: "CSRF token was invalid or missing." });
  }
  const caller = await authenticateSession(app, request);
  const { principal } = caller;
  if (!principal) throw new RegistryError("unauthorized", { message: "You are not signed in any more" });
  exchange.signedIn(caller);
  if (app.config.REGISTRY_STATE === "readonly") {
    throw new RegistryError("registry_readonly", { message: "System is currently read-only." });
  }
  return { caller, principal };
}

function readRequest({ app, request, client, parameters }: Exchange) {
  const local = baseUrl(app.config, request, client) + app.config.LOCAL_OAUTH_HANDLER;
  return readAuthorizationRequest(app, parameters, local);
}

/** The request of a form; one that our own page cannot have sent is refused here and goes nowhere. */
async function requireRequest(exchange: Exchange): Promise<AuthorizationRequest> {
  const read = await readRequest(exchange);
  if (read.kind === "request") return read.request;
  throw new RegistryError("invalid_request", { message: "The form holds an unknown response_type or scope" });
}
