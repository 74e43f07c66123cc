/**
 * Faults of single HTTP/1.1 exchanges inside the fault proxy: errors in the store's place, answers cut or lost, delays. It
 * reads just enough of the bytes to know where requests and answers begin; what it does not spoil passes unchanged, so
 * signatures over headers hold. Source: RFC 9112, sections 6 and 7.
 */

import { Random } from "../crash/random.ts";

export interface HttpFault {
  /** Which requests; all of them by default. `path` is searched in the request target, query included. */
  method?: string;
  path?: RegExp;
  /** Strikes this share of the requests that fit, by the proxy's seed; default 1. */
  share?: number;
  /** Strikes so many more times; counts down. Without it there is no end. */
  times?: number;
  /** Lets so many requests that fit pass first; counts down. */
  after?: number;
  /**
   * `status`: answers this without asking the server (503 as S3's SlowDown) · `cut`: ends the connection after `bytes` of the answer's body
   * · `lost`: the server does it, and a reset comes in place of its answer · `silent`: never answers, the server is not asked
   * · `delay`: passes the answer on `delayMs` later.
   */
  does:
    | { kind: "status"; status: number; headers?: Record<string, string>; body?: string }
    | { kind: "cut"; bytes: number }
    | { kind: "lost" }
    | { kind: "silent" }
    | { kind: "delay"; delayMs: number };
}

const slowDown =
  '<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>';
const internalError =
  '<?xml version="1.0"?><Error><Code>InternalError</Code><Message>We met an error.</Message></Error>';
/** A head beyond this is not HTTP. */
const headBytesMax = 256 * 1024;

export interface ExchangeEffects {
  answer(bytes: Buffer): void;
  reset(): void;
  /** These bytes, then the end of the connection: a reset would throw away what is still on its way. */
  cut(bytes: Buffer): void;
}

/** The rules of one proxy. */
export class HttpFaults {
  readonly faults: HttpFault[] = [];
  readonly #random: Random;
  readonly #struck: Record<string, number> = {};
  #requests = 0;

  constructor(seed: number) {
    this.#random = new Random(seed);
  }

  requests(): number {
    return this.#requests;
  }

