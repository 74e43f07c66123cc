/**
 * The HTTP surface: one Hono app behind Bun.serve. It mounts /v2, the health routes and /api/v1, and notes every request.
 * Addresses, TLS and stopping are here too; what the routes do is not.
 */

import { type Context, Hono } from "hono";
import type { App } from "../app.ts";
import type { TlsFiles } from "../config/files.ts";
import { Health } from "../domain/health/health.ts";
import { TokenVerifier } from "../domain/token/token.ts";
import { RegistryError } from "../errors.ts";
import { errorFields } from "../observe/logger.ts";
import { ACCOUNT_PAGES, answerAccountPage } from "./account-pages/router.ts";
import { corsHeaders } from "./api/cors.ts";
import { renderApiError, renderMessage } from "./api/errors.ts";
import { createApiRouter } from "./api/router.ts";
import { apiRoutes } from "./api/routes.ts";
import { userInitializeRoute } from "./api/user-initialize.ts";
import { federationRoute } from "./auth/federation-route.ts";
import { csrfRoute } from "./auth/session.ts";
import { configRoute } from "./config-route.ts";
import { type Client, type ServerEnv, splitUrl } from "./context.ts";
import { exportedLogsRoute } from "./exported-logs.ts";
import { healthRoute } from "./health.ts";
import { keysRoute } from "./keys.ts";
import { createAccessLog } from "./middleware/access-log.ts";
import type { Forwarding } from "./middleware/client-address.ts";
import { createRateLimiter, type RateLimiter } from "./middleware/rate-limit.ts";
import { answerOauth } from "./oauth/router.ts";
import { baseUrl } from "./registry/challenge.ts";
import { toRegistryError } from "./registry/errors.ts";
import { createRegistryRouter } from "./registry/router.ts";
import { REGISTRY_MOUNT, RegistryFirstRouter } from "./registry-first-router.ts";
import { wellKnownRoute } from "./well-known.ts";

/** Seconds after which a client may try again what failed because a part of us was away. */
const RETRY_AFTER_SECONDS = "5";
/** A request id from a proxy in front is kept when it cannot do harm in a log. */
const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

/** The whole of Berth's HTTP as one Hono app. */
export function createHttp(app: App): Hono<ServerEnv> {
  const http = new Hono<ServerEnv>({
    getPath: (request) => splitUrl(request.url).path,
    router: new RegistryFirstRouter(),
  });
  const note = createAccessLog(app);
  const limiter = createRateLimiter(app);
  const registry = createRegistryRouter(app, new TokenVerifier(), limiter);
  const health = new Health(app);
  // Unlike every other process and start, and cheap to count up.
  const idPrefix = crypto.randomUUID().slice(0, 13);
  let requests = 0;

  function requestIdOf(request: Request): string {
    const given = request.headers.get("x-request-id");
    return given !== null && REQUEST_ID.test(given) ? given : `${idPrefix}-${(++requests).toString(36)}`;
  }

  async function answerRegistry(request: Request, env: ServerEnv["Bindings"]): Promise<Response> {
    const startedMs = performance.now();
    const requestId = requestIdOf(request);
    if (wantsFresh(request)) await app.db.catchUp();
    const { response, route, username } = await registry({ request, client: env, requestId });
    response.headers.set("X-Request-Id", requestId);
    note({ request, response, requestId, route, client: env, username, startedMs });
    return response;
  }

  http.all(REGISTRY_MOUNT, (c) => answerRegistry(c.req.raw, c.env));

  http.use("*", async (c, next) => {
    const startedMs = performance.now();
    const requestId = requestIdOf(c.req.raw);
    c.set("route", "unknown");
    c.set("requestId", requestId);
    if (wantsFresh(c.req.raw)) await app.db.catchUp();
    await next();
    c.res.headers.set("X-Request-Id", requestId);
    // Pages and the small routes word their own refusals; when to come back is the same for all.
    if (c.res.status === 503 && !c.res.headers.has("Retry-After"))
      c.res.headers.set("Retry-After", RETRY_AFTER_SECONDS);
    note({
      request: c.req.raw,
      response: c.res,
      requestId,
      route: c.get("route"),
      client: c.env,
      username: c.get("username"),
      startedMs,
    });
  });
  for (const path of ["/health", "/health/*", "/status"]) {
    http.get(path, async (c, next) => {
      const response = await healthRoute(app, health, c.req.raw, c.req.path);
      if (!response) return next();
      c.set("route", "health");
      return response;
    });
  }
  http.get("/_internal_ping", (c) => c.text("true"));
  http.all("/keys/services/*", (c) => {
    c.set("route", "keys");
    return keysRoute(app, c.req.raw, c.env);
  });
  for (const path of ["/robots.txt", "/.well-known/*"]) {
    http.get(path, async (c, next) => {
      const response = wellKnownRoute(app, c.req.path, c.req.raw, c.env);
      if (!response) return next();
      c.set("route", "well_known");
      return response;
    });
  }
  if (limiter) http.use("/api/*", async (c, next) => refusedByLimit(app, limiter, c) ?? (await next()));
  http.post("/api/v1/user/initialize", async (c) => {
    c.set("route", "user_initialize");
    return (await userInitializeRoute(app, c.req.raw)) ?? c.notFound();
  });
  const api = createApiRouter(app, apiRoutes());
  http.all("/api/v1/*", async (c) => {
    const { response, route, username } = await api({
      request: c.req.raw,
      client: c.env,
      requestId: c.get("requestId"),
    });
    c.set("route", route);
    c.set("username", username);
    return response;
  });
  // The page that shows tokens may stand elsewhere (LOCAL_OAUTH_HANDLER).
  for (const path of new Set(["/oauth/*", app.config.LOCAL_OAUTH_HANDLER])) {
    http.all(path, async (c, next) => {
      const answer = await answerOauth(app, c.req.raw, c.env);
      if (!answer) return next();
      c.set("route", "oauth");
      c.set("username", answer.username);
      return answer.response;
    });
  }
  for (const path of ACCOUNT_PAGES) {
    http.all(path, async (c, next) => {
      const response = await answerAccountPage(app, c.req.raw, c.env);
      if (!response) return next();
      c.set("route", "account_page");
      return response;
    });
  }
  http.get("/config", (c) => {
    c.set("route", "config");
    return configRoute(app, c.req.raw, c.env);
  });
  http.get("/oauth2/federation/robot/token", (c) => {
    c.set("route", "robot_federation");
    return federationRoute(app, c.req.raw, c.env);
  });
  http.get("/exportedlogs/:file_id", async (c) => {
    c.set("route", "exportedlogs");
    return (await exportedLogsRoute(app, c.req.param("file_id"), c.req.method === "HEAD")) ?? c.notFound();
  });
  http.get("/csrf_token", (c) => csrfRoute(app, c.req.raw));
  http.get("/", (c) => c.text("Berth: an OCI container registry. Images are at /v2/, health at /health/instance.\n"));
  http.onError((thrown, c) => {
    const error = toRegistryError(thrown);
    app.log.error("request failed", { method: c.req.method, path: c.req.path, ...errorFields(thrown) });
    return renderMessage(thrown === error ? error : new RegistryError("unavailable", { message: "not now" }));
  });
  http.notFound((c) => c.json({ message: "there is nothing at this path", path: c.req.path.slice(0, 255) }, 404));
  return http;
}

