/** Clients that are refused while they are still sending read why, also those that close the connection after each request. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { basicAuthorization } from "../support/registry-client.ts";
import { password, type Registry, startRegistry } from "./harness.ts";

const LIMIT = 1_000_000;
/** Much more than what lies in buffers between. */
const CHUNK = new Uint8Array(1024 * 1024);
const CHUNKS = 40;

let registry: Registry;
beforeAll(async () => {
  registry = await startRegistry({ FEATURE_QUOTA_MANAGEMENT: true, DEFAULT_SYSTEM_REJECT_QUOTA_BYTES: LIMIT });
  await registry.user("alice");
}, 60_000);
afterAll(() => registry.stop());

/** Sends all of a body before it reads anything, as programs of older Go versions may. */
async function sendAll(path: string, headers: Record<string, string>): Promise<string> {
  const { hostname, port } = new URL(registry.berth.url);
  const socket = connect(Number(port), hostname);
  const failed = new Promise<never>((_, reject) => socket.once("error", reject));
  failed.catch(() => undefined);
  const write = (data: string | Uint8Array) =>
    Promise.race([failed, new Promise<void>((resolve) => socket.write(data, () => resolve()))]);
  socket.pause();
  const head = { Host: `${hostname}:${port}`, Authorization: basicAuthorization("alice", password), ...headers };
  const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
  await write(`PATCH ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
  const isChunked = "Transfer-Encoding" in headers;
  for (let sent = 0; sent < CHUNKS; sent++) {
    if (isChunked) await write(`${CHUNK.length.toString(16)}\r\n`);
    await write(CHUNK);
    if (isChunked) await write("\r\n");
  }
  if (isChunked) await write("0\r\n\r\n");
  const answer = Promise.withResolvers<string>();
  let text = "";
  socket.on("data", (data) => {
    text += data.toString();
    if (text.includes('"errors"')) answer.resolve(text);
  });
  socket.on("close", () => answer.resolve(text));
  socket.resume();
  try {
    return await Promise.race([failed, answer.promise]);
  } finally {
    socket.destroy();
  }
}

test.each([
  ["in chunks, and closes", { "Transfer-Encoding": "chunked", Connection: "close" }],
  ["of a known length, and closes", { "Content-Length": String(CHUNK.length * CHUNKS), Connection: "Close" }],
  ["in chunks", { "Transfer-Encoding": "chunked" }],
  ["of a known length", { "Content-Length": String(CHUNK.length * CHUNKS) }],
])(
  "a body %s",
  async (_, headers) => {
    const upload = await fetch(`${registry.berth.url}/v2/alice/app/blobs/uploads/`, {
      method: "POST",
      headers: { Authorization: basicAuthorization("alice", password) },
    });
    expect(upload.status).toBe(202);
    const { pathname } = new URL(upload.headers.get("location") ?? "", registry.berth.url);
    const text = await sendAll(pathname, headers);
    expect(text).toStartWith("HTTP/1.1 403");
    expect(text).toContain('"message":"Quota has been exceeded on namespace"');
  },
  30_000,
);
