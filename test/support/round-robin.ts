/**
 * A plain balancer in front of several servers, without sticky sessions: each request goes to the next server, also within
 * one connection. Bodies pass in both directions as they come, with their framing, and cuts are passed on. Like a real one it
 * can ask for health and tries a request elsewhere that no server has seen.
 */

import { connect, createServer, type Server, type Socket } from "node:net";
import { Framing, type Piece } from "./http-framing.ts";

export interface RoundRobinOptions {
  /** `127.0.0.1:PORT` each. */
  readonly targets: readonly string[];
  /** Address to listen on, on a port of its own; default `127.0.0.1`. `::` is IPv6 and IPv4. */
  readonly listen?: string;
  /** Asks /health/instance of each this often and leaves out who does not answer 200; undefined: never asks. */
  readonly healthEveryMs?: number;
  /** A line put into the head of each request, such as `cache-control: no-cache`. */
  readonly addHeader?: string;
}

export interface RoundRobin {
  readonly url: string;
  readonly host: string;
  /** Requests that each target got. */
  counts(): readonly number[];
  /** Points it to other servers; requests under way go on where they are. */
  retarget(targets: readonly string[]): void;
  stop(): Promise<void>;
}

interface Target {
  readonly host: string;
  readonly port: number;
  isHealthy: boolean;
  requests: number;
}

/** What is kept of a request to send it elsewhere; of a longer one more only until its server is reached. */
const repeatableBytesMax = 16 * 1024;

export async function startRoundRobin(options: RoundRobinOptions): Promise<RoundRobin> {
  let targets = options.targets.map(targetOf);
  let turn = 0;
  const links = new Set<Link>();
  const pick = (without: ReadonlySet<Target>): Target | undefined => {
    const usable = targets.filter((target) => !without.has(target));
    const healthy = usable.filter((target) => target.isHealthy);
    const candidates = healthy.length > 0 ? healthy : usable;
    return candidates.length === 0 ? undefined : candidates[turn++ % candidates.length];
  };
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const link = new Link(client, pick, options.addHeader);
    links.add(link);
    client.on("close", () => links.delete(link));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, options.listen ?? "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the balancer got no port");
  const asking = options.healthEveryMs === undefined ? undefined : setInterval(ask, options.healthEveryMs);
  async function ask(): Promise<void> {
    const asked = targets.map(async (target) => {
      target.isHealthy = await isHealthy(target);
    });
    await Promise.all(asked);
  }
  const host = `${address.family === "IPv6" ? `[${address.address}]` : address.address}:${address.port}`;
  return {
    url: `http://${host}`,
    host,
    counts: () => targets.map(({ requests }) => requests),
    retarget(next) {
      targets = next.map(targetOf);
    },
    async stop() {
      clearInterval(asking);
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const link of links) link.cut();
      await closed;
    },
  };
}

function targetOf(text: string): Target {
  const { hostname, port } = new URL(`http://${text}`);
  return { host: hostname, port: Number(port), isHealthy: true, requests: 0 };
}

async function isHealthy({ host, port }: Target): Promise<boolean> {
  try {
    const response = await fetch(`http://${host}:${port}/health/instance`, {
      headers: { connection: "close" },
      signal: AbortSignal.timeout(2_000),
    });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    return false;
  }
}

/** One server's end of a client's connection. */
interface Upstream {
  readonly target: Target;
  readonly socket: Socket;
  readonly framing: Framing;
  isConnected: boolean;
  /** More was written than it took; more is written when it has. */
  isFull: boolean;
  /** Its last answer said that it closes. */
  closes: boolean;
}

/** A request and its answer. */
interface Exchange {
  readonly method: string;
  upstream: Upstream;
  /** All of the request so far, while it may be repeated elsewhere. */
  sent: Buffer[] | undefined;
  readonly tried: Set<Target>;
  isAsked: boolean;
  isAnswered: boolean;
  hasAnswer: boolean;
}

class Link {
  readonly #client: Socket;
  readonly #pick: (without: ReadonlySet<Target>) => Target | undefined;
  readonly #addHeader: string | undefined;
  readonly #upstreams = new Map<Target, Upstream>();
  readonly #requests = new Framing("request");
  readonly #held: Piece[] = [];
  #exchange: Exchange | undefined;
  #clientEnded = false;

