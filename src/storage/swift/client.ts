/**
 * Requests to one container of a Swift account: token, tries and the meaning of statuses. Objects are named in full here,
 * with the engine's storage_path in front; what they are for is decided elsewhere.
 */

import { z } from "zod";
import { RegistryError } from "../../errors.ts";
import { type Clock, isRecent } from "../../lib/clock.ts";
import {
  discard,
  isPassingStatus,
  passingAnswer,
  type RemoteBody,
  type RemoteFetch,
  type RemoteRequest,
  readText,
} from "../remote/request.ts";
import { PassingFailure, type RetryOptions, retrying } from "../remote/retry.ts";
import type { SwiftAuth, SwiftSession } from "./auth.ts";
import { parseJson } from "./state.ts";

export interface SwiftRequest {
  readonly method: RemoteRequest["method"];
  /** Undefined is the container itself. */
  readonly object?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: RemoteBody;
  /** Statuses that the caller understands, beside those from 200 to 299. */
  readonly accept?: readonly number[];
  readonly answerMs?: number;
  /** One try, for questions that are asked again anyway. */
  readonly once?: boolean;
}

export interface SwiftListed {
  readonly name: string;
  readonly sizeBytes: number;
  /** By the store's clock. */
  readonly modifiedMs: number;
}

/** What a cluster says of itself at `/info`. */
export interface SwiftInfo {
  /**
   * Longest manifest of a static large object; undefined where there are none, and on radosgw, which makes them but does not
   * give their manifests back: nobody could tell what to delete. It is known by what it leaves out at `/info`.
   */
  readonly staticSegmentsMax: number | undefined;
  /** Strongest digest that a TempURL may be signed with. */
  readonly tempUrlDigest: "sha256" | "sha1";
}

export interface SwiftClientOptions {
  readonly fetch: RemoteFetch;
  readonly auth: SwiftAuth;
  readonly container: string;
  readonly clock: Clock;
  readonly retry: RetryOptions;
  /** `retry_on_ratelimit`: whether 498 and 429 pass. */
  readonly retriesRateLimit: boolean;
}

const UNAUTHORIZED = 401;
const CONFLICT = 409;
/** Swift found other bytes than the ETag we sent: they were damaged on their way. */
const DAMAGED = 422;
/** Swift's own "too many requests", older than 429. */
const RATE_LIMITED = 498;
const FULL_STATUSES: ReadonlySet<number> = new Set([413, 507]);
/** A page of a listing: its text stays below LIST_CHARS_MAX with names of 1,024 bytes, Swift's longest. */
const LIST_LIMIT = 1000;
const LIST_CHARS_MAX = 8 * 1024 * 1024;
/** A cluster's abilities change with its configuration. */
const INFO_REUSE_MS = 3_600_000;
/** What is taken for granted where `/info` is hidden. */
const UNTOLD: SwiftInfo = { staticSegmentsMax: 1000, tempUrlDigest: "sha256" };

export class SwiftClient {
  readonly #options: SwiftClientOptions;
  #info: { readonly value: Promise<SwiftInfo>; readonly atMs: number } | undefined;

  constructor(options: SwiftClientOptions) {
    this.#options = options;
  }

  get container(): string {
    return this.#options.container;
  }

  /** The answer to a request whose status is below 300 or accepted. Throws `unavailable`, or `storage_full`. */
  send(request: SwiftRequest): Promise<Response> {
    const { retry } = this.#options;
    let sent: SwiftSession | undefined;
    return retrying(
      async () => {
        // A refused upload may end in a broken connection, which does not say that the token is to blame.
        if (sent && request.body !== undefined) await this.#prove(sent);
        sent = await this.#options.auth.session();
        const first = await this.#try(request, sent);
        if (first.status !== UNAUTHORIZED) return this.#judge(request, first);
        await discard(first);
        this.#options.auth.refused(sent);
        sent = await this.#options.auth.session();
        return this.#judge(request, await this.#try(request, sent));
      },
      request.once ? { ...retry, triesMax: 1 } : retry,
    );
  }

  /** The same for requests whose answer has nothing to read. Gives its status and headers. */
  async call(request: SwiftRequest): Promise<Response> {
    const response = await this.send(request);
    await discard(response);
    return response;
  }

