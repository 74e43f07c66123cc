/**
 * /v2 from request to response: reads the path once, finds the row of the table, asks for what it needs and calls it.
 * Access control and handlers see the same parsed path.
 */

import type { App } from "../../app.ts";
import { ANONYMOUS, type Caller } from "../../domain/access/actor.ts";
import { noteFailedAttempt } from "../../domain/audit/failures.ts";
import { pathRules } from "../../domain/blob/blob.ts";
import { requireRepository, requireRepositoryForPush } from "../../domain/repository/repository.ts";
import type { TokenVerifier } from "../../domain/token/token.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { parseRepositoryPath } from "../../oci/names.ts";
import { parseV2Path, type V2Route } from "../../oci/path.ts";
import { callerOf } from "../auth/caller.ts";
import { tokenRoute } from "../auth/token-route.ts";
import { type Client, requestOrigin, splitUrl } from "../context.ts";
import type { RateLimiter } from "../middleware/rate-limit.ts";
import { audienceOf, challengeOf } from "./challenge.ts";
import { renderRegistryError, toRegistryError } from "./errors.ts";
import {
  buildRoutes,
  type Method,
  type RegistryContext,
  type RouteEntry,
  type RouteKind,
  type RouteTable,
} from "./routes.ts";

/** Most pulls have none; nobody writes to it. */
const NO_QUERY = new URLSearchParams();

export interface RegistryRequest {
  readonly request: Request;
  readonly client: Client;
  readonly requestId: string;
}

export interface RegistryAnswer {
  readonly response: Response;
  /** Name of the route for metrics and logs. */
  readonly route: string;
  /** Who called, for the access log; undefined for anonymous. */
  readonly username: string | undefined;
}

/** A handler for everything under /v2. It never throws. */
export function createRegistryRouter(
  app: App,
  verifier: TokenVerifier,
  limiter?: RateLimiter,
): (input: RegistryRequest) => Promise<RegistryAnswer> {
  const table = buildRoutes();

  return async function answer(input) {
    const { request } = input;
    const { path, query } = splitUrl(request.url);
    const isHead = request.method === "HEAD";
    let route: V2Route | undefined;
    let caller: Caller = ANONYMOUS;
    const origin = () => requestOrigin(request, input.client);
    try {
      route = parseV2Path(path);
      limiter?.requireV2(request, input.client, route);
      const context = {
        app,
        request,
        query: query === "" ? NO_QUERY : new URLSearchParams(query),
        origin,
      };
      if (route.kind === "token") {
        requireMethod(request.method, ["GET", "HEAD", "POST"]);
        return { response: await tokenRoute(context), route: "token", username: undefined };
      }
      const credentials = request.headers.get("authorization");
      caller = await callerOf(app, verifier, credentials, audienceOf(app.config), origin);
      const response = await dispatch(table, { ...context, caller, route });
      return { response, route: route.kind, username: caller.principal?.username };
    } catch (thrown) {
      const error = toRegistryError(thrown);
      if (thrown !== error || error.code === "unavailable") logFault(app, input, thrown);
      if (route?.kind === "manifest") {
        const hadCredentials = request.headers.has("authorization");
        noteFailedAttempt(app, { ...route, method: request.method, caller, hadCredentials, error, origin });
      }
      const further = typeof error.detail.scope === "string" ? error.detail.scope : undefined;
      const challenge = route?.kind === "token" ? undefined : challengeOf(app.config, input, route, further);
      const response = renderRegistryError(error, challenge, isHead);
      return { response, route: route?.kind ?? "invalid", username: caller.principal?.username };
    }
  };
}

async function dispatch(table: RouteTable, context: RegistryContext): Promise<Response> {
  const { app, caller, route, request, origin } = context;
  if (route.kind === "unknown" || route.kind === "token") {
    // What is not there is told only to those who are let in at all.
    requireCaller(app, caller);
    throw new RegistryError("not_found");
  }
  // The key and the route are of one kind, which the types cannot follow through an index.
  const methods = table[route.kind] as Partial<Record<Method, RouteEntry<RouteKind>>>;
  const method = request.method === "HEAD" ? "GET" : request.method;
  const entry = Object.hasOwn(methods, method) ? methods[method as Method] : undefined;
  if (!entry) {
    requireCaller(app, caller);
    throw methodNotAllowed(request.method, Object.keys(methods));
  }
  if (entry.needs === "caller") {
    requireCaller(app, caller);
    return entry.handle(context);
  }
  if (!("name" in route)) throw new Error(`route ${route.kind} needs ${entry.needs} but has no repository in its path`);
  const parsed = parseRepositoryPath(route.name, pathRules(app.config));
  if (entry.needs === "upload") return entry.handle({ ...context, parsed });
  if (entry.needs === "creates") {
    return entry.handle({ ...context, repository: await requireRepositoryForPush(app, caller, parsed, origin()) });
  }
  try {
    return await entry.handle({ ...context, repository: await requireRepository(app, caller, parsed, entry.needs) });
  } catch (error) {
    const isAbsent = error instanceof RegistryError && error.code === "name_unknown";
    if (!isAbsent || !entry.whenAbsent) throw error;
    return entry.whenAbsent(context);
  }
}

/** Valid credentials, or a token; an anonymous token only where anonymous access is on. */
function requireCaller(app: App, caller: Caller): void {
  const isAnonymous = caller.principal === undefined;
  const hasToken = caller.authKind === "token" && app.config.FEATURE_ANONYMOUS_ACCESS;
  if (!caller.expired && (!isAnonymous || hasToken)) return;
  throw new RegistryError("unauthorized", { detail: { decision: caller.expired ? "token-expired" : "anonymous" } });
}

function requireMethod(method: string, allowed: readonly string[]): void {
  if (!allowed.includes(method)) throw methodNotAllowed(method, allowed);
}

function methodNotAllowed(method: string, allowed: readonly string[]): RegistryError {
  const withHead = allowed.includes("GET") && !allowed.includes("HEAD") ? ["HEAD", ...allowed] : allowed;
  return new RegistryError("method_not_allowed", {
    message: `method ${method.slice(0, 20)} is not supported here, use ${withHead.join(", ")}`,
    headers: { Allow: withHead.join(", ") },
  });
}

function logFault(app: App, input: RegistryRequest, thrown: unknown): void {
  app.log.error("request failed", {
    requestId: input.requestId,
    method: input.request.method,
    path: splitUrl(input.request.url).path,
    ...errorFields(thrown),
  });
}