  struck(): Readonly<Record<string, number>> {
    return { ...this.#struck };
  }

  /** The fault that strikes this request, if any. */
  choose(method: string, target: string): HttpFault["does"] | undefined {
    this.#requests++;
    for (const fault of this.faults) {
      if (fault.method !== undefined && fault.method !== method) continue;
      if (fault.path !== undefined && !fault.path.test(target)) continue;
      if (fault.times !== undefined && fault.times <= 0) continue;
      if (fault.after !== undefined && fault.after > 0) {
        fault.after--;
        continue;
      }
      if (!this.#random.chance(fault.share ?? 1)) continue;
      if (fault.times !== undefined) fault.times--;
      this.#struck[fault.does.kind] = (this.#struck[fault.does.kind] ?? 0) + 1;
      return fault.does;
    }
    return undefined;
  }

  exchange(effects: ExchangeEffects): Exchange {
    return new Exchange(this, effects);
  }
}

/** One connection's requests, one after the other. */
class Exchange {
  readonly #faults: HttpFaults;
  readonly #effects: ExchangeEffects;
  #does: HttpFault["does"] | undefined;
  #isHead = false;
  /** Bytes of a head that is not whole yet. */
  #head: Buffer<ArrayBufferLike> = Buffer.alloc(0);
  #body: Body | undefined;
  #answerHead: Buffer<ArrayBufferLike> | undefined;
  #answerBytes = 0;
  #delayed: Promise<void> | undefined;

  constructor(faults: HttpFaults, effects: ExchangeEffects) {
    this.#faults = faults;
    this.#effects = effects;
  }

  /** Gives what of these bytes goes to the server. */
  request(bytes: Buffer): Buffer | undefined {
    const passed: Buffer[] = [];
    let rest: Buffer<ArrayBufferLike> = bytes;
    while (rest.length > 0) {
      if (this.#body === undefined) {
        const joined = Buffer.concat([this.#head, rest]);
        const end = joined.indexOf("\r\n\r\n");
        if (end < 0) {
          if (joined.length > headBytesMax) throw new Error("the fault proxy was told to expect HTTP and got no head");
          this.#head = joined;
          break;
        }
        const head = joined.subarray(0, end + 4);
        this.#head = Buffer.alloc(0);
        rest = joined.subarray(end + 4);
        this.#begin(head.toString("latin1"));
        if (this.#reachesServer()) passed.push(head);
      }
      const taken = this.#body?.take(rest) ?? 0;
      if (this.#reachesServer() && taken > 0) passed.push(rest.subarray(0, taken));
      rest = rest.subarray(taken);
      if (this.#body?.over) this.#finish();
    }
    return passed.length === 0 ? undefined : Buffer.concat(passed);
  }

  /** Gives what of these bytes goes to the client. */
  response(bytes: Buffer): Buffer | undefined {
    const does = this.#does;
    if (does?.kind === "lost") {
      this.#effects.reset();
      return undefined;
    }
    if (does?.kind === "delay") return this.#delay(bytes, does.delayMs);
    if (does?.kind !== "cut") return bytes;
    return this.#cut(bytes, does.bytes);
  }

  #begin(head: string): void {
    const [line = "", ...fields] = head.split("\r\n");
    const [method = "", target = ""] = line.split(" ");
    this.#does = this.#faults.choose(method, target);
    this.#isHead = method === "HEAD";
    this.#answerHead = Buffer.alloc(0);
    this.#answerBytes = 0;
    this.#delayed = undefined;
    this.#body = new Body(fields);
    const expects = fields.some((field) => /^expect:\s*100-continue/i.test(field));
    // Else its sender would wait for leave to send what we are to swallow.
    if (expects && this.#does?.kind === "status") this.#effects.answer(Buffer.from("HTTP/1.1 100 Continue\r\n\r\n"));
    if (this.#body.over) this.#finish();
  }

  #finish(): void {
    this.#body = undefined;
    const does = this.#does;
    if (does?.kind !== "status") return;
    const body = does.body ?? (does.status === 503 ? slowDown : internalError);
    const headers = {
      "Content-Type": "application/xml",
      "Content-Length": `${Buffer.byteLength(body)}`,
      ...does.headers,
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    this.#effects.answer(
      Buffer.from(`HTTP/1.1 ${does.status} Fault\r\n${lines.join("")}\r\n${this.#isHead ? "" : body}`),
    );
  }

  #reachesServer(): boolean {
    return this.#does?.kind !== "status" && this.#does?.kind !== "silent";
  }

  #delay(bytes: Buffer, delayMs: number): undefined {
    const copy = Buffer.from(bytes);
    const before = this.#delayed ?? Bun.sleep(delayMs);
    this.#delayed = before.then(() => this.#effects.answer(copy));
  }

  /** Passes the head and so many bytes of the body, then the end. */
  #cut(bytes: Buffer, bodyBytes: number): Buffer | undefined {
    let body: Buffer<ArrayBufferLike> = bytes;
    let head: Buffer<ArrayBufferLike> = Buffer.alloc(0);
    if (this.#answerHead !== undefined) {
      const joined = Buffer.concat([this.#answerHead, bytes]);
      const end = joined.indexOf("\r\n\r\n");
      if (end < 0) {
        this.#answerHead = joined;
        return undefined;
      }
      head = joined.subarray(0, end + 4);
      body = joined.subarray(end + 4);
      this.#answerHead = undefined;
    }
    const kept = body.subarray(0, Math.max(0, bodyBytes - this.#answerBytes));
    this.#answerBytes += body.length;
    if (this.#answerBytes >= bodyBytes) {
      this.#effects.cut(Buffer.concat([head, kept]));
      this.#does = { kind: "silent" };
      return undefined;
    }
    return Buffer.concat([head, kept]);
  }
}

/** Finds the end of a request's body. */
class Body {
  over: boolean;
  readonly #isChunked: boolean;
  #leftBytes: number;
  /** In a chunked body: the line being read, and whether it is a trailer's. */
  #line = "";
  #state: "size" | "data" | "trailer" = "size";

  constructor(fields: readonly string[]) {
    const lengthText = fields
      .map((field) => /^content-length:\s*(\d+)/i.exec(field)?.[1])
      .find((text) => text !== undefined);
    this.#isChunked = fields.some((field) => /^transfer-encoding:.*chunked/i.test(field));
    this.#leftBytes = this.#isChunked ? 0 : Number(lengthText ?? 0);
    this.over = !this.#isChunked && this.#leftBytes === 0;
  }

  /** How many of these bytes belong to the body. */
  take(bytes: Buffer): number {
    if (!this.#isChunked) {
      const taken = Math.min(this.#leftBytes, bytes.length);
      this.#leftBytes -= taken;
      this.over = this.#leftBytes === 0;
      return taken;
    }
    let at = 0;
    while (at < bytes.length && !this.over) {
      if (this.#state === "data") {
        const step = Math.min(this.#leftBytes, bytes.length - at);
        at += step;
        this.#leftBytes -= step;
        if (this.#leftBytes === 0) this.#state = "size";
      } else {
        this.#line += String.fromCharCode(bytes[at++] ?? 0);
        if (this.#line.endsWith("\r\n")) this.#endLine();
      }
    }
    return at;
  }

  #endLine(): void {
    const line = this.#line.slice(0, -2);
    this.#line = "";
    if (this.#state === "trailer") {
      this.over = line === "";
      return;
    }
    const size = Number.parseInt(line, 16);
    if (size === 0) this.#state = "trailer";
    else if (size > 0) {
      // The line end after the data belongs to the chunk.
      this.#leftBytes = size + 2;
      this.#state = "data";
    }
  }
}
