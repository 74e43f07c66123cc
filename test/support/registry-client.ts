/**
 * A small registry client for tests and benchmarks. It works against any registry with token, Basic or no authentication,
 * and gives the raw `Response` of each step, so that a test asserts on what was really answered.
 */
import { createHash, randomBytes } from "node:crypto";

export interface RegistryClientOptions {
  /** `http://127.0.0.1:PORT`, without `/v2/`. */
  url: string;
  username?: string;
  password?: string;
}

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  [more: string]: unknown;
}

export interface PushedImage {
  manifest: Uint8Array;
  descriptor: Descriptor;
  config: Descriptor;
  layers: Descriptor[];
  /** The answer to the manifest's PUT. */
  response: Response;
}

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: BodyInit;
  /** Scope of the token, as `repository:acme/api:pull`; default: what the challenge asks for. */
  scope?: string;
  signal?: AbortSignal;
}

export type PushShape = "post-put" | "patch" | "chunked" | "single-post";

export const mediaTypes = {
  manifest: "application/vnd.oci.image.manifest.v1+json",
  index: "application/vnd.oci.image.index.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar",
  empty: "application/vnd.oci.empty.v1+json",
} as const;

const acceptedManifests = [
  mediaTypes.manifest,
  mediaTypes.index,
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "*/*",
].join(", ");
const octetStream = "application/octet-stream";

export class RegistryClient {
  readonly url: string;
  readonly #username: string | undefined;
  readonly #password: string;
  /** Authorization headers by scope; "" is the one for requests that name none. */
  readonly #authorizations = new Map<string, string>();

  constructor(options: RegistryClientOptions) {
    this.url = options.url.replace(/\/$/, "");
    this.#username = options.username;
    this.#password = options.password ?? "";
  }

