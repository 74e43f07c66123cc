/**
 * The HTTP of a client that lives through kills: a connection that broke and an answer that says "not now" are told apart
 * from everything that must not be. Blobs that are being pushed are known to `Leases`.
 */
import { bytesOf } from "../../crash/random.ts";
import { basicAuthorization, withDigest } from "../../support/registry-client.ts";
import type { Leases } from "./leases.ts";
import type { Layer } from "./pool.ts";

/** The server was killed before it answered. */
export class Lost extends Error {}
/** The server said that it cannot now, or that what the push relied on is gone: the client begins anew. */
export class Refused extends Error {}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array;
  readonly text: string;
}

export interface Call {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array;
}

export const PUSHES = ["post-put", "patch", "chunked", "single-post", "resume"] as const;
export type PushShape = (typeof PUSHES)[number];

/** Far beyond what anything takes here; a request that is never answered must not hang the run. */
const ANSWER_WITHIN_MS = 120_000;
const octets = { "content-type": "application/octet-stream" };

export class ChaosHttp {
  readonly #url: () => string;
  readonly #authorization: string;
  readonly #leases: Leases;

  constructor(options: { url: () => string; password: string; leases: Leases }) {
    this.#url = options.url;
    this.#authorization = basicAuthorization("admin", options.password);
    this.#leases = options.leases;
  }

  /** Throws `Lost`, and `Refused` for 503. Every other status is the caller's to judge. */
  async send(path: string, call: Call = {}): Promise<Answer> {
    const what = `${call.method ?? "GET"} ${path}`;
    const answer = await sending(what, async () => {
      const response = await this.#fetch(new URL(path, this.#url()), call);
      const location = response.headers.get("location");
      const stored = response.status === 307 && location !== null ? await fetch(location) : response;
      const body = await stored.bytes();
      const text = new TextDecoder().decode(body.subarray(0, 2000));
      return { status: stored.status, headers: response.headers, body, text };
    });
    if (answer.status === 503) throw new Refused(`${what}: 503 ${answer.text}`);
    if (answer.status >= 500) throw new Error(`${what}: ${answer.status} ${answer.text}`);
    return answer;
  }

  /** Connections are not kept: a request on one that a dead server left would fail without having been tried. */
  #fetch(url: URL, { method = "GET", headers = {}, body }: Call): Promise<Response> {
    return fetch(url, {
      method,
      redirect: "manual",
      headers: {
        connection: "close",
        accept: "*/*",
        "cache-control": "no-cache",
        authorization: this.#authorization,
        ...headers,
      },
      ...(body === undefined ? {} : { body: new Uint8Array(body) }),
      signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    });
  }

  /** Pushes a blob. Throws `Refused` when it has to be pushed anew. */
  pushBlob(repository: string, layer: Layer, shape: PushShape): Promise<void> {
    return this.#leases.pushing(layer.digest, async () => {
      const answer = await this.#push(repository, layer, shape);
      if (answer.status === 201) return;
      // A session that was swept, or whose last request is still under way at the server that died.
      if (answer.status === 404 || answer.status === 416) throw new Refused(`push: ${answer.status} ${answer.text}`);
      throw new Error(`push of ${layer.digest} to ${repository}: ${answer.status} ${answer.text}`);
    });
  }

  async #push(repository: string, { content, digest }: Layer, shape: PushShape): Promise<Answer> {
    const bytes = bytesOf(content);
    const base = `/v2/${repository}/blobs/uploads/`;
    const named = `${base}?digest=${encodeURIComponent(digest)}`;
    if (shape === "single-post") return this.send(named, { method: "POST", body: bytes, headers: octets });
    let answer = await this.send(base, { method: "POST" });
    const chunks = shape === "chunked" ? 3 : shape === "post-put" ? 0 : 1;
    for (let chunk = 0; chunk < chunks && answer.status === 202; chunk++) {
      const [start, end] = [chunk, chunk + 1].map((part) => Math.floor((bytes.length * part) / chunks));
      if (start === end) continue;
      const body = bytes.subarray(start, end);
      answer = await this.send(locationOf(answer), { method: "PATCH", body, headers: octets });
    }
    if (answer.status !== 202) return answer;
    const last = withDigest(locationOf(answer), digest);
    const put = () => this.send(last, { method: "PUT", ...(chunks === 0 ? { body: bytes, headers: octets } : {}) });
    if (shape !== "resume") return put();
    // As a client does that goes on after a kill: either the bytes are still there, or it is told to begin anew.
    return put().catch(async (error: unknown) => {
      if (!(error instanceof Lost)) throw error;
      await this.#leases.steady();
      return put();
    });
  }
}

function locationOf(answer: Answer): string {
  const location = answer.headers.get("location");
  if (location === null) throw new Error(`an upload's answer ${answer.status} has no Location`);
  return location;
}

/** Runs a request and tells of a connection that broke by `Lost`. */
export async function sending<T>(what: string, request: () => Promise<T>): Promise<T> {
  try {
    return await request();
  } catch (error) {
    // fetch tells of refused, reset and half-read connections by these codes.
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (!/^(ConnectionRefused|ConnectionClosed|ECONNRESET|ECONNREFUSED|EPIPE|FailedToOpenSocket)$/.test(code))
      throw error;
    throw new Lost(what, { cause: error });
  }
}
