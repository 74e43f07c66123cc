/**
 * Stands between a driver and a real S3 server and decides about each request by itself, which a proxy with rules for many
 * could not. What passes is passed as it came, so that signatures hold; what was asked is kept for the test to look at.
 */

import { createServer, type IncomingMessage, request as requestOf, type Server, type ServerResponse } from "node:http";
import { type S3Server, s3At } from "../support/s3.ts";

/** One request of the driver. */
export interface Seen {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** The request that the driver means, such as `UploadPart`. */
  readonly operation: Operation;
  /** Length of the body that the driver announced. */
  readonly sizeBytes: number;
}

export type Operation =
  | "CreateMultipartUpload"
  | "UploadPart"
  | "UploadPartCopy"
  | "CompleteMultipartUpload"
  | "AbortMultipartUpload"
  | "PutObject"
  | "CopyObject"
  | "DeleteObject"
  | "GetObject"
  | "HeadObject"
  | "List";

/** What becomes of a request. */
export type Fate =
  | "pass"
  /** A reset comes before its first byte is taken. */
  | "lost"
  /** A reset comes in the middle of its body. */
  | "torn"
  /** It arrives, and its answer does not. */
  | "unanswered"
  /** Nobody takes or answers it, and the connection stays. */
  | "silent"
  /** Its answer ends after so many bytes of the body. */
  | { readonly cutAfter: number }
  /** Somebody on the way answers for the server, with an error of S3. */
  | { readonly status: number; readonly code?: string; readonly headers?: Record<string, string> };

export class Between {
  decide: (request: Seen) => Fate = () => "pass";
  readonly seen: Seen[] = [];
  readonly #server: Server;
  readonly #target: S3Server;
  /** Requests that are silent, to be ended at the end. */
  readonly #hanging = new Set<IncomingMessage>();

  private constructor(server: Server, target: S3Server) {
    this.#server = server;
    this.#target = target;
  }

  static async start(target: S3Server): Promise<Between> {
    const server = createServer((request, response) => {
      // A connection that broke needs no answer.
      between.#take(request, response).catch(() => request.socket.destroy());
    });
    const between = new Between(server, target);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return between;
  }

  /** The server as a driver sees it from behind here. */
  get server(): S3Server {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("no port was given");
    return s3At(this.#target, `http://127.0.0.1:${address.port}`);
  }

  /** Lets everything pass and forgets what was seen. */
  reset(): void {
    this.decide = () => "pass";
    this.seen.length = 0;
  }

  /** Requests of one kind. */
  of(...operations: Operation[]): Seen[] {
    return this.seen.filter(({ operation }) => operations.includes(operation));
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seen = describe(request);
    this.seen.push(seen);
    const fate = this.decide(seen);
    if (fate === "lost") return void request.socket.destroy();
    if (fate === "silent") return void this.#hanging.add(request);
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    for await (const chunk of request as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      sizeBytes += chunk.byteLength;
      if (fate === "torn" && sizeBytes * 2 >= seen.sizeBytes) return void request.socket.destroy();
    }
    if (fate === "torn") return void request.socket.destroy();
    if (typeof fate === "object" && "status" in fate) return answerWith(response, fate);
    const answer = await this.#forward(request, Buffer.concat(chunks));
    if (fate === "unanswered") return void request.socket.destroy();
    const bytes = seen.method === "HEAD" ? Buffer.alloc(0) : answer.body;
    response.writeHead(answer.status, answer.headers);
    if (typeof fate === "string") return void response.end(bytes);
    // The length that the server announced stays, and then the connection ends.
    response.write(bytes.subarray(0, fate.cutAfter), () => request.socket.destroy());
  }

  #forward(request: IncomingMessage, body: Buffer): Promise<{ status: number; headers: Headers; body: Buffer }> {
    const { host, port } = this.#target;
    // Its own connection: one that the server closes must not fail a request that we let pass.
    const headers = { ...request.headers, connection: "close" };
    return new Promise((resolve, reject) => {
      const outgoing = requestOf({ host, port, method: request.method, path: request.url, headers }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("error", reject);
        answer.on("end", () => {
          const { connection: _, "transfer-encoding": __, ...told } = answer.headers;
          resolve({ status: answer.statusCode ?? 502, headers: told as Headers, body: Buffer.concat(chunks) });
        });
      });
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  }

  stop(): void {
    for (const request of this.#hanging) request.socket.destroy();
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

type Headers = Record<string, string | string[]>;

function answerWith(
  response: ServerResponse,
  fate: { status: number; code?: string; headers?: Record<string, string> },
) {
  const code = fate.code === undefined ? "" : `<Error><Code>${fate.code}</Code><Message>Injected.</Message></Error>`;
  response.writeHead(fate.status, { "content-type": "application/xml", ...fate.headers }).end(code);
}

function describe(request: IncomingMessage): Seen {
  const { method = "", url = "", headers } = request;
  return {
    method,
    url,
    headers,
    operation: operationOf(method, url, headers),
    sizeBytes: Number(headers["content-length"] ?? 0),
  };
}

function operationOf(method: string, url: string, headers: IncomingMessage["headers"]): Operation {
  const { searchParams } = new URL(url, "http://server");
  const isCopy = headers["x-amz-copy-source"] !== undefined;
  if (method === "POST") return searchParams.has("uploads") ? "CreateMultipartUpload" : "CompleteMultipartUpload";
  if (method === "DELETE") return searchParams.has("uploadId") ? "AbortMultipartUpload" : "DeleteObject";
  if (method === "PUT" && searchParams.has("partNumber")) return isCopy ? "UploadPartCopy" : "UploadPart";
  if (method === "PUT") return isCopy ? "CopyObject" : "PutObject";
  if (searchParams.has("list-type") || searchParams.has("uploads")) return "List";
  return method === "HEAD" ? "HeadObject" : "GetObject";
}
