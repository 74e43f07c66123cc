/**
 * What every file of this suite starts from: the real server, and clients that come as somebody. Every answer of success is
 * held against the route's own schema, strictly, so that each test is a contract test of every body it meets.
 */

import { startSession } from "../../src/domain/session/session.ts";
import { findAccount } from "../../src/domain/user/account.ts";
import { createMatcher } from "../../src/http/api/match.ts";
import type { ApiRoute } from "../../src/http/api/route.ts";
import { apiRoutes } from "../../src/http/api/routes.ts";
import { csrfToken } from "../../src/http/auth/session.ts";
import { type Registry, startRegistry } from "../registry/harness.ts";
import type { BerthOptions } from "../support/berth.ts";

export interface ApiAnswer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: what a test expects of a body it says itself
  readonly body: any;
  readonly text: string;
  readonly headers: Headers;
}

/** A body sent as JSON; FormData and texts go as they are. */
export type Sent = unknown;

export class ApiClient {
  readonly url: string;
  /** Sent with every request; a test may change them. */
  readonly headers: Record<string, string>;

  constructor(url: string, headers: Record<string, string> = {}) {
    this.url = url;
    this.headers = headers;
  }

  get(path: string, headers?: Record<string, string>): Promise<ApiAnswer> {
    return this.send("GET", path, undefined, headers);
  }
  post(path: string, body?: Sent, headers?: Record<string, string>): Promise<ApiAnswer> {
    return this.send("POST", path, body, headers);
  }
  put(path: string, body?: Sent, headers?: Record<string, string>): Promise<ApiAnswer> {
    return this.send("PUT", path, body, headers);
  }
  delete(path: string, body?: Sent, headers?: Record<string, string>): Promise<ApiAnswer> {
    return this.send("DELETE", path, body, headers);
  }

  /** `path` is below /api/v1. Throws when a success does not have the shape that its route declares. */
  async send(method: string, path: string, body?: Sent, headers: Record<string, string> = {}): Promise<ApiAnswer> {
    const isJson = body !== undefined && typeof body !== "string";
    const response = await fetch(`${this.url}/api/v1${path}`, {
      method,
      redirect: "manual",
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...this.headers, ...headers },
      ...(body === undefined ? {} : { body: isJson ? JSON.stringify(body) : (body as string) }),
    });
    const text = await response.text();
    const parsed = parse(text);
    checkShape(method, path, response.status, text, parsed);
    return { status: response.status, body: parsed, text, headers: response.headers };
  }
}

export interface Api extends Registry {
  /** A browser signed in as this user just now: session cookie and CSRF value. */
  as(username: string): Promise<ApiClient>;
  /** A caller with an OAuth token. */
  bearer(token: string): ApiClient;
  /** Nobody, with the visitor's cookie and CSRF value that a browser has. */
  nobody(): Promise<ApiClient>;
}

/** Starts the server with these keys over the embedded default, on the engine that TEST_DB names. */
export async function startApi(
  config: Record<string, unknown> = {},
  options: Omit<BerthOptions, "config" | "overrides"> = {},
): Promise<Api> {
  const registry = await startRegistry(config, options);
  const { url } = registry.berth;
  return {
    ...registry,
    async as(username) {
      const account = await findAccount(registry.app.db, username);
      if (!account) throw new Error(`no account "${username}"`);
      const request = { ip: undefined, userAgent: undefined };
      const token = await registry.app.db.tx((tx) =>
        startSession(registry.app, tx, { accountId: account.id, request, nowMs: Date.now() }),
      );
      return new ApiClient(url, {
        Cookie: `_csrf_token=${token}`,
        "X-CSRF-Token": csrfToken(registry.app, token),
      });
    },
    bearer: (token) => new ApiClient(url, { Authorization: `Bearer ${token}` }),
    async nobody() {
      const response = await fetch(`${url}/csrf_token`);
      const { csrf_token } = (await response.json()) as { csrf_token: string };
      const cookie = response.headers.get("set-cookie")?.split(";")[0] ?? "";
      return new ApiClient(url, { Cookie: cookie, "X-CSRF-Token": csrf_token });
    },
  };
}

/** What a JSON error of Quay's envelope says; throws when it is none. */
export function envelopeOf(answer: ApiAnswer): { type: string; detail: string; decision: string | undefined } {
  const { error_type, detail, error_message, title, type, status, decision } = answer.body ?? {};
  const isEnvelope =
    typeof error_type === "string" &&
    typeof detail === "string" &&
    error_message === detail &&
    title === error_type &&
    typeof type === "string" &&
    type.endsWith(`/api/v1/error/${error_type}`) &&
    status === answer.status;
  if (!isEnvelope) throw new Error(`not an error envelope: ${answer.status} ${answer.text}`);
  return { type: error_type, detail, decision };
}

let matcher: ReturnType<typeof createMatcher<ApiRoute>> | undefined;

function checkShape(method: string, path: string, status: number, text: string, body: unknown): void {
  if (status < 200 || status > 299) return;
  matcher ??= createMatcher(apiRoutes());
  const found = matcher(method === "HEAD" ? "GET" : method, path.split("?")[0] ?? path);
  if (found.kind !== "route") return;
  const { answers } = found.route;
  const where = `${method} ${path} (${found.route.path})`;
  if (!Object.hasOwn(answers, status)) throw new Error(`${where} answered ${status}, which it does not declare`);
  const schema = answers[status];
  if (schema === null || schema === undefined) {
    if (text !== "") throw new Error(`${where} answered ${status} with a body it does not declare: ${text}`);
    return;
  }
  if (method === "HEAD") return;
  const checked = schema().safeParse(body);
  if (!checked.success) throw new Error(`${where} answered ${status} in another shape: ${checked.error} in ${text}`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
