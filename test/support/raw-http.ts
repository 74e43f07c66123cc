/**
 * HTTP by hand over a TCP socket, for what no client library sends: odd request lines, bodies that never end, stalled and
 * cut connections, two requests on one connection.
 */
import { connect, type Socket } from "node:net";

export interface RawResponse {
  readonly status: number;
  /** Names in lower case; of repeated ones the last. */
  readonly headers: Record<string, string>;
  readonly body: string;
}

export interface RawConnection {
  send(data: string | Uint8Array): void;
  /** Reads one response. Throws when the connection ends before, or after `timeoutMs`. */
  response(options?: { isHead?: boolean; timeoutMs?: number }): Promise<RawResponse>;
  /** Bytes that have been accepted by the kernel, so that back-pressure can be waited for. */
  drained(): Promise<void>;
  /** Reads nothing any more: the server's bytes pile up. */
  pause(): void;
  /** True once the server has closed its end. */
  isClosed(): boolean;
  /** Sends FIN and waits for nothing. */
  end(): void;
  /** Sends RST: the client is gone. */
  reset(): void;
}

/** Opens a connection to `127.0.0.1:PORT` as in a server's `host`. */
export async function openRaw(host: string): Promise<RawConnection> {
  const { hostname, port } = new URL(`http://${host}`);
  const socket = connect({ host: hostname, port: Number(port) });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  return wrap(socket);
}

/** One request with an exact request line and headers, on a connection of its own. */
export async function rawRequest(
  host: string,
  requestLine: string,
  headers: Record<string, string> = {},
  body = "",
): Promise<RawResponse> {
  const connection = await openRaw(host);
  try {
    connection.send(head(host, requestLine, { connection: "close", ...headers }) + body);
    return await connection.response({ isHead: requestLine.startsWith("HEAD ") });
  } finally {
    connection.reset();
  }
}

/** The head of a request, up to its empty line. */
export function head(host: string, requestLine: string, headers: Record<string, string> = {}): string {
  const lines = Object.entries({ host, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${requestLine} HTTP/1.1\r\n${lines.join("")}\r\n`;
}

const responseTimeoutMs = 15_000;

function wrap(socket: Socket): RawConnection {
  let received: Buffer = Buffer.alloc(0);
  let closed = false;
  let wake: () => void = () => undefined;
  socket.on("data", (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    wake();
  });
  for (const event of ["end", "close", "error"]) {
    socket.on(event, () => {
      closed = true;
      wake();
    });
  }
  const more = (timeoutMs: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  return {
    send: (data) => void socket.write(data),
    async response({ isHead = false, timeoutMs = responseTimeoutMs } = {}) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const parsed = parse(received, isHead, closed);
        if (parsed) {
          received = received.subarray(parsed.length);
          return parsed.response;
        }
        if (closed) throw new Error(`the connection ended after ${JSON.stringify(received.toString("latin1"))}`);
        const leftMs = deadline - performance.now();
        if (leftMs <= 0) throw new Error(`no answer within ${timeoutMs} ms`);
        await more(leftMs);
      }
    },
    async drained() {
      while (socket.writableLength > 0 && !closed) await Bun.sleep(2);
    },
    pause: () => void socket.pause(),
    isClosed: () => closed,
    end: () => void socket.end(),
    reset: () => void socket.resetAndDestroy(),
  };
}

/** The first response in the bytes, undefined while it is not complete. */
function parse(bytes: Buffer, isHead: boolean, closed: boolean): { response: RawResponse; length: number } | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd === -1) return undefined;
  const [statusLine = "", ...lines] = bytes.subarray(0, headEnd).toString("latin1").split("\r\n");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const status = Number(statusLine.split(" ")[1]);
  const bodyStart = headEnd + 4;
  if (isHead || status === 204 || status === 304) return { response: { status, headers, body: "" }, length: bodyStart };
  const rest = bytes.subarray(bodyStart);
  const announced = headers["content-length"];
  if (announced !== undefined) {
    const size = Number(announced);
    if (rest.length < size) return undefined;
    return { response: { status, headers, body: rest.subarray(0, size).toString() }, length: bodyStart + size };
  }
  if (headers["transfer-encoding"] === "chunked") {
    const end = rest.indexOf("0\r\n\r\n");
    if (end === -1) return undefined;
    return { response: { status, headers, body: rest.subarray(0, end).toString() }, length: bodyStart + end + 5 };
  }
  return closed ? { response: { status, headers, body: rest.toString() }, length: bytes.length } : undefined;
}