  /**
   * Sends a request, fetches a token (once per scope) when the registry asks for one, and repeats it then. The body must
   * be repeatable: a stream is sent with `scope` given and a token fetched before, see `authorize`.
   */
  async request(path: string, options: RequestOptions = {}): Promise<Response> {
    const send = (authorization: string | undefined) =>
      fetchBlobAware(new URL(path, `${this.url}/`), {
        method: options.method ?? "GET",
        headers: { ...options.headers, ...(authorization === undefined ? {} : { authorization }) },
        ...(options.body === undefined ? {} : { body: options.body }),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
    const cached = this.#authorizations.get(options.scope ?? "");
    const response = await send(cached);
    const challenge = response.headers.get("www-authenticate");
    if (response.status !== 401 || challenge === null) return response;
    const authorization = await this.#answer(challenge, options.scope);
    // the same header was just refused: the 401 is the answer
    if (authorization === undefined || authorization === cached) return response;
    await response.body?.cancel();
    this.#authorizations.set(options.scope ?? "", authorization);
    return send(authorization);
  }

  /** The Authorization header for a scope, undefined where the registry asks for none. Bearer tokens are kept. */
  async authorize(scope: string): Promise<string | undefined> {
    const response = await fetch(`${this.url}/v2/`);
    const challenge = response.headers.get("www-authenticate");
    await response.body?.cancel();
    if (response.status !== 401 || challenge === null) return undefined;
    const authorization = await this.#answer(challenge, scope);
    if (authorization !== undefined) this.#authorizations.set(scope, authorization);
    return authorization;
  }

  /** Asks the token service named by a challenge and gives its raw answer. */
  async requestToken(challenge: string, scope?: string): Promise<Response> {
    const fields = parseChallenge(challenge);
    const realm = new URL(fields.realm ?? "", `${this.url}/`);
    if (fields.service !== undefined) realm.searchParams.set("service", fields.service);
    for (const each of (scope ?? fields.scope ?? "").split(" ")) if (each) realm.searchParams.append("scope", each);
    return fetch(realm, { headers: this.#username === undefined ? {} : { authorization: this.#basic() } });
  }

  /** Forgets all tokens, as a client that starts anew. */
  forgetTokens(): void {
    this.#authorizations.clear();
  }

  /** Pushes a blob and gives the last answer, 201 when it worked. An earlier refusal is given as it came. */
  async pushBlob(
    repository: string,
    content: Uint8Array,
    options: { shape?: PushShape; chunkBytes?: number; digest?: string } = {},
  ): Promise<Response> {
    const digest = options.digest ?? digestOf(content);
    const shape = options.shape ?? "post-put";
    const scope = pushScope(repository);
    const headers = { "content-type": octetStream };
    const base = `/v2/${repository}/blobs/uploads/`;
    if (shape === "single-post") {
      return this.request(`${base}?digest=${encodeURIComponent(digest)}`, {
        method: "POST",
        body: own(content),
        headers,
        scope,
      });
    }
    let response = await this.request(base, { method: "POST", scope });
    if (response.status !== 202) return response;
    const chunkBytes = shape === "chunked" ? (options.chunkBytes ?? 64 * 1024) : content.length;
    for (let start = 0; shape !== "post-put" && start < content.length; start += chunkBytes) {
      const chunk = content.subarray(start, start + chunkBytes);
      const range = shape === "chunked" ? { "content-range": `${start}-${start + chunk.length - 1}` } : {};
      response = await this.request(uploadLocation(response), {
        method: "PATCH",
        body: own(chunk),
        headers: { ...headers, ...range },
        scope,
      });
      if (response.status !== 202) return response;
    }
    return this.request(withDigest(uploadLocation(response), digest), {
      method: "PUT",
      scope,
      ...(shape === "post-put" ? { body: own(content), headers } : {}),
    });
  }

  pushManifest(
    repository: string,
    reference: string,
    manifest: Uint8Array | string | object,
    mediaType: string = mediaTypes.manifest,
  ): Promise<Response> {
    return this.request(`/v2/${repository}/manifests/${reference}`, {
      method: "PUT",
      body: own(toBytes(manifest)),
      headers: { "content-type": mediaType },
      scope: pushScope(repository),
    });
  }

  /** Pushes an image of random layers (default: one of 1 KiB) under a tag. Throws when a blob is refused. */
  async pushImage(
    repository: string,
    tag: string,
    options: { layers?: number; layerBytes?: number; manifest?: Record<string, unknown>; shape?: PushShape } = {},
  ): Promise<PushedImage> {
    const contents = Array.from({ length: options.layers ?? 1 }, () => randomBytes(options.layerBytes ?? 1024));
    const layers = contents.map((content) => describeContent(content, mediaTypes.layer));
    const configContent = toBytes({
      architecture: "amd64",
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.digest) },
    });
    for (const content of [...contents, configContent]) {
      const response = await this.pushBlob(repository, content, { shape: options.shape ?? "post-put" });
      if (response.status !== 201) throw new Error(`blob push to "${repository}": ${await describeResponse(response)}`);
    }
    const config = describeContent(configContent, mediaTypes.config);
    const manifest = toBytes({ schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers, ...options.manifest });
    const response = await this.pushManifest(repository, tag, manifest);
    return { manifest, descriptor: describeContent(manifest, mediaTypes.manifest), config, layers, response };
  }

  pullManifest(repository: string, reference: string, options: RequestOptions = {}): Promise<Response> {
    return this.request(`/v2/${repository}/manifests/${reference}`, {
      scope: pullScope(repository),
      ...options,
      headers: { accept: acceptedManifests, ...options.headers },
    });
  }

  pullBlob(repository: string, digest: string, options: RequestOptions = {}): Promise<Response> {
    return this.request(`/v2/${repository}/blobs/${digest}`, { scope: pullScope(repository), ...options });
  }

  listTags(repository: string, query = ""): Promise<Response> {
    return this.request(`/v2/${repository}/tags/list${query}`, { scope: pullScope(repository) });
  }

  listReferrers(repository: string, digest: string, query = ""): Promise<Response> {
    return this.request(`/v2/${repository}/referrers/${digest}${query}`, { scope: pullScope(repository) });
  }

  async #answer(challenge: string, scope: string | undefined): Promise<string | undefined> {
    if (/^basic\b/i.test(challenge)) return this.#username === undefined ? undefined : this.#basic();
    const response = await this.requestToken(challenge, scope);
    if (!response.ok) return undefined;
    const body = (await response.json()) as { token?: string; access_token?: string };
    const token = body.token ?? body.access_token;
    return token === undefined ? undefined : `Bearer ${token}`;
  }

  #basic(): string {
    return basicAuthorization(this.#username ?? "", this.#password);
  }
}

/**
 * Follows a blob's redirect to its store as clients do: with the same headers but for the Authorization, which is the
 * registry's alone. The registry names the digest beside the store's URL: the answer has it, as one without a redirect.
 */
async function fetchBlobAware(url: URL, init: RequestInit & { headers: Record<string, string> }): Promise<Response> {
  const response = await fetch(url, { ...init, redirect: "manual" });
  const location = response.headers.get("location");
  if (response.status !== 307 || location === null) return response;
  const { authorization: _, ...headers } = init.headers;
  const stored = await fetch(new URL(location, url), { ...init, headers });
  const merged = new Headers(stored.headers);
  const digest = response.headers.get("docker-content-digest");
  if (digest !== null) merged.set("docker-content-digest", digest);
  const { status, statusText, url: storeUrl } = stored;
  const answer = new Response(stored.body, { status, statusText, headers: merged });
  // Where it came from, which a response made by hand does not say.
  return Object.defineProperty(answer, "url", { value: storeUrl });
}

export function basicAuthorization(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

export function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

export function pushScope(repository: string): string {
  return `repository:${repository}:pull,push`;
}

export function digestOf(content: Uint8Array, algorithm: "sha256" | "sha512" = "sha256"): string {
  return `${algorithm}:${createHash(algorithm).update(content).digest("hex")}`;
}

export function describeContent(content: Uint8Array, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(content), size: content.length };
}

/** Parameters of a `WWW-Authenticate: Bearer …` header. Source: RFC 9110, section 11. */
export function parseChallenge(header: string): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const [, name, quoted, bare] of header.matchAll(/([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))/gi)) {
    if (name !== undefined) fields[name.toLowerCase()] = quoted?.replace(/\\(.)/g, "$1") ?? bare ?? "";
  }
  return fields;
}

/** Where the upload goes on: the Location of its last answer, which may be relative. */
export function uploadLocation(response: Response): string {
  const location = response.headers.get("location");
  if (location === null) throw new Error(`upload answer ${response.status} of ${response.url} has no Location`);
  return new URL(location, response.url).href;
}

/** The upload's location with the digest that ends it; a Location may bring a query of its own. */
export function withDigest(location: string, digest: string): string {
  return `${location}${location.includes("?") ? "&" : "?"}digest=${encodeURIComponent(digest)}`;
}

/** Status and body, for error messages. */
export async function describeResponse(response: Response): Promise<string> {
  return `${response.status} from ${response.url}: ${(await response.text()).slice(0, 1000)}`;
}

export function toBytes(content: Uint8Array | string | object): Uint8Array {
  if (content instanceof Uint8Array) return content;
  return new TextEncoder().encode(typeof content === "string" ? content : JSON.stringify(content));
}

/** fetch takes bytes over an ArrayBuffer of their own; Node's Buffers may share a pool. */
function own(content: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(content);
}
