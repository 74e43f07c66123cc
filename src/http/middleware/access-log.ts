/** What is noted of every request: its id, its duration, who made it and what became of it. */

import type { App } from "../../app.ts";
import type { Client } from "../context.ts";

export interface FinishedRequest {
  readonly request: Request;
  readonly response: Response;
  readonly requestId: string;
  readonly route: string;
  readonly client: Client;
  readonly username: string | undefined;
  /** `performance.now()` when the request came in. */
  readonly startedMs: number;
}

type Observation = (seconds: number) => void;

/** Counts and logs finished requests. Labelled series are looked up once: their number is bounded by the route table. */
export function createAccessLog(app: App): (finished: FinishedRequest) => void {
  const series = new Map<string, Observation>();

  function observe(method: string, route: string, status: string, seconds: number): void {
    const key = `${method} ${route} ${status}`;
    let observation = series.get(key);
    if (!observation) {
      const child = app.metrics.requestDuration.labels({ method, route, status });
      observation = (value) => child.observe(value);
      series.set(key, observation);
    }
    observation(seconds);
  }

  return ({ request, response, requestId, route, client, username, startedMs }) => {
    const durationMs = performance.now() - startedMs;
    observe(
      KNOWN_METHODS.has(request.method) ? request.method : "other",
      route,
      String(response.status),
      durationMs / 1000,
    );
    const level = isRoutine(request.method, response.status) ? "debug" : "info";
    if (!app.log.wants(level)) return;
    app.log[level]("request", {
      requestId,
      method: request.method,
      // Never the query: a mail link or an old client may carry a secret there.
      path: pathOf(request.url),
      status: response.status,
      durationMs: Math.round(durationMs * 10) / 10,
      ip: client.clientIp,
      user: username,
    });
  };
}

const KNOWN_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** Pulls that went well fill disks and tell nothing: they are counted in metrics and logged only at debug level. */
function isRoutine(method: string, status: number): boolean {
  return (method === "GET" || method === "HEAD") && status < 500 && status !== 429;
}

function pathOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("://") + 3);
  const end = url.indexOf("?", start);
  return end === -1 ? url.slice(start) : url.slice(start, end);
}
