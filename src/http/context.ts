/** What a handler knows of its request beside the App: made once per request, before routing. */

import type { RequestOrigin } from "../domain/audit/audit.ts";

/**
 * The client's end of the connection, or of the first connection when trusted proxies are in between. Asking for it costs,
 * so it is looked up when it is read.
 */
export interface Client {
  readonly clientIp: string | undefined;
  /** What the client spoke to a trusted proxy that says so. */
  readonly scheme?: "http" | "https" | undefined;
}

/** Bindings that the server hands to Hono. */
export interface ServerEnv {
  Bindings: Client;
  Variables: {
    /** Name of the route for metrics; set by whoever recognises it. */
    route: string;
    requestId: string;
    /** Who called, for the access log. */
    username: string | undefined;
  };
}

export function requestOrigin(request: Request, client: Client): RequestOrigin {
  return { ip: client.clientIp, userAgent: request.headers.get("user-agent")?.slice(0, 255) };
}

/** The path of a request as Bun hands it over, still encoded, and its query without the question mark. */
export function splitUrl(url: string): { path: string; query: string } {
  const pathStart = url.indexOf("/", url.indexOf("://") + 3);
  if (pathStart === -1) return { path: "/", query: "" };
  const queryStart = url.indexOf("?", pathStart);
  if (queryStart === -1) return { path: url.slice(pathStart), query: "" };
  return { path: url.slice(pathStart, queryStart), query: url.slice(queryStart + 1) };
}