/**
 * Whoever must see what another instance has just acknowledged says so, and this one looks before it answers from memory.
 * Source: RFC 9111, section 5.2.1.4.
 */
function wantsFresh(request: Request): boolean {
  return request.headers.get("cache-control")?.includes("no-cache") === true;
}

/** The 429 of a client that asks /api too often, undefined for others. */
function refusedByLimit(app: App, limiter: RateLimiter, c: Context<ServerEnv>): Response | undefined {
  const request = c.req.raw;
  try {
    limiter.requireApi(request, c.env);
    return undefined;
  } catch (thrown) {
    c.set("route", "api");
    const base = baseUrl(app.config, request, c.env);
    const response = renderApiError(toRegistryError(thrown), base);
    // Else a page of another origin could not read why it was refused.
    for (const [key, value] of corsHeaders(app.config, request, base)) response.headers.set(key, value);
    return response;
  }
}

export interface ListenOptions {
  /** Without brackets; "::" listens on both families, with `ipv6Only` on IPv6 alone. */
  hostname: string;
  /** 0 picks a free one. */
  port: number;
  ipv6Only: boolean;
  tls: TlsFiles | undefined;
  /** Which proxies may say who the client is; undefined when none may. */
  forwarding?: Forwarding | undefined;
  /**
   * Processes that share the port: the first opens it, and finds out whether it is another program's; the others join.
   * Undefined for a port of one process.
   */
  sharing?: "opens" | "joins" | undefined;
}

export interface Listener {
  readonly url: string;
  readonly port: number;
  /** From now on each connection ends with its next answer, so that clients turn elsewhere by themselves. */
  finish(): void;
  /** The same, and takes no new connections: the others that share the port do. */
  leave(): void;
  /** Takes no new connections and resolves when the running requests are done. */
  drain(): Promise<void>;
  /** Cuts what is left. */
  cut(): Promise<void>;
}

/** Bodies have no bound of their own: each route bounds what it reads. Bun's default would stop layers at 128 MiB. */
const BODY_BYTES_MAX = 2 ** 50;
/** How often a stopping server looks whether its last request is answered; a response counts until its last byte is out. */
const DRAIN_POLL_MS = 20;
/**
 * A stopping server goes on with connections that clients keep until none was used for this long, and at most for so long: a
 * request that is on its way when its connection is closed is lost, and a proxy must not send it again by itself.
 */
