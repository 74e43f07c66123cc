/**
 * One request to a store on another machine: `fetch` with the authorities of the config and a bound on every wait. Large
 * bodies go out piece by piece from where they lie, because `fetch` copies what it is given whole (measured: NOTES.md).
 */

import { PassingFailure, retryAfterMs } from "./retry.ts";

export interface RemoteRequest {
  readonly method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: RemoteBody;
  /** Gives the request up; its reason is thrown as it is. */
  readonly signal?: AbortSignal;
  /** How long the store may take to answer once it has the request; 30 s unless given. */
  readonly answerMs?: number;
}

/** A small body whole, or one that is read in pieces and once more for each try. */
export type RemoteBody =
  | string
  | Uint8Array<ArrayBuffer>
  | { readonly sizeBytes: number; pieces(): Iterable<Uint8Array<ArrayBuffer>> };

/**
 * Sends a request and gives the answer as soon as its headers are there, whatever its status; redirects are answers. Throws
 * PassingFailure when nothing came of it.
 */
export type RemoteFetch = (request: RemoteRequest) => Promise<Response>;

/** Bodies up to this size are quicker whole; the copy is of no weight. */
const WHOLE_BYTES_MAX = 256 * 1024;
const ANSWER_MS = 30_000;
/** No byte moved in either direction for this long: the connection is dead. */
const IDLE_MS = 30_000;

/** `name` says in messages which store it is; `authorities` are PEM texts, empty for the system's own. */
export function createRemoteFetch(name: string, authorities: () => Promise<readonly string[]>): RemoteFetch {
  return async (request) => {
    request.signal?.throwIfAborted();
    const ca = request.url.startsWith("https:") ? await authorities() : [];
    const watch = new Watch(name, request);
    const { body, headers } = outgoing(request, watch);
    const init = {
      method: request.method,
      headers,
      ...(body === undefined ? {} : { body }),
      redirect: "manual" as const,
      signal: watch.signal,
      // The waits are bounded here; Bun's own bound of five minutes would cut long uploads.
      timeout: false,
      // What is stored is what is sent on: a body must not be unpacked on the way.
      decompress: false,
      ...(ca.length === 0 ? {} : { tls: { ca: [...ca] } }),
    };
    try {
      const response = await fetch(request.url, init);
      return watch.answered(response);
    } catch (error) {
      throw watch.failure(error);
    }
  };
}

function outgoing(
  request: RemoteRequest,
  watch: Watch,
): { body: string | Uint8Array<ArrayBuffer> | ReadableStream | undefined; headers: Record<string, string> } {
  const headers = { ...request.headers };
  const { body } = request;
  if (body === undefined || typeof body === "string" || body instanceof Uint8Array) return { body, headers };
  headers["content-length"] = String(body.sizeBytes);
  if (body.sizeBytes <= WHOLE_BYTES_MAX) return { body: Buffer.concat([...body.pieces()]), headers };
  const pieces = body.pieces()[Symbol.iterator]();
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        // The pieces may belong to somebody else once the request is given up.
        if (watch.signal.aborted) return controller.error(watch.signal.reason);
        watch.moved();
        const { value, done } = pieces.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    },
    { highWaterMark: 0 },
  );
  return { body: stream, headers };
}

/** Ends a request in which nothing moves, and says why it ended. */
class Watch {
  readonly #name: string;
  readonly #request: RemoteRequest;
  readonly #controller = new AbortController();
  readonly #answerMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timedOut = false;
  readonly #stop = () => this.#controller.abort(this.#request.signal?.reason);

  constructor(name: string, request: RemoteRequest) {
    this.#name = name;
    this.#request = request;
    this.#answerMs = request.answerMs ?? ANSWER_MS;
    request.signal?.addEventListener("abort", this.#stop, { once: true });
    this.moved(this.#answerMs);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** A byte moved, or a wait of another kind begins. */
  moved(boundMs: number = Math.max(IDLE_MS, this.#answerMs)): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timedOut = true;
      this.#controller.abort(new Error(`no byte moved for ${boundMs} ms`));
    }, boundMs);
  }

  /** Nobody waits for the store now, or it is over. */
  rest(): void {
    clearTimeout(this.#timer);
  }

  end(): void {
    this.rest();
    this.#request.signal?.removeEventListener("abort", this.#stop);
  }

  answered(response: Response): Response {
    this.rest();
    if (!response.body) {
      this.end();
      return response;
    }
    const body = this.#watched(response.body);
    return new Response(body, { status: response.status, headers: response.headers });
  }

  /** What a request or the reading of its answer failed with: the caller's own reason, or a failure that may pass. */
  failure(error: unknown): unknown {
    this.end();
    const { signal, method } = this.#request;
    if (signal?.aborted) return signal.reason;
    if (error instanceof PassingFailure) return error;
    const code = error instanceof Error && "code" in error ? String(error.code) : undefined;
    const reason = this.#timedOut ? "no answer in time" : (code ?? "the connection failed");
    return new PassingFailure(`${this.#name} failed a ${method}: ${reason}`, { cause: error });
  }

  /** The answer's bytes as they are asked for; only while somebody asks does the time run. */
  #watched(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
    const reader = body.getReader();
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          this.moved(IDLE_MS);
          try {
            const { value, done } = await reader.read();
            this.rest();
            if (!done) return controller.enqueue(value);
            this.end();
            controller.close();
          } catch (error) {
            controller.error(this.failure(error));
          }
        },
        cancel: async (reason) => {
          this.end();
          // Cancelling the reader alone would let the rest of the object come in.
          this.#controller.abort(reason);
          await reader.cancel(reason).catch(() => undefined);
        },
      },
      { highWaterMark: 0 },
    );
  }
}

/** Statuses that say "not now": the same request may succeed in a moment. */
const PASSING_STATUSES: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504, 509]);

export function isPassingStatus(status: number): boolean {
  return PASSING_STATUSES.has(status);
}

/** The failure of an answer whose status is passing, with the time the store asks for. `detail` is the store's own code. */
export function passingAnswer(name: string, response: Response, nowMs: number, detail?: string): PassingFailure {
  const afterMs = retryAfterMs(response.headers.get("retry-after"), nowMs);
  const said = detail === undefined ? String(response.status) : `${response.status} ${detail}`;
  return new PassingFailure(`${name} answered ${said}`, afterMs === undefined ? {} : { retryAfterMs: afterMs });
}

/** The answer's text, at most `charsMax` of it: stores describe errors at length, and lists have a bound of their own. */
export async function readText(response: Response, charsMax = 64 * 1024): Promise<string> {
  if (!response.body) return "";
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return text + decoder.decode();
    text += decoder.decode(value, { stream: true });
    if (text.length > charsMax) {
      await reader.cancel();
      return text.slice(0, charsMax);
    }
  }
}

/** Reads an answer that nobody wants to its end when it is short, so that its connection can be used again. */
export async function discard(response: Response): Promise<void> {
  await readText(response).catch(() => undefined);
}