  constructor(
    client: Socket,
    pick: (without: ReadonlySet<Target>) => Target | undefined,
    addHeader: string | undefined,
  ) {
    this.#client = client;
    this.#addHeader = addHeader;
    this.#pick = pick;
    client.on("data", (chunk: Buffer) => {
      this.#held.push(...this.#requests.feed(chunk));
      this.#forward();
    });
    client.on("end", () => {
      this.#clientEnded = true;
      this.#forward();
    });
    client.on("error", () => this.cut());
    client.on("close", () => this.#closeUpstreams());
  }

  /** Resets both sides. */
  cut(): void {
    this.#client.resetAndDestroy();
    for (const { socket } of this.#upstreams.values()) socket.resetAndDestroy();
  }

  #closeUpstreams(): void {
    for (const { socket } of this.#upstreams.values()) socket.resetAndDestroy();
  }

  /** Sends what belongs to the exchange under way, and begins the next one when it is over. */
  #forward(): void {
    for (let piece = this.#held[0]; piece; piece = this.#held[0]) {
      if (piece.head) {
        if (this.#exchange) break;
        if (!this.#begin(piece.head.method)) return;
      }
      this.#held.shift();
      const { ends } = piece;
      const bytes = this.#withHeader(piece);
      const exchange = this.#exchange;
      // The answer came early and its connection is gone: nobody wants the rest.
      if (!exchange) continue;
      exchange.sent?.push(bytes);
      // Until there is a connection nothing is sent but what is kept.
      if (exchange.upstream.isConnected || !exchange.sent) this.#send(exchange.upstream, bytes);
      this.#forgetLong(exchange);
      if (ends) exchange.isAsked = true;
      this.#finishIfDone(exchange);
    }
    // More requests than one are not read ahead.
    if (this.#held.length > 0 || this.#exchange?.upstream.isFull) this.#client.pause();
    else if (!this.#clientEnded) this.#client.resume();
    if (this.#clientEnded && this.#held.length === 0) this.#passEnd();
  }

  #begin(method: string): Exchange | undefined {
    const target = this.#pick(new Set());
    if (!target) {
      this.cut();
      return undefined;
    }
    const upstream = this.#open(target);
    const isRepeatable = !this.#requests.isLost;
    const exchange: Exchange = {
      method,
      upstream,
      sent: isRepeatable ? [] : undefined,
      tried: new Set([target]),
      isAsked: false,
      isAnswered: false,
      hasAnswer: false,
    };
    this.#exchange = exchange;
    target.requests++;
    return exchange;
  }

  #withHeader({ bytes, head }: Piece): Buffer {
    if (!head || head.method === "" || this.#addHeader === undefined) return bytes;
    const lineEnd = bytes.indexOf("\r\n") + 2;
    return Buffer.concat([bytes.subarray(0, lineEnd), Buffer.from(`${this.#addHeader}\r\n`), bytes.subarray(lineEnd)]);
  }

  #forgetLong(exchange: Exchange): void {
    const size = exchange.sent?.reduce((sum, part) => sum + part.length, 0) ?? 0;
    if (size > repeatableBytesMax && exchange.upstream.isConnected) exchange.sent = undefined;
  }

  #send(upstream: Upstream, bytes: Buffer): void {
    if (upstream.socket.write(bytes) || upstream.isFull) return;
    upstream.isFull = true;
    upstream.socket.once("drain", () => {
      upstream.isFull = false;
      this.#forward();
    });
  }

  /** The client has said all it will say. */
  #passEnd(): void {
    const rest = this.#requests.rest();
    let exchange = this.#exchange;
    if (rest.length > 0 && !exchange) {
      exchange = this.#begin("");
      exchange?.upstream.socket.write(rest);
    }
    if (!exchange) this.#client.end();
    // Else what is kept for it goes first.
    else if (exchange.upstream.isConnected || !exchange.sent) exchange.upstream.socket.end();
  }

  #open(target: Target): Upstream {
    const known = this.#upstreams.get(target);
    if (known && !known.closes && known.socket.writable) {
      return known;
    }
    const socket = connect({ host: target.host, port: target.port, allowHalfOpen: true, noDelay: true });
    const upstream: Upstream = {
      target,
      socket,
      framing: new Framing("response", () => this.#exchange?.method ?? ""),
      isConnected: false,
      isFull: false,
      closes: false,
    };
    this.#upstreams.set(target, upstream);
    socket.on("connect", () => {
      upstream.isConnected = true;
      const exchange = this.#exchange;
      if (exchange?.upstream === upstream) this.#sendKept(exchange);
      this.#forward();
    });
    socket.on("data", (chunk: Buffer) => this.#answer(upstream, chunk));
    socket.on("end", () => this.#ended(upstream, "end"));
    socket.on("error", () => this.#ended(upstream, "reset"));
    socket.on("close", () => this.#ended(upstream, "end"));
    return upstream;
  }

  #answer(upstream: Upstream, chunk: Buffer): void {
    if (!this.#client.write(chunk)) {
      upstream.socket.pause();
      this.#client.once("drain", () => upstream.socket.resume());
    }
    const exchange = this.#exchange;
    for (const { head, ends } of upstream.framing.feed(chunk)) {
      if (head && head.status >= 200 && head.closes) upstream.closes = true;
      if (!exchange || exchange.upstream !== upstream) continue;
      exchange.hasAnswer = true;
      if (ends && !(head && head.status < 200)) exchange.isAnswered = true;
      this.#finishIfDone(exchange);
    }
  }

  #finishIfDone(exchange: Exchange): void {
    if (this.#exchange !== exchange || !exchange.isAsked || !exchange.isAnswered) return;
    this.#exchange = undefined;
    // Not from within: the caller may be sending this very exchange.
    queueMicrotask(() => this.#forward());
  }

  #ended(upstream: Upstream, how: "end" | "reset"): void {
    if (this.#upstreams.get(upstream.target) !== upstream) return;
    this.#upstreams.delete(upstream.target);
    const exchange = this.#exchange;
    if (exchange?.upstream !== upstream) {
      if (upstream.closes) this.#client.end();
      upstream.socket.end();
      return;
    }
    if (!exchange.hasAnswer && this.#repeat(exchange)) return;
    this.#exchange = undefined;
    if (how === "reset") this.#client.resetAndDestroy();
    else this.#client.end();
    upstream.socket.end();
  }

  /** Sends the request to another server, when nobody can have acted on it or doing it twice does no harm. */
  #repeat(exchange: Exchange): boolean {
    const isHarmless = exchange.method === "GET" || exchange.method === "HEAD";
    if (!exchange.sent || (exchange.upstream.isConnected && !isHarmless)) return false;
    const target = this.#pick(exchange.tried);
    if (!target) return false;
    exchange.tried.add(target);
    target.requests++;
    exchange.upstream = this.#open(target);
    if (exchange.upstream.isConnected) this.#sendKept(exchange);
    return true;
  }

  #sendKept(exchange: Exchange): void {
    for (const bytes of exchange.sent ?? []) this.#send(exchange.upstream, bytes);
    this.#forgetLong(exchange);
  }
}