const LULL_MS = 250;
const LULL_WAIT_MS_MAX = 2_000;
/** A connection on which nothing moves for this long is dropped: a stalled client must not hold its upload for ever. */
const IDLE_SECONDS = 120;

type Handle = (request: Request, client: Client) => Response | Promise<Response>;

/**
 * Starts listening; "::" without `ipv6Only` becomes "0.0.0.0" on a kernel that has no IPv6. Throws, with the address and
 * what to do, when it is taken or cannot be had.
 */
export function listen(handle: Handle, options: ListenOptions): Listener {
  try {
    return listenOn(handle, options);
  } catch (error) {
    const isWithoutIpv6 = error instanceof Error && codeOf(error.cause) === "EAFNOSUPPORT";
    if (!isWithoutIpv6 || options.hostname !== "::" || options.ipv6Only) throw error;
    return listenOn(handle, { ...options, hostname: "0.0.0.0" });
  }
}

function listenOn(handle: Handle, options: ListenOptions): Listener {
  const host = options.hostname.includes(":") ? `[${options.hostname}]` : options.hostname;
  let isFinishing = false;
  let hasServed = false;
  /** By `performance.now()`: when the last request came, or the end began. */
  let usedMs = 0;
  const finish = (): void => {
    if (!isFinishing) usedMs = performance.now();
    isFinishing = true;
  };
  if (options.sharing === "opens" && options.port !== 0) requireFree(host, options);
  const server = serveOrExplain(`${host}:${options.port}`, {
    reusePort: options.sharing !== undefined,
    hostname: options.hostname,
    port: options.port,
    ipv6Only: options.ipv6Only,
    maxRequestBodySize: BODY_BYTES_MAX,
    idleTimeout: IDLE_SECONDS,
    ...(options.tls ? { tls: tlsOptions(options.tls) } : {}),
    fetch(request, self) {
      hasServed = true;
      if (!isFinishing) return answer(request, self);
      usedMs = performance.now();
      return lastAnswer(answer(request, self));
    },
    error() {
      return new Response("internal error\n", { status: 500 });
    },
  });

  function answer(request: Request, self: Bun.Server<undefined>): Response | Promise<Response> {
    // A dual-stack socket shows IPv4 clients in mapped form; people and log tools know them without.
    const peer = () => self.requestIP(request)?.address.replace(/^::ffff:(?=\d+\.)/, "");
    if (options.forwarding) return handle(request, options.forwarding.clientOf(request.headers, peer));
    return handle(request, {
      get clientIp() {
        return peer();
      },
    });
  }

  return {
    url: `${options.tls ? "https" : "http"}://${host}:${server.port}`,
    port: server.port ?? options.port,
    finish,
    leave() {
      finish();
      void server.stop(false);
    },
    async drain() {
      finish();
      const untilMs = performance.now() + LULL_WAIT_MS_MAX;
      const isInUse = () => {
        const nowMs = performance.now();
        return hasServed && nowMs - usedMs < LULL_MS && nowMs < untilMs;
      };
      // Not awaited: it also waits for connections that are kept alive and carry nothing, which takes clients' good will.
      void server.stop(false);
      while (server.pendingRequests > 0 || isInUse()) await Bun.sleep(DRAIN_POLL_MS);
      await server.stop(true);
    },
    cut: () => server.stop(true),
  };
}

/** Throws when another program has the port; sharing it, one would not notice. */
function requireFree(host: string, { hostname, port, ipv6Only }: ListenOptions): void {
  void serveOrExplain(`${host}:${port}`, { hostname, port, ipv6Only, fetch: () => new Response() }).stop(true);
}

async function lastAnswer(answered: Response | Promise<Response>): Promise<Response> {
  const response = await answered;
  response.headers.set("Connection", "close");
  return response;
}

function serveOrExplain(address: string, options: Bun.Serve.Options<undefined>): Bun.Server<undefined> {
  try {
    return Bun.serve(options);
  } catch (error) {
    const known = LISTEN_FAILURES[codeOf(error)];
    if (known !== undefined) throw new Error(`cannot listen on ${address}: ${known}`);
    throw new Error(`cannot listen on ${address}`, { cause: error });
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

const LISTEN_FAILURES: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program listens there; stop it or choose another address with --listen or --metrics-listen",
  EACCES: "ports below 1024 need the right to bind them; choose a higher one with --listen",
  EADDRNOTAVAIL: "this machine has no such address",
};

function tlsOptions(tls: TlsFiles) {
  return {
    cert: Bun.file(tls.certPath),
    key: Bun.file(tls.keyPath),
    minVersion: tls.minVersion,
    maxVersion: tls.maxVersion,
    ...(tls.ciphers === undefined ? {} : { ciphers: tls.ciphers }),
  };
}
