/** Signed requests to one bucket, tried again when they fail in passing. Which ones make an upload is not told here. */

import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../observe/logger.ts";
import type { PartBuffer } from "../remote/part-pool.ts";
import { discard, type RemoteBody, type RemoteFetch, readText } from "../remote/request.ts";
import { PassingFailure, type RetryOptions, retrying } from "../remote/retry.ts";
import type { CredentialSource } from "./credentials.ts";
import type { Endpoint } from "./endpoint.ts";
import { errorOf, isExpired, readError, type S3Answer, S3Refusal } from "./errors.ts";
import { accessKeyOf, encodeKey, encodeRfc3986, Signer, sha256Hex, unsignedPayload } from "./sign.ts";
import { parseXml, type XmlElement } from "./xml.ts";

export interface S3ClientOptions {
  /** The engine's name in messages. */
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly bucket: string;
  readonly region: string;
  readonly credentials: CredentialSource;
  readonly fetch: RemoteFetch;
  readonly clock: Clock;
  readonly log: Logger;
  readonly retry?: RetryOptions;
}

export interface S3Call {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  /** The whole key; the bucket itself when left out. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | PartBuffer;
  /** SHA-256 of the body in hex, where the caller knows it. */
  readonly sha256?: string;
  /** Statuses that are answers, beside those from 200 to 299. */
  readonly accept?: readonly number[];
  readonly signal?: AbortSignal;
  readonly answerMs?: number;
  /** One try only. */
  readonly once?: boolean;
}

const emptySha256 = sha256Hex("");
/** S3 takes times that are a quarter of an hour off; a little less, for what the answer took. */
const skewMaxMs = 14 * 60_000;

export class S3Client {
  readonly #options: S3ClientOptions;
  readonly #signer: Signer;
  readonly #openSigner: Signer;

  constructor(options: S3ClientOptions) {
    this.#options = options;
    const { region, clock, credentials } = options;
    const signer = () => new Signer({ region, clock, service: "s3", credentials: () => credentials.get() });
    this.#signer = signer();
    this.#openSigner = signer();
  }

  get name(): string {
    return this.#options.name;
  }

  get bucket(): string {
    return this.#options.bucket;
  }

  /** Whether bytes on the way are protected by TLS and need no hash of ours. */
  get isSecure(): boolean {
    return this.#options.endpoint.isSecure;
  }

