/**
 * One keep-alive HTTP/1.1 connection that sends payloads with back-pressure and little CPU, so that on two cores the
 * server is measured and not the client. It reads what registries answer (Content-Length or chunked) and no more of HTTP.
 */
import type { Socket } from "bun";
import type { Payload } from "./payload.ts";

export interface RawRequest {
  method: string;
  /** Path and query, or an absolute URL of the same server (a Location). */
  target: string;
  headers?: Record<string, string>;
  body?: Payload;
}

export interface RawResponse {
  status: number;
  /** Names in lower case. */
  headers: Map<string, string>;
  body: Buffer;
}

const sliceBytes = 512 * 1024;
const headEnd = "\r\n\r\n";

interface Exchange {
  head: Uint8Array;
  headSent: number;
  body: Payload | undefined;
  bodySent: number;
  received: Buffer;
  resolve(response: RawResponse): void;
  reject(error: Error): void;
}

export class RawConnection {
  readonly #url: URL;
  #socket: Socket | undefined;
  #exchange: Exchange | undefined;

  constructor(url: string) {
    this.#url = new URL(url);
  }

  /** Sends one request and gives its answer. One at a time; throws when the connection breaks before the answer. */
  async request(request: RawRequest): Promise<RawResponse> {
    if (this.#exchange !== undefined) throw new Error("the connection is busy with another request");
    const socket = this.#socket ?? (await this.#connect());
    const response = await new Promise<RawResponse>((resolve, reject) => {
      const head = new TextEncoder().encode(this.#formatHead(request));
      const body = request.body;
      this.#exchange = { head, headSent: 0, body, bodySent: 0, received: Buffer.alloc(0), resolve, reject };
      this.#pump(socket);
    });
    if (response.headers.get("connection")?.toLowerCase() === "close") this.close();
    return response;
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.end();
  }

  async #connect(): Promise<Socket> {
    const socket = await Bun.connect({
      hostname: this.#url.hostname,
      port: Number(this.#url.port),
      socket: {
        drain: (open) => this.#pump(open),
        data: (_, chunk) => this.#receive(chunk),
        close: (closed) => this.#broken(closed, new Error("the server closed the connection")),
        error: (failed, error) => this.#broken(failed, error),
      },
    });
    socket.setNoDelay(true);
    this.#socket = socket;
    return socket;
  }

  #formatHead({ method, target, headers = {}, body }: RawRequest): string {
    const url = new URL(target, this.#url);
    const length = body !== undefined || method !== "GET" ? [`content-length: ${body?.sizeBytes ?? 0}`] : [];
    const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
    const lines = [`${method} ${url.pathname}${url.search} HTTP/1.1`, `host: ${this.#url.host}`, ...length, ...fields];
    return lines.join("\r\n") + headEnd;
  }

  #pump(socket: Socket): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    while (exchange.headSent < exchange.head.length) {
      const sent = socket.write(exchange.head.subarray(exchange.headSent));
      if (sent <= 0) return;
      exchange.headSent += sent;
    }
    while (exchange.body !== undefined && exchange.bodySent < exchange.body.sizeBytes) {
      const slice = exchange.body.slice(exchange.bodySent, sliceBytes);
      const sent = socket.write(slice);
      if (sent > 0) exchange.bodySent += sent;
      if (sent < slice.length) return;
    }
  }

  #receive(chunk: Buffer): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    exchange.received = Buffer.concat([exchange.received, chunk]);
    const response = parseResponse(exchange.received);
    if (response === undefined) return;
    this.#exchange = undefined;
    exchange.resolve(response);
  }

  #broken(socket: Socket, error: Error): void {
    if (this.#socket === socket) this.#socket = undefined;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.reject(error);
  }
}

/** The answer when it is there completely, else undefined. Source: RFC 9112, sections 6 and 7. */
function parseResponse(received: Buffer): RawResponse | undefined {
  const end = received.indexOf(headEnd);
  if (end < 0) return undefined;
  const [statusLine = "", ...lines] = received.toString("latin1", 0, end).split("\r\n");
  const status = Number(statusLine.split(" ")[1]);
  const rest = received.subarray(end + headEnd.length);
  if (status < 200) return parseResponse(rest);
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  if (headers.get("transfer-encoding") === "chunked") {
    const body = parseChunks(rest);
    return body === undefined ? undefined : { status, headers, body };
  }
  const length = status === 204 || status === 304 ? 0 : Number(headers.get("content-length") ?? 0);
  return rest.length < length ? undefined : { status, headers, body: rest.subarray(0, length) };
}

function parseChunks(rest: Buffer): Buffer | undefined {
  const chunks: Buffer[] = [];
  for (let offset = 0; ; ) {
    const lineEnd = rest.indexOf("\r\n", offset);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(rest.toString("latin1", offset, lineEnd), 16);
    const start = lineEnd + 2;
    if (rest.length < start + size + 2) return undefined;
    if (size === 0) return Buffer.concat(chunks);
    chunks.push(rest.subarray(start, start + size));
    offset = start + size + 2;
  }
}
