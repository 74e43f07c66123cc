/**
 * Signatures of version 4, made by `@smithy/signature-v4` on Bun's own hashes. The library is loaded with the first request:
 * a registry on a local disk never needs it.
 */

import type { HttpRequest } from "@smithy/types";
import type { Clock } from "../../lib/clock.ts";

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface SignerOptions {
  readonly region: string;
  /** `s3`, or `sts`: they differ in how a path is written. */
  readonly service: string;
  readonly credentials: () => Promise<Credentials>;
  readonly clock: Clock;
}

export interface SignedRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** SHA-256 of the body in hex, or `unsignedPayload`. */
  readonly payloadHash: string;
}

/** For a body that TLS protects already; every S3 server takes it. */
export const unsignedPayload = "UNSIGNED-PAYLOAD";
const hashHeader = "x-amz-content-sha256";

export class Signer {
  readonly #options: SignerOptions;
  #loading: ReturnType<typeof load> | undefined;
  /** Server's clock minus ours, learnt when the server found ours too far away. */
  #skewMs = 0;

  constructor(options: SignerOptions) {
    this.#options = options;
  }

  /** The request's headers with the signature among them. */
  async sign({ method, url, headers, payloadHash }: SignedRequest): Promise<Record<string, string>> {
    const request = parts(method, url, { ...headers, host: url.host, [hashHeader]: payloadHash });
    const signed = await (await this.#signer()).sign(request, { signingDate: this.#now() });
    const { host: _, ...rest } = signed.headers;
    return rest;
  }

  /** A URL that is good for one method and `lifeSeconds`, without headers. */
  async presign(method: string, url: URL, lifeSeconds: number): Promise<string> {
    const request = parts(method, url, { host: url.host, [hashHeader]: unsignedPayload });
    const options = {
      signingDate: this.#now(),
      expiresIn: lifeSeconds,
      // It says how the payload is signed here, and is no header that the client would send.
      unsignableHeaders: new Set([hashHeader]),
      unhoistableHeaders: new Set([hashHeader]),
    };
    const { query } = await (await this.#signer()).presign(request, options);
    const signed = new URL(url);
    signed.search = Object.entries(query ?? {})
      .map(([name, value]) => `${encodeRfc3986(name)}=${encodeRfc3986(String(value))}`)
      .join("&");
    return signed.href;
  }

  /** Signs by this clock from now on. */
  setServerTime(nowMs: number): void {
    this.#skewMs = nowMs - this.#options.clock.nowMs();
  }

  /** The time that is signed with. */
  nowMs(): number {
    return this.#options.clock.nowMs() + this.#skewMs;
  }

  #now(): Date {
    return new Date(this.nowMs());
  }

  #signer() {
    this.#loading ??= load(this.#options);
    return this.#loading;
  }
}

/** The access key that signed headers name. */
export function accessKeyOf(headers: Readonly<Record<string, string>>): string {
  return /Credential=([^/]+)\//.exec(headers.authorization ?? "")?.[1] ?? "";
}

/** As signatures want it: everything but letters, digits and `-_.~` as %XX. */
export function encodeRfc3986(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** A key as a URL's path: each part encoded, slashes kept. */
export function encodeKey(key: string): string {
  return key.split("/").map(encodeRfc3986).join("/");
}

export function sha256Hex(data: string | Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(data).digest("hex");
}

async function load({ region, service, credentials }: SignerOptions) {
  const { SignatureV4 } = await import("@smithy/signature-v4");
  return new SignatureV4({ region, service, credentials, sha256: Sha256, uriEscapePath: service !== "s3" });
}

function parts(method: string, url: URL, headers: Record<string, string>): HttpRequest {
  return {
    method,
    protocol: url.protocol,
    hostname: url.hostname,
    ...(url.port === "" ? {} : { port: Number(url.port) }),
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    headers,
  };
}

type Bytes = string | ArrayBuffer | ArrayBufferView;

/** What the library asks of a hash: SHA-256, with a key HMAC-SHA-256. */
class Sha256 {
  readonly #secret: Uint8Array | undefined;
  #hasher: Bun.CryptoHasher;

  constructor(secret?: Bytes) {
    this.#secret = secret === undefined ? undefined : bytesOf(secret);
    this.#hasher = new Bun.CryptoHasher("sha256", this.#secret);
  }

  update(data: Bytes): void {
    this.#hasher.update(bytesOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return new Uint8Array(this.#hasher.digest());
  }

  reset(): void {
    this.#hasher = new Bun.CryptoHasher("sha256", this.#secret);
  }
}

function bytesOf(data: Bytes): Uint8Array {
  if (typeof data === "string") return new TextEncoder().encode(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return new Uint8Array(data);
}
