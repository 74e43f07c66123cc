/**
 * Requests to one container of an Azure storage account: signed by its key or by a shared access signature, tried again when
 * they fail in passing. Blobs are named by their keys below the engine's storage_path; what they are for is decided elsewhere.
 */

import { RegistryError } from "../../errors.ts";
import type { Clock } from "../../lib/clock.ts";
import type { ByteSpan } from "../remote/read-stream.ts";
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
import { type BlobSas, blobSas, SERVICE_VERSION, sharedKey } from "./sign.ts";
import { blockListXml, errorCode, type ListedBlob, parseBlobPage } from "./xml.ts";

/** How messages call the store. */
export const NAME = "the Azure store";

/** What proves that we may use the container: the account's key, or a token that somebody made for us with it. */
export type Credential =
  | { readonly kind: "key"; readonly key: string }
  | { readonly kind: "sas"; readonly token: string };

export interface AzureClientOptions {
  readonly account: string;
  readonly container: string;
  readonly storagePath: string;
  /** Address of the account, with its name in the path where the store wants it so. */
  readonly accountUrl: string;
  readonly credential: Credential;
  readonly fetch: RemoteFetch;
  readonly clock: Clock;
  readonly retry?: RetryOptions;
}

export interface AzureCall {
  readonly method: RemoteRequest["method"];
  /** Undefined is the container itself. */
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: RemoteBody;
  /** True: that there is no such blob is an answer, with status 404. */
  readonly mayBeAbsent?: boolean;
  readonly signal?: AbortSignal;
  readonly answerMs?: number;
  /** One try, for questions that are asked again anyway. */
  readonly once?: boolean;
}

/** An answer that is final. `azureCode` is the service's own, or the status when it named none. */
export class AzureRefusal extends RegistryError {
  readonly status: number;
  readonly azureCode: string;

  constructor(message: string, status: number, azureCode: string) {
    super("unavailable", { message });
    this.status = status;
    this.azureCode = azureCode;
  }
}

const OCTETS = "application/octet-stream";
/** 5,000 blobs with their properties stay below this. */
const LIST_CHARS_MAX = 32 * 1024 * 1024;
/** The service copies up to 64 MiB before it answers, and puts together up to 50,000 blocks. */
const LONG_ANSWER_MS = 120_000;
/** How long a URL is good with which the store reads from itself. */
const COPY_LIFE_MS = 3_600_000;
/** Codes that no other try changes, whatever their status: there is a way around for each. */
const FINAL_CODES: ReadonlySet<string> = new Set(["NotImplemented", "CannotVerifyCopySource"]);
/** What a missing blob is called; a HEAD without the header says only 404. */
const ABSENT_CODES: ReadonlySet<string> = new Set(["BlobNotFound", "ResourceNotFound", "404"]);

export class AzureClient {
  readonly #options: AzureClientOptions;
  readonly #containerUrl: string;
  readonly #prefix: string;

  constructor(options: AzureClientOptions) {
    this.#options = options;
    this.#containerUrl = `${options.accountUrl.replace(/\/+$/, "")}/${encodeURIComponent(options.container)}`;
    const path = options.storagePath.replace(/^\/+|\/+$/g, "");
    this.#prefix = path === "" ? "" : `${path}/`;
  }

  /** Whether bytes on the way are protected by TLS and need no hash of ours. */
  get isSecure(): boolean {
    return this.#containerUrl.startsWith("https:");
  }

