import { afterAll, expect, test } from "bun:test";
import { createServer, type Server, type Socket } from "node:net";
import { resumingStream } from "./read-stream.ts";
import { createRemoteFetch, discard, passingAnswer, readText } from "./request.ts";
import { PassingFailure } from "./retry.ts";

const send = createRemoteFetch("the test store", async () => []);
const servers: Server[] = [];
afterAll(() => {
  for (const server of servers) server.close();
});

/** A TCP server that does with each connection what the test says. */
async function listen(onConnection: (socket: Socket, count: number) => void): Promise<string> {
  let count = 0;
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    onConnection(socket, ++count);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return `http://127.0.0.1:${address.port}/`;
}

function pieces(count: number, sizeBytes: number) {
  return {
    sizeBytes: count * sizeBytes,
    *pieces() {
      for (let index = 0; index < count; index++) yield new Uint8Array(sizeBytes).fill(index);
    },
  };
}

test("a body in pieces arrives whole, with its length, also a second time", async () => {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const bytes = await request.bytes();
      const digest = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
      return Response.json([request.headers.get("content-length"), request.headers.get("transfer-encoding"), digest]);
    },
  });
  const body = pieces(20, 100_000);
  const digest = new Bun.CryptoHasher("sha256").update(Buffer.concat([...body.pieces()])).digest("hex");
  for (let round = 0; round < 2; round++) {
    const response = await send({ method: "PUT", url: server.url.href, body });
    expect(JSON.parse(await readText(response))).toEqual(["2000000", null, digest]);
  }
  await server.stop(true);
});

test("a refused and a reset connection are failures that may pass", async () => {
  const url = await listen((socket) => socket.resetAndDestroy());
  await expect(send({ method: "GET", url })).rejects.toBeInstanceOf(PassingFailure);
  await expect(send({ method: "PUT", url, body: pieces(20, 100_000) })).rejects.toBeInstanceOf(PassingFailure);
  const closed = await listen(() => undefined);
  await new Promise((resolve) => servers.pop()?.close(resolve));
  await expect(send({ method: "GET", url: closed })).rejects.toMatchObject({ code: "unavailable" });
});

test("a store that takes a request and is silent is given up after the bound", async () => {
  const url = await listen((socket) => socket.resume());
  const silent = send({ method: "GET", url, answerMs: 50 });
  await expect(silent).rejects.toThrow("the test store failed a GET: no answer in time");
});

test("a caller's own abort comes out as it is, before the answer and in the middle of it", async () => {
  const reason = new Error("the client is gone");
  const before = new AbortController();
  const url = await listen((socket, count) => {
    if (count === 1) before.abort(reason);
    else socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc");
  });
  await expect(send({ method: "GET", url, signal: before.signal })).rejects.toBe(reason);
  const middle = new AbortController();
  const response = await send({ method: "GET", url, signal: middle.signal });
  const reader = response.body?.getReader();
  expect((await reader?.read())?.value?.byteLength).toBe(3);
  middle.abort(reason);
  await expect(reader?.read()).rejects.toBe(reason);
});

test("cancelling an answer's body ends its connection", async () => {
  const closed = Promise.withResolvers<void>();
  const url = await listen((socket) => {
    socket.on("close", () => closed.resolve());
    socket.write("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nabc");
  });
  const response = await send({ method: "GET", url });
  await response.body?.cancel();
  await closed.promise;
});

test("a redirect is an answer, and an answer's text has a bound", async () => {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: () => new Response("x".repeat(1000), { status: 307, headers: { location: "http://127.0.0.1:1/" } }),
  });
  const response = await send({ method: "GET", url: server.url.href });
  expect(response.status).toBe(307);
  expect(await readText(response, 10)).toBe("xxxxxxxxxx");
  await discard(await send({ method: "GET", url: server.url.href }));
  await server.stop(true);
});

test("an answer that is passing says what the store said and when to come back", () => {
  const response = new Response(null, { status: 503, headers: { "retry-after": "2" } });
  const failure = passingAnswer("the test store", response, 0, "SlowDown");
  expect(failure).toMatchObject({ message: "the test store answered 503 SlowDown", retryAfterMs: 2000 });
});

test("an object whose connection breaks is read on where it broke", async () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, index) => index % 251);
  const asked: number[] = [];
  const open = async ({ start, end }: { start: number; end: number }) => {
    asked.push(start);
    // Ends early, breaks, and then gives more than was asked for.
    const cut = [100, 300][asked.length - 1];
    return new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(bytes.slice(start, cut ?? end + 50));
        if (asked.length === 1) controller.close();
      },
      pull(controller) {
        controller.error(new PassingFailure("reset"));
      },
    });
  };
  const retry = { sleep: async () => undefined };
  const read = await new Response(resumingStream({ start: 10, end: 899 }, open, { retry })).bytes();
  expect(Buffer.from(read).equals(bytes.slice(10, 900))).toBe(true);
  expect(asked).toEqual([10, 100, 300]);
});

test("an object that stays short fails its reader", async () => {
  const open = async () => new ReadableStream<Uint8Array>({ start: (controller) => controller.close() });
  const retry = { sleep: async () => undefined };
  const reading = new Response(resumingStream({ start: 0, end: 9 }, open, { retry })).bytes();
  await expect(reading).rejects.toThrow("10 bytes early");
});
