/** Request bodies: small ones whole under a bound, large ones as the stream and what the headers say of it. */

import type { UploadBody } from "../../domain/upload/upload.ts";
import { RegistryError } from "../../errors.ts";
import { parseContentRange } from "../../oci/range.ts";

/**
 * The whole body, at most `maxBytes`. Throws `manifest_too_large`, or for other bodies `request_too_large`, as soon as more
 * is announced or arrives.
 */
export async function readBody(
  request: Request,
  maxBytes: number,
  kind: "manifest" | "request" = "request",
): Promise<Uint8Array> {
  const announced = contentLength(request);
  if (announced !== undefined && announced > maxBytes) throw tooLarge(kind, maxBytes, announced);
  if (!request.body) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of request.body as ReadableStream<Uint8Array>) {
      size += chunk.length;
      if (size > maxBytes) throw tooLarge(kind, maxBytes, size);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof RegistryError) throw error;
    // The client is gone: no fault of ours that belongs into the log.
    throw new RegistryError("size_invalid", { message: `the connection was cut after ${size} bytes`, cause: error });
  }
  if (announced !== undefined && announced !== size) {
    throw new RegistryError("size_invalid", { message: `received ${size} bytes of ${announced}` });
  }
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
}

/** The body of an upload request. Throws `range_invalid` for a `Content-Range` that is none. */
export function uploadBody(request: Request): UploadBody {
  const lengthBytes = contentLength(request);
  return {
    stream: lengthBytes === 0 || !request.body ? null : uploadStream(request, request.body),
    lengthBytes,
    range: parseContentRange(request.headers.get("content-range")),
    signal: request.signal,
  };
}

/**
 * With `Connection: close`, as podman and skopeo ask for, Bun closes the connection with the answer. A client that is still
 * sending then sees its connection break and not why it was refused, so what it sends is read to the end before.
 */
function uploadStream(request: Request, body: ReadableStream<Uint8Array>): AsyncIterable<Uint8Array> {
  const isLast = /(^|,)\s*close\s*(,|$)/i.test(request.headers.get("connection") ?? "");
  return isLast ? readToEnd(body) : body;
}

async function* readToEnd(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  let isMore = true;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
    isMore = false;
  } finally {
    // Refused, or the client is gone and this fails at once. The server bounds how long a body may be.
    while (isMore)
      isMore = await reader.read().then(
        ({ done }) => !done,
        () => false,
      );
  }
}

export function contentLength(request: Request): number | undefined {
  const header = request.headers.get("content-length");
  return header === null ? undefined : Number(header);
}

function tooLarge(kind: "manifest" | "request", maxBytes: number, sizeBytes: number): RegistryError {
  return new RegistryError(`${kind}_too_large`, {
    message: `the ${kind === "manifest" ? kind : "body"} has ${sizeBytes} bytes or more, at most ${maxBytes} are taken`,
    detail: { max_allowed: maxBytes },
  });
}