  /** Where a client finds an object, for a URL of its own. */
  async locate(object: string): Promise<URL> {
    return new URL(this.#url(await this.#options.auth.session(), { method: "GET", object }));
  }

  /** Puts a small object, or a part of a large one, under its name. */
  async put(object: string, body: RemoteBody, headers: Record<string, string> = {}): Promise<void> {
    await this.call({ method: "PUT", object, body, headers: { "content-type": OCTETS, ...headers } });
  }

  /** Copies an object inside the store. False when there is none under the name `from`. */
  async copy(from: string, to: string): Promise<boolean> {
    const source = pathOf(this.container, from);
    const headers = { "x-copy-from": source, "content-length": "0", "content-type": OCTETS };
    const request = { method: "PUT", object: to, headers, accept: [404], answerMs: COPY_MS } as const;
    return (await this.call(request)).status !== 404;
  }

  /** Headers of an object, undefined when there is none. */
  async head(object: string): Promise<Headers | undefined> {
    const response = await this.call({ method: "HEAD", object, accept: [404] });
    return response.status === 404 ? undefined : response.headers;
  }

  /** Removes an object; that it is not there is no error. */
  async remove(object: string): Promise<void> {
    await this.call({ method: "DELETE", object, accept: [404] });
  }

  /** The objects whose names begin with `prefix`, in the order of their names, page by page. */
  async *list(prefix: string): AsyncGenerator<SwiftListed> {
    for (let marker = ""; ; ) {
      const query = { format: "json", prefix, limit: String(LIST_LIMIT), ...(marker === "" ? {} : { marker }) };
      const response = await this.send({ method: "GET", query });
      // An empty page may come without a body.
      const text = (await readText(response, LIST_CHARS_MAX)) || "[]";
      const { success, data: page } = listing.safeParse(parseJson(text));
      if (!success) throw new PassingFailure(`${NAME} answered with no listing of container "${this.container}"`);
      for (const { name, bytes, last_modified } of page) {
        yield { name, sizeBytes: bytes, modifiedMs: Date.parse(`${last_modified.replace(/Z$/, "")}Z`) };
      }
      const last = page.at(-1);
      if (!last) return;
      marker = last.name;
    }
  }

  /** What the cluster can do; asked for once an hour, and taken for granted where it does not tell. */
  info(): Promise<SwiftInfo> {
    const nowMs = this.#options.clock.nowMs();
    if (!this.#info || !isRecent(this.#info.atMs, nowMs, INFO_REUSE_MS)) {
      const value = this.#askInfo();
      this.#info = { value, atMs: nowMs };
      value.catch(() => {
        this.#info = undefined;
      });
    }
    return this.#info.value;
  }

  async #askInfo(): Promise<SwiftInfo> {
    const { auth, fetch, clock, retry } = this.#options;
    const { storageUrl } = await auth.session();
    const url = new URL(storageUrl);
    const version = url.pathname.search(/\/v1(\/|$)/);
    url.pathname = `${version < 0 ? "" : url.pathname.slice(0, version)}/info`;
    return retrying(async () => {
      const response = await fetch({ method: "GET", url: url.href });
      const text = await readText(response, LIST_CHARS_MAX);
      if (isPassingStatus(response.status)) throw passingAnswer(NAME, response, clock.nowMs());
      if (response.status !== 200) return UNTOLD;
      const told = about.safeParse(parseJson(text));
      if (!told.success) return UNTOLD;
      const { slo, tempurl } = told.data;
      return {
        staticSegmentsMax: slo?.min_segment_size === undefined ? undefined : (slo.max_manifest_segments ?? 1000),
        // A cluster that lists none is older than the choice.
        tempUrlDigest: tempurl?.allowed_digests?.includes("sha256") ? "sha256" : "sha1",
      };
    }, retry);
  }

  #try(request: SwiftRequest, session: SwiftSession): Promise<Response> {
    const { method, headers, body, answerMs } = request;
    return this.#options.fetch({
      method,
      url: this.#url(session, request),
      headers: { ...headers, "x-auth-token": session.token },
      ...(body === undefined ? {} : { body }),
      ...(answerMs === undefined ? {} : { answerMs }),
    });
  }

  #url({ storageUrl }: SwiftSession, { object, query }: SwiftRequest): string {
    const search = query ? `?${new URLSearchParams(query)}` : "";
    return `${storageUrl}/${pathOf(this.container, object)}${search}`;
  }

  async #judge(request: SwiftRequest, response: Response): Promise<Response> {
    const { status } = response;
    if (status < 300 || request.accept?.includes(status)) return response;
    await discard(response);
    const { clock, retriesRateLimit } = this.#options;
    const isRateLimit = status === RATE_LIMITED || status === 429;
    // Two writers of one name at the same moment: Swift orders them by time, and lets one of them try again.
    const isCollision = status === CONFLICT && request.method !== "GET" && request.method !== "HEAD";
    if (isRateLimit ? retriesRateLimit : isCollision || status === DAMAGED || isPassingStatus(status)) {
      throw passingAnswer(NAME, response, clock.nowMs());
    }
    const message = `${NAME} answered ${status} to ${request.method} in container "${this.container}"`;
    throw new RegistryError(FULL_STATUSES.has(status) ? "storage_full" : "unavailable", { message });
  }

  /** Drops a token that is not good any more, before an upload is sent with it once again. */
  async #prove(session: SwiftSession): Promise<void> {
    const response = await this.#try({ method: "HEAD" }, session).catch((error: unknown) => {
      if (error instanceof PassingFailure) return undefined;
      throw error;
    });
    if (!response) return;
    await discard(response);
    if (response.status === UNAUTHORIZED) this.#options.auth.refused(session);
  }
}

/** How messages call the store. */
export const NAME = "the Swift store";
/** Else Swift guesses a type from the name. */
const OCTETS = "application/octet-stream";
/** A copy is over when its bytes are. */
const COPY_MS = 120_000;

const listing = z.array(
  // Lists made with a delimiter have entries of another kind; none is.
  z.object({ name: z.string(), bytes: z.number(), last_modified: z.string() }),
);
const about = z.object({
  slo: z
    .object({
      max_manifest_segments: z.number().int().positive().optional(),
      min_segment_size: z.number().optional(),
    })
    .optional(),
  tempurl: z.object({ allowed_digests: z.array(z.string()).optional() }).optional(),
});

/** `container/object` as it stands in a URL. */
export function pathOf(container: string, object?: string): string {
  const encoded = encodeURIComponent(container);
  return object === undefined ? encoded : `${encoded}/${object.split("/").map(encodeURIComponent).join("/")}`;
}
