/**
 * /api/v1 from request to response: finds the route, who calls, whether it may, and what it sends; then calls the handler.
 * The order matters: nothing is read of a body before the caller was let in, and nothing is told to who was not.
 */

import type { App } from "../../app.ts";
import {
  readonly,
  refused,
  requireAccountScope,
  requireImages,
  requireNormalState,
  requireOrganization,
  requireRepositoryRole,
  requireSuperuser,
  requireUnrestricted,
} from "../../domain/access/require.ts";
import { pathRules } from "../../domain/blob/blob.ts";
import { type ErrorCode, RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { parseRepositoryPath } from "../../oci/names.ts";
import { hasCsrf } from "../auth/session.ts";
import { type Client, requestOrigin, splitUrl } from "../context.ts";
import { baseUrl } from "../registry/challenge.ts";
import { toRegistryError } from "../registry/errors.ts";
import { type Authenticated, authenticate, requireFreshLogin } from "./authenticate.ts";
import { corsHeaders, preflight } from "./cors.ts";
import { renderApiError } from "./errors.ts";
import { readInput } from "./input.ts";
import { createMatcher } from "./match.ts";
import type { ApiContext, ApiNeeds, ApiRoute, HandlerInput } from "./route.ts";

const ROOT = "/api/v1";

export interface ApiRequest {
  readonly request: Request;
  readonly client: Client;
  readonly requestId: string;
}

export interface ApiAnswer {
  readonly response: Response;
  /** The route's path for metrics: bounded by the table. */
  readonly route: string;
  readonly username: string | undefined;
}

/** A handler for everything under /api/v1. It never throws. */
export function createApiRouter(app: App, routes: readonly ApiRoute[]): (input: ApiRequest) => Promise<ApiAnswer> {
  const match = createMatcher(routes);

  return async function answer(input) {
    const { request } = input;
    const url = splitUrl(request.url);
    const base = baseUrl(app.config, request, input.client);
    let name = "api";
    let username: string | undefined;
    let otherwise: string | undefined;
    try {
      if (request.method === "OPTIONS")
        return { response: preflight(app.config, request, base), route: name, username };
      const method = request.method === "HEAD" ? "GET" : request.method;
      const found = match(method, url.path.slice(ROOT.length));
      if (found.kind === "redirect") return { response: redirect(found.path, url.query), route: name, username };
      if (found.kind === "none") throw new RegistryError("not_found");
      if (found.kind === "method") throw methodNotAllowed(found.allowed);
      const { route, params } = found;
      otherwise = found.otherwise;
      name = ROOT + route.path;
      if (route.feature && !route.feature(app.config)) throw new RegistryError("not_found");
      requireXhr(app, request);
      const query = new URLSearchParams(url.query);
      const who = await authenticate(app, request, query);
      username = who.caller.principal?.username;
      const context = { app, request, params, query, base, who, input };
      const response = await run(route, context);
      for (const [key, value] of corsHeaders(app.config, request, base)) response.headers.set(key, value);
      if (!response.headers.has("Cache-Control")) response.headers.set("Cache-Control", "no-store");
      return { response, route: name, username };
    } catch (thrown) {
      const error = toRegistryError(thrown);
      if (otherwise !== undefined && MEANT_OTHERWISE.has(error.code))
        return { response: redirect(otherwise, url.query), route: name, username };
      if (thrown !== error || error.code === "unavailable") {
        app.log.error("request failed", {
          requestId: input.requestId,
          method: request.method,
          path: url.path,
          ...errorFields(thrown),
        });
      }
      const response = renderApiError(error, base);
      for (const [key, value] of corsHeaders(app.config, request, base)) response.headers.set(key, value);
      return { response, route: name, username };
    }
  };
}

interface Running {
  readonly app: App;
  readonly request: Request;
  readonly params: Record<string, string>;
  readonly query: URLSearchParams;
  readonly base: string;
  readonly who: Authenticated;
  readonly input: ApiRequest;
}

async function run(route: ApiRoute, running: Running): Promise<Response> {
  const { app, request, who } = running;
  const isRead = route.method === "GET";
  if (!who.caller.principal && route.anonymousDetail) {
    throw new RegistryError("unauthorized", { detail: { decision: "anonymous", ...route.anonymousDetail } });
  }
  if (!who.caller.principal && !app.config.FEATURE_ANONYMOUS_ACCESS && !route.anonymousOk) {
    throw new RegistryError("unauthorized", {
      message: "Anonymous access is not allowed",
      detail: { decision: "anonymous" },
    });
  }
  // A bearer token is not sent by a browser on its own: nobody can be made to send it unawares.
  if (!isRead && who.caller.authKind !== "oauth" && !hasCsrf(app, request, running.query.get("_csrf_token"))) {
    throw new RegistryError("csrf_invalid");
  }
  const subject = await requireNeeds(app, route.needs, running);
  if (!isRead && app.config.REGISTRY_STATE === "readonly" && !route.anonymousOk) throw readonly();
  if (route.freshLogin) await requireFreshLogin(app, who);
  const { query, body } = await readInput(route, request, running.query);
  const context: ApiContext & HandlerInput = {
    app,
    caller: who.caller,
    request,
    params: running.params,
    session: who.session,
    baseUrl: running.base,
    origin: () => requestOrigin(request, running.input.client),
    query,
    body,
    ...subject,
  };
  return route.handle(context);
}

type Subject = Pick<HandlerInput, "principal" | "organization" | "repository">;

/** Throws unless the caller has what the route needs; gives what was found on the way. */
async function requireNeeds(app: App, needs: ApiNeeds, { who, params }: Running): Promise<Subject> {
  const { caller } = who;
  const nothing = { organization: undefined, repository: undefined };
  if (needs === "anyone") return { ...nothing, principal: caller.principal };
  if (needs === "superuser") return { ...nothing, principal: requireSuperuser(app, caller) };
  if (needs === "signed-in") {
    if (caller.principal?.kind !== "user") throw refused(caller, caller.principal ? "no-role" : "anonymous");
    return { ...nothing, principal: caller.principal };
  }
  if ("account" in needs) return { ...nothing, principal: requireAccountScope(caller, needs.account) };
  if ("organization" in needs) {
    const organization = await requireOrganization(
      app,
      caller,
      params.orgname ?? "",
      needs.organization,
      needs.superuser ?? false,
    );
    return { ...nothing, principal: caller.principal, organization };
  }
  const parsed = parseRepositoryPath(params.repository ?? "", pathRules(app.config));
  const repository = await requireRepositoryRole(app, caller, parsed, needs.repository);
  if (needs.images) requireImages(repository);
  if (needs.normalState) {
    requireUnrestricted(caller, repository);
    requireNormalState(repository);
  }
  return { ...nothing, principal: caller.principal, repository };
}

/** Browsers only by their pages' own calls: a link from elsewhere must not read data. Source: section 1.1. */
function requireXhr(app: App, request: Request): void {
  if (!app.config.BROWSER_API_CALLS_XHR_ONLY || (request.method !== "GET" && request.method !== "HEAD")) return;
  if (!BROWSER.test(request.headers.get("user-agent") ?? "")) return;
  if (request.headers.get("x-requested-with")?.toLowerCase() === "xmlhttprequest") return;
  throw new RegistryError("invalid_request", {
    message: "API calls must be invoked with an X-Requested-With header if called from a browser",
  });
}

/** What every browser has called itself for thirty years. */
const BROWSER = /^Mozilla\//;

/** How a repository that is not there, or is hidden from the caller, is answered. */
const MEANT_OTHERWISE: ReadonlySet<ErrorCode> = new Set(["not_found", "unauthorized", "denied"]);

function redirect(path: string, query: string): Response {
  // 308 keeps method and body. The location is a path of ours, whatever Host the request named.
  return new Response(null, { status: 308, headers: { Location: `${ROOT}${path}${query === "" ? "" : `?${query}`}` } });
}

function methodNotAllowed(allowed: readonly string[]): RegistryError {
  const methods = allowed.includes("GET") ? ["HEAD", ...allowed] : allowed;
  return new RegistryError("method_not_allowed", { headers: { Allow: methods.join(", ") } });
}