  /** Gives the answer, whose body must be read or discarded. Throws PassingFailure after the last try, or S3Refusal. */
  call(call: S3Call): Promise<Response> {
    return this.retry(() => this.#attempt(call), call);
  }

  /** The XML document that a call is answered with. An error that hides in a 200 counts as one. */
  callXml(call: S3Call): Promise<XmlElement> {
    return this.retry(() => this.attemptXml(call), call);
  }

  /** The same, for one try of a caller that looks around before it tries again. */
  async attemptXml(call: S3Call): Promise<XmlElement> {
    const response = await this.#attempt(call);
    const text = await readText(response, documentCharsMax);
    const document = parseXml(text);
    if (document && document.name !== "Error") return document;
    if (!document) throw new PassingFailure(`${this.name} broke off its answer to a ${call.method}`);
    throw errorOf(response, readError(text), this.#context());
  }

  /** Runs tries with the engine's patience. */
  retry<T>(work: (tries: number) => Promise<T>, { once, signal }: Pick<S3Call, "once" | "signal"> = {}): Promise<T> {
    return retrying(work, {
      onRetry: (failure, tries, delayMs) => {
        const fields = { engine: this.name, error: failure.message, tries, delayMs: Math.round(delayMs) };
        this.#options.log.info("trying a request to the store again", fields);
      },
      ...this.#options.retry,
      ...(once ? { triesMax: 1 } : {}),
      ...(signal ? { signal } : {}),
    });
  }

  /** A URL with which a client reads the object by itself. */
  presign(method: "GET" | "HEAD", key: string, query: Record<string, string>, lifeSeconds: number): Promise<string> {
    return this.#openSigner.presign(
      method,
      this.#url(this.#options.endpoint.publicBucketUrl, { key, query }),
      lifeSeconds,
    );
  }

  async #attempt(call: S3Call, knowsTime = false): Promise<Response> {
    const { fetch, endpoint, credentials } = this.#options;
    const url = this.#url(endpoint.bucketUrl, call);
    const headers = await this.#signer.sign({
      method: call.method,
      url,
      headers: call.headers ?? {},
      payloadHash: this.#payloadHash(call),
    });
    const response = await fetch({
      method: call.method,
      url: url.href,
      headers,
      ...(call.body === undefined ? {} : { body: bodyOf(call.body) }),
      ...(call.signal ? { signal: call.signal } : {}),
      ...(call.answerMs === undefined ? {} : { answerMs: call.answerMs }),
    });
    if (response.ok || call.accept?.includes(response.status)) return response;
    const answer = readError(await readText(response).catch(() => ""));
    // What is wrong with a HEAD is not said. A 400 may mean that its keys have run out, or that it came too slowly.
    const isUnsaid = call.method === "HEAD" && response.status === 400;
    if (isUnsaid || isExpired(answer)) credentials.refused(accessKeyOf(headers));
    if (!knowsTime && this.#isSkewed(response, answer)) {
      this.#learnTime(response);
      return this.#attempt(call, true);
    }
    if (isUnsaid) throw new PassingFailure(`${this.name} answered ${response.status} to a HEAD`);
    throw errorOf(response, answer, this.#context());
  }

  #payloadHash({ body, sha256 }: S3Call): string {
    if (sha256 !== undefined) return sha256;
    if (body === undefined) return emptySha256;
    if (typeof body === "string") return sha256Hex(body);
    return (this.isSecure ? undefined : body.sha256()) ?? unsignedPayload;
  }

  /** Whether our time was what the server refused. The answer to a HEAD does not say it, but has the server's own time. */
  #isSkewed(response: Response, { code }: S3Answer): boolean {
    if (code === "RequestTimeTooSkewed") return true;
    const dateMs = Date.parse(response.headers.get("date") ?? "");
    const isFar = Math.abs(dateMs - this.#signer.nowMs()) > skewMaxMs;
    return code === undefined && response.status === 403 && isFar;
  }

  /** Our clock is too far off for the server: sign by its own. */
  #learnTime(response: Response): void {
    const dateMs = Date.parse(response.headers.get("date") ?? "");
    if (Number.isNaN(dateMs)) return;
    this.#options.log.warn("this machine's clock is far from the store's", { store: new Date(dateMs).toISOString() });
    this.#signer.setServerTime(dateMs);
    this.#openSigner.setServerTime(dateMs);
  }

  #url(base: string, { key, query }: Pick<S3Call, "key" | "query">): URL {
    const search = Object.entries(query ?? {})
      .map(([name, value]) => `${encodeRfc3986(name)}=${encodeRfc3986(value)}`)
      .join("&");
    return new URL(`${base}${encodeKey(key ?? "")}${search === "" ? "" : `?${search}`}`);
  }

  #context() {
    const { name, bucket, region, clock } = this.#options;
    return { name, bucket, region, nowMs: clock.nowMs() };
  }
}

/** A list of 1,000 keys of 1,024 characters, and what stands around them. */
const documentCharsMax = 4 * 1024 * 1024;

function bodyOf(body: string | PartBuffer): RemoteBody {
  return body;
}

/** Size of an object, undefined when there is none. */
export async function headObject(client: S3Client, key: string): Promise<number | undefined> {
  const response = await client.call({ method: "HEAD", key, accept: [404] });
  await discard(response);
  return response.status === 404 ? undefined : Number(response.headers.get("content-length") ?? 0);
}

/** Removes an object; what is not there is no error. */
export async function removeObject(client: S3Client, key: string): Promise<void> {
  try {
    await discard(await client.call({ method: "DELETE", key }));
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** What a 404 must say, if anything, to mean the object: others mean the bucket, or that nobody knows our keys. */
const MISSING_CODES: ReadonlySet<string> = new Set(["404", "NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound"]);

/** True for a refusal that says that what was named is not there. */
export function isMissing(error: unknown, ...codes: string[]): boolean {
  if (!(error instanceof S3Refusal)) return false;
  return error.status === 404 ? MISSING_CODES.has(error.s3Code) : codes.includes(error.s3Code);
}
