/** Which pages of other origins may call /api/v1, and with what. Source: quay-api reference, section 1.4. */

import type { Config } from "../../config/schema.ts";

const HEADERS = "Authorization, Content-Type, X-Requested-With";
const METHODS = "GET, HEAD, OPTIONS, POST, PUT, DELETE";

/** Headers for the origin that asks; none when it may not. Cookies are only ever shared with our own origin. */
export function corsHeaders(config: Config, request: Request, base: string): [string, string][] {
  const origin = request.headers.get("origin");
  if (origin === null) return [];
  const allowed = typeof config.CORS_ORIGIN === "string" ? [config.CORS_ORIGIN] : config.CORS_ORIGIN;
  const isOwn = origin === base;
  if (!isOwn && !allowed.includes("*") && !allowed.includes(origin)) return [["Vary", "Origin"]];
  return [
    ["Access-Control-Allow-Origin", origin],
    ["Vary", "Origin"],
    ["Access-Control-Expose-Headers", "X-Next-CSRF-Token, Retry-After"],
    ...(isOwn ? [["Access-Control-Allow-Credentials", "true"] as [string, string]] : []),
  ];
}

/** The answer to a browser's question before its request. */
export function preflight(config: Config, request: Request, base: string): Response {
  const headers = new Headers(corsHeaders(config, request, base));
  if (headers.has("Access-Control-Allow-Origin")) {
    headers.set("Access-Control-Allow-Methods", METHODS);
    headers.set("Access-Control-Allow-Headers", HEADERS);
    headers.set("Access-Control-Max-Age", "3600");
  }
  return new Response(null, { status: 204, headers });
}