  /** The answer to a request, whose body must be read or discarded. Throws PassingFailure after the last try, or AzureRefusal. */
  send(call: AzureCall): Promise<Response> {
    const options = {
      ...this.#options.retry,
      ...(call.once ? { triesMax: 1 } : {}),
      ...(call.signal ? { signal: call.signal } : {}),
    };
    return retrying(() => this.#attempt(call), options);
  }

  /** The same for requests whose answer has nothing to read. Gives its status and headers. */
  async call(call: AzureCall): Promise<Response> {
    const response = await this.send(call);
    await discard(response);
    return response;
  }

  /** Size of a blob, undefined when there is none. */
  async sizeOf(key: string): Promise<number | undefined> {
    const response = await this.call({ method: "HEAD", key, mayBeAbsent: true });
    return response.status === 404 ? undefined : Number(response.headers.get("content-length") ?? 0);
  }

  /** The bytes of `span` of a blob, whose absence is what `absent` says. */
  async read(key: string, { start, end }: ByteSpan, absent: () => Error): Promise<ReadableStream<Uint8Array>> {
    if (end < start) return new Blob([]).stream();
    const headers = { "x-ms-range": `bytes=${start}-${end}` };
    const response = await this.send({ method: "GET", key, headers, mayBeAbsent: true });
    if (response.status === 206 || (response.status === 200 && start === 0)) {
      if (response.body) return response.body;
    }
    await discard(response);
    if (response.status === 404) throw absent();
    const message = `${NAME} answered ${response.status} to a request for bytes ${start} to ${end} of a blob`;
    throw new RegistryError("unavailable", { message });
  }

  /** Puts a blob in one step. `md5` in base64, when the store should compare. */
  async putBlob(key: string, body: RemoteBody, { md5, ...rest }: PutOptions = {}): Promise<void> {
    const headers = { "content-type": OCTETS, "x-ms-blob-type": "BlockBlob", ...md5Header(md5) };
    await this.call({ method: "PUT", key, headers, body, ...rest });
  }

  /** Stages a block of a blob, for nobody to see before its list is put. */
  async putBlock(key: string, blockId: string, body: RemoteBody, { md5, ...rest }: PutOptions = {}): Promise<void> {
    const headers = { "content-type": OCTETS, ...md5Header(md5) };
    await this.call({ method: "PUT", key, query: { comp: "block", blockid: blockId }, headers, body, ...rest });
  }

  /** The same with bytes that lie in another blob of the container, which the store reads by itself. */
  async putBlockFrom(key: string, blockId: string, from: string, span: ByteSpan, signal?: AbortSignal): Promise<void> {
    const headers = {
      "x-ms-copy-source": this.#copySource(from),
      "x-ms-source-range": `bytes=${span.start}-${span.end}`,
    };
    await this.call({
      method: "PUT",
      key,
      query: { comp: "block", blockid: blockId },
      headers,
      answerMs: LONG_ANSWER_MS,
      ...(signal ? { signal } : {}),
    });
  }

  /** Makes staged blocks the blob, in one step. Every other block that is staged for it is dropped. */
  async putBlockList(key: string, blockIds: readonly string[], signal?: AbortSignal): Promise<void> {
    await this.call({
      method: "PUT",
      key,
      query: { comp: "blocklist" },
      headers: { "content-type": "application/xml", "x-ms-blob-content-type": OCTETS },
      body: blockListXml(blockIds),
      answerMs: LONG_ANSWER_MS,
      ...(signal ? { signal } : {}),
    });
  }

  /** Removes a blob; that it is not there is no error. */
  async remove(key: string): Promise<void> {
    // An account that keeps snapshots would otherwise refuse.
    const headers = { "x-ms-delete-snapshots": "include" };
    await this.call({ method: "DELETE", key, headers, mayBeAbsent: true });
  }

  /** The blobs whose keys begin with `prefix`, in the order of their names, page by page. */
  async *list(prefix: string): AsyncGenerator<ListedBlob> {
    for (let marker: string | undefined = ""; marker !== undefined; ) {
      const query: Record<string, string> = { restype: "container", comp: "list", prefix: this.#prefix + prefix };
      if (marker !== "") query.marker = marker;
      const page = await retrying(async () => {
        const text = await readText(await this.#attempt({ method: "GET", query }), LIST_CHARS_MAX);
        const read = parseBlobPage(text);
        if (!read) throw new PassingFailure(`${NAME} answered with no list of container "${this.#options.container}"`);
        return read;
      }, this.#options.retry);
      for (const { name, modifiedMs } of page.blobs) yield { name: name.slice(this.#prefix.length), modifiedMs };
      marker = page.marker === "" ? undefined : page.marker;
    }
  }

  /** A URL with which anybody reads the blob for a while. `key` is the account's. */
  readUrl(key: string, accountKey: string, { lifeMs, answer }: { lifeMs: number; answer?: BlobSas["answer"] }): string {
    const { account, container, clock } = this.#options;
    const query = blobSas({
      account,
      key: accountKey,
      container,
      blob: this.#prefix + key,
      expiresMs: clock.nowMs() + lifeMs,
      httpsOnly: this.isSecure,
      ...(answer ? { answer } : {}),
    });
    return `${this.#url(key)}?${query}`;
  }

  #copySource(key: string): string {
    const { credential } = this.#options;
    if (credential.kind === "sas") return `${this.#url(key)}?${credential.token}`;
    return this.readUrl(key, credential.key, { lifeMs: COPY_LIFE_MS });
  }

  #url(key: string | undefined): string {
    if (key === undefined) return this.#containerUrl;
    return `${this.#containerUrl}/${(this.#prefix + key).split("/").map(encodeURIComponent).join("/")}`;
  }

  async #attempt(call: AzureCall): Promise<Response> {
    const { account, credential, fetch, clock } = this.#options;
    const { method, key, query, body, signal, answerMs } = call;
    const search = Object.entries(query ?? {}).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
    if (credential.kind === "sas") search.push(credential.token);
    const url = new URL(`${this.#url(key)}${search.length === 0 ? "" : `?${search.join("&")}`}`);
    const headers: Record<string, string> = {
      ...call.headers,
      "accept-encoding": "identity",
      ...(body === undefined ? {} : { "content-length": String(lengthOf(body)) }),
      "x-ms-date": new Date(clock.nowMs()).toUTCString(),
      "x-ms-version": SERVICE_VERSION,
    };
    if (credential.kind === "key") headers.authorization = sharedKey(account, credential.key, { method, url, headers });
    const response = await fetch({
      method,
      url: url.href,
      headers,
      ...(body === undefined ? {} : { body }),
      ...(signal ? { signal } : {}),
      ...(answerMs === undefined ? {} : { answerMs }),
    });
    return response.status < 300 ? response : this.#judge(call, response);
  }

  /** What becomes of an answer that is no success. */
  async #judge({ method, mayBeAbsent }: AzureCall, response: Response): Promise<Response> {
    const { status } = response;
    const text = await readText(response).catch(() => "");
    const code = response.headers.get("x-ms-error-code") ?? errorCode(text);
    // A container that is not there answers 404 as well, and must not make all blobs seem gone.
    if (status === 404 && mayBeAbsent && ABSENT_CODES.has(code ?? "404")) return response;
    if (isPassingStatus(status) && !FINAL_CODES.has(code ?? "")) {
      throw passingAnswer(NAME, response, this.#options.clock.nowMs(), code);
    }
    const azureCode = code ?? String(status);
    throw new AzureRefusal(this.#explain(method, status, azureCode), status, azureCode);
  }

  /** Says what an operator has to change, where the answer tells. */
  #explain(method: string, status: number, azureCode: string): string {
    const { account, container, credential } = this.#options;
    if (azureCode === "ContainerNotFound") return `Could not find container (${container}) in Azure storage.`;
    if (status === 401 || status === 403) {
      const proof = credential.kind === "key" ? "azure_account_key" : "sas_token";
      return `${NAME} does not let account "${account}" ${method} in container "${container}" with its ${proof}: ${azureCode}`;
    }
    return `${NAME} answered ${status} ${azureCode} to ${method} in container "${container}"`;
  }
}

export interface PutOptions {
  readonly md5?: string | undefined;
  readonly signal?: AbortSignal;
}

function md5Header(md5: string | undefined): Record<string, string> {
  return md5 === undefined ? {} : { "content-md5": md5 };
}

function lengthOf(body: RemoteBody): number {
  if (typeof body === "string") return Buffer.byteLength(body);
  return body instanceof Uint8Array ? body.byteLength : body.sizeBytes;
}
