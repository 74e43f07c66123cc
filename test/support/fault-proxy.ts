/**
 * A TCP proxy between Berth and a store or database, whose faults a test switches while it runs: latency, bandwidth, resets,
 * refusals, silence in one or both ways, ends half-way, and answers that are lost after the deed was done. With `http` it also
 * spoils single HTTP answers. Nothing is left to chance that a seed does not decide.
 */

import { connect, createServer, type Server, type Socket } from "node:net";
import { type FaultSettings, Faults } from "./fault-faults.ts";
import { type HttpFault, HttpFaults } from "./fault-http.ts";
import { Pipe } from "./fault-pipe.ts";

export interface FaultProxyOptions {
  /** Where the real server listens. */
  readonly host: string;
  readonly port: number;
  /** Address of this machine that the proxy listens on; default 127.0.0.1. */
  readonly listenOn?: string;
  /** Understands HTTP/1.1, so that `http.faults` can be used. Bytes that are not spoilt pass as they are. */
  readonly http?: boolean;
  /** Decides the shares of `HttpFault`; default 1. */
  readonly seed?: number;
}

export interface FaultProxy {
  /** The address it listens on. */
  readonly host: string;
  readonly port: number;
  readonly faults: FaultSettings & { clear(): void };
  /** Takes faults only with `http: true`. */
  readonly http: {
    /** Looked at in order for each request; the first that fits and strikes is the one. Change it as you like. */
    readonly faults: HttpFault[];
    /** Requests that came by, faulty ones included. */
    requests(): number;
    /** Requests that were spoilt, by what was done to them (`status`, `cut`, `lost`, `silent`, `delay`). */
    struck(): Readonly<Record<string, number>>;
  };
  /** Connections that are open now, and how many there have been. */
  connections(): { open: number; total: number };
  /** Resets every connection that is open now; new ones are taken as before. */
  resetAll(): number;
  /** Connections that a fault reset or cut, `resetAll` included. */
  broken(): number;
  /** Points new connections to another server; open ones stay where they are. */
  redirect(host: string, port: number): void;
  stop(): Promise<void>;
}

const noHttp: FaultProxy["http"] = {
  // A push throws: a fault that nobody would inject must not pass for one.
  faults: Object.freeze<HttpFault[]>([]) as HttpFault[],
  requests: () => 0,
  struck: () => ({}),
};

/** How long the listening socket may take to come back. */
const listenWithinMs = 10_000;

export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  let target = { host: options.host, port: options.port };
  const links = new Set<Link>();
  const counts = { total: 0, broken: 0 };
  const host = options.listenOn ?? "127.0.0.1";
  let port = 0;
  let stopped = false;
  const faults = new Faults((refuse) => void (refuse ? closePort() : openPort()));
  const http = options.http ? new HttpFaults(options.seed ?? 1) : undefined;

  const accept = (client: Socket): void => {
    counts.total++;
    const link = new Link(client, target, faults, http, () => counts.broken++);
    links.add(link);
    client.on("close", () => links.delete(link));
  };
  let server: Server | undefined;
  const closePort = (): void => {
    server?.close();
    server = undefined;
  };
  const openPort = async (): Promise<void> => {
    const deadline = performance.now() + listenWithinMs;
    while (!stopped && !faults.refuse) {
      const made = createServer({ allowHalfOpen: true, noDelay: true }, accept);
      const failure = await listening(made, host, port);
      if (failure === undefined) {
        if (stopped || faults.refuse) made.close();
        else server = made;
        const address = made.address();
        if (address !== null && typeof address === "object") port = address.port;
        return;
      }
      if (performance.now() > deadline) throw failure;
      await Bun.sleep(10);
    }
  };
  await openPort();

  return {
    host,
    port,
    faults,
    http: http ?? noHttp,
    connections: () => ({ open: links.size, total: counts.total }),
    resetAll: () => {
      const open = [...links];
      for (const link of open) link.reset();
      return open.length;
    },
    broken: () => counts.broken,
    redirect: (host, newPort) => {
      target = { host, port: newPort };
    },
    stop: async () => {
      stopped = true;
      closePort();
      for (const link of links) link.reset();
    },
  };
}

function listening(server: Server, host: string, port: number): Promise<Error | undefined> {
  return new Promise((resolve) => {
    server.once("error", resolve);
    server.listen(port, host, () => {
      server.off("error", resolve);
      server.on("error", () => undefined);
      resolve(undefined);
    });
  });
}

/** One client's connection and the one to the server that belongs to it. */
class Link {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #faults: Faults;
  readonly #pipes: Pipe[];
  readonly #onBroken: () => void;
  #loseAnswer = false;
  #over = false;

  constructor(
    client: Socket,
    target: { host: string; port: number },
    faults: Faults,
    http: HttpFaults | undefined,
    onBroken: () => void,
  ) {
    this.#client = client;
    this.#faults = faults;
    this.#onBroken = onBroken;
    const server = connect({ ...target, allowHalfOpen: true, noDelay: true });
    this.#server = server;
    const exchange = http?.exchange({
      answer: (bytes) => void client.write(bytes),
      reset: () => this.reset(),
      cut: (bytes) => this.#cut(bytes),
    });
    const gone = (wasReset: boolean): void => this.#close(wasReset);
    this.#pipes = [
      new Pipe(client, server, faults, "toServer", {
        filter: exchange && ((bytes) => exchange.request(bytes)),
        passed: (bytes) => this.#passed(bytes),
        gone,
      }),
      new Pipe(server, client, faults, "toClient", {
        filter: (bytes) => this.#answered(exchange === undefined ? bytes : exchange.response(bytes)),
        passed: () => this.#passed(undefined),
        gone,
      }),
    ];
  }

  /** Breaks the connection on both sides at once. */
  reset(): void {
    if (this.#over) return;
    this.#onBroken();
    this.#close(true);
  }

  /** Passes these last bytes on and ends the connection as if that were all. */
  #cut(bytes: Buffer): void {
    this.#onBroken();
    this.#client.end(bytes, () => this.#close(false));
  }

  #passed(toServer: Buffer | undefined): void {
    const { resetAfterBytes, loseAnswers } = this.#faults;
    if (toServer !== undefined && loseAnswers !== undefined && loseAnswers.times > 0) {
      if (toServer.includes(loseAnswers.text)) {
        loseAnswers.times--;
        this.#loseAnswer = true;
      }
    }
    if (resetAfterBytes === undefined) return;
    if (this.#pipes.reduce((sum, pipe) => sum + pipe.counted(), 0) >= resetAfterBytes) this.reset();
  }

  #answered(bytes: Buffer | undefined): Buffer | undefined {
    if (!this.#loseAnswer) return bytes;
    this.reset();
    return undefined;
  }

  #close(hard: boolean): void {
    if (this.#over) return;
    this.#over = true;
    for (const pipe of this.#pipes) pipe.stop();
    for (const socket of [this.#client, this.#server]) {
      socket.on("error", () => undefined);
      if (socket.destroyed) continue;
      if (hard) socket.resetAndDestroy();
      else socket.destroySoon();
    }
  }
}
