/**
 * The HTTP of the fault runs: one request at a time, every answer counted and judged. An answer that says "not now" must say
 * when to come back, a fault of the server's own is never one, and nobody is kept waiting beyond a bound.
 */
import { type Call, ConnectionLost, CrashClient } from "../crash/client.ts";

/** Longest that a request may take, whatever is broken: pool, statement and retries together stay below it. */
export const ANSWER_WITHIN_MS = 60_000;

/** What became of all requests of a run. */
export class Tally {
  requests = 0;
  /** Answered, whatever with, but 503. */
  answered = 0;
  /** 503 with Retry-After. */
  unavailable = 0;
  /** Refused because a request that failed still holds the upload. */
  busy = 0;
  /** Redirected to the store, which refused or broke off. */
  storeRefused = 0;
  /** Cut in the middle of an answer. */
  broken = 0;
  slowestMs = 0;
  /** Which request that was. */
  slowestRequest = "";
  readonly wrong: string[] = [];

  note(sentence: string): void {
    // The first say what is wrong; thousands more do not.
    if (this.wrong.length < 20 && !this.wrong.includes(sentence)) this.wrong.push(sentence);
  }
}

export class FaultClient extends CrashClient {
  /** True: nothing is sent any more. */
  isStopped = false;
  readonly #url: string;
  readonly #authorization: string;
  readonly #tally: Tally;
  readonly #mayBreak: boolean;
  readonly #answerWithinMs: number;

  /**
   * `mayBreak`: an answer's body may be cut, as when the store fails while it is read. `answerWithinMs`: no request may take
   * longer, default `ANSWER_WITHIN_MS`.
   */
  constructor(options: {
    url: string;
    password: string;
    repository: string;
    tally: Tally;
    mayBreak: boolean;
    answerWithinMs?: number | undefined;
  }) {
    super(options.url, options.password, options.repository);
    this.#url = options.url;
    this.#authorization = `Basic ${btoa(`admin:${options.password}`)}`;
    this.#tally = options.tally;
    this.#mayBreak = options.mayBreak;
    this.#answerWithinMs = options.answerWithinMs ?? ANSWER_WITHIN_MS;
  }

  override async send(path: string, call: Call = {}): Promise<{ response: Response; body: Uint8Array }> {
    if (this.isStopped) throw new ConnectionLost("stopped");
    const tally = this.#tally;
    const what = `${call.method ?? "GET"} ${path}`;
    const startedMs = performance.now();
    tally.requests++;
    try {
      const response = await fetch(new URL(path, this.#url), {
        method: call.method ?? "GET",
        headers: { connection: "close", ...call.headers, authorization: this.#authorization },
        ...(call.body === undefined ? {} : { body: new Uint8Array(call.body) }),
        redirect: "manual",
        signal: AbortSignal.timeout(this.#answerWithinMs),
      });
      const location = response.headers.get("location");
      if (response.status === 307 && location !== null) return await this.#follow(location, response);
      const copy = response.clone();
      const body = new Uint8Array(await response.arrayBuffer());
      if (response.status < 500) {
        if (response.status === 416 && new TextDecoder().decode(body).includes("another request of this upload")) {
          // The one before failed and could not say so to the database yet.
          tally.busy++;
          throw new ConnectionLost(`${what}: the upload is taken still`);
        }
        tally.answered++;
        return { response: copy, body };
      }
      const text = new TextDecoder().decode(body);
      if (response.status !== 503) tally.note(`${what}: ${response.status} ${text}`);
      else if (response.headers.get("retry-after") === null) tally.note(`${what}: 503 without Retry-After ${text}`);
      else tally.unavailable++;
      throw new ConnectionLost(`${what}: ${response.status} ${text}`);
    } catch (error) {
      if (error instanceof ConnectionLost) throw error;
      tally.broken++;
      const reason = error instanceof Error ? error.message : String(error);
      if (error instanceof DOMException && error.name === "TimeoutError") {
        tally.note(`${what}: no answer within ${this.#answerWithinMs} ms`);
      } else if (!this.#mayBreak || (call.method ?? "GET") !== "GET") tally.note(`${what}: ${reason}`);
      throw new ConnectionLost(what, { cause: error });
    } finally {
      const tookMs = performance.now() - startedMs;
      if (tookMs > tally.slowestMs) {
        tally.slowestMs = tookMs;
        tally.slowestRequest = what;
      }
    }
  }

  /** Fetches a blob from the store by itself, as clients do: what goes wrong there is between the two of them. */
  async #follow(location: string, redirect: Response): Promise<{ response: Response; body: Uint8Array }> {
    const tally = this.#tally;
    try {
      const response = await fetch(location, {
        headers: { connection: "close" },
        signal: AbortSignal.timeout(this.#answerWithinMs),
      });
      const body = new Uint8Array(await response.arrayBuffer());
      const isWhole = String(body.length) === response.headers.get("content-length");
      // Who is sent there and finds nothing has lost a blob.
      if (response.status === 404 || (response.status === 200 && isWhole)) {
        tally.answered++;
        const { headers } = redirect;
        return { response: new Response(null, { status: response.status, headers }), body };
      }
      throw new Error(`the store answered ${response.status}`);
    } catch (error) {
      tally.storeRefused++;
      throw new ConnectionLost(`following a redirect: ${error}`, { cause: error });
    }
  }
}
