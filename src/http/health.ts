/** The health routes with Quay's JSON. Source: quay-api reference, section 17; quay-behaviour reference, section 18. */

import { timingSafeEqual } from "node:crypto";
import type { App } from "../app.ts";
import type { Health, HealthReport } from "../domain/health/health.ts";

/** Answers a health path, undefined for every other. */
export async function healthRoute(
  app: App,
  health: Health,
  request: Request,
  path: string,
): Promise<Response | undefined> {
  const report = await reportOf(health, path);
  if (report === undefined) return undefined;
  app.state.healthAskedMs = app.clock.nowMs();
  const status = report.healthy ? 200 : 503;
  const data = { services: report.services, ...(maySeeDetails(app, request) ? expanded(report) : {}) };
  return Response.json(
    { data, status_code: status },
    { status, headers: { "Cache-Control": "no-store", ...(report.healthy ? {} : { "Retry-After": "5" }) } },
  );
}

function reportOf(health: Health, path: string): Promise<HealthReport> | undefined {
  switch (path) {
    case "/health":
    case "/health/instance":
      return health.instance();
    case "/health/endtoend":
    case "/status":
      return health.endToEnd();
    case "/health/warning":
      return health.warning();
    default:
      return undefined;
  }
}

function expanded(report: HealthReport): Record<string, unknown> {
  const entries = Object.entries(report.services).map(([name, status]) => {
    const failure = report.failures[name];
    return [name, failure === undefined ? { status } : { status, failure }];
  });
  return { services_expanded: Object.fromEntries(entries) };
}

/** ENABLE_HEALTH_DEBUG_SECRET as bearer token shows why a service is down. */
function maySeeDetails(app: App, request: Request): boolean {
  const secret = app.config.ENABLE_HEALTH_DEBUG_SECRET;
  const header = request.headers.get("authorization");
  if (!secret || !header?.startsWith("Bearer ")) return false;
  const hash = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest();
  return timingSafeEqual(hash(secret), hash(header.slice(7)));
}
