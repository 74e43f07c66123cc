/** The load generators against a real server: bytes arrive whole, and a failing server is an error and not a figure. */
import { afterAll, expect, test } from "bun:test";
import { RawConnection } from "./connection.ts";
import { makePayload } from "./payload.ts";
import { loadRequests } from "./requests.ts";

let answered = 0;
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch: async (request) => {
    const path = new URL(request.url).pathname;
    if (path === "/sometimes") return new Response("", { status: answered++ < 20 ? 200 : 503 });
    if (path === "/hang-up") return new Response(null, { status: 200, headers: { connection: "close" } });
    if (path === "/chunked") return new Response(chunks());
    const hasher = new Bun.CryptoHasher("sha256");
    if (request.body !== null) for await (const chunk of request.body) hasher.update(chunk);
    return new Response(`sha256:${hasher.digest("hex")}`, { status: 201 });
  },
});
const url = `http://127.0.0.1:${server.port}`;
afterAll(() => server.stop(true));

test("payloads of any size arrive with their digest over one kept connection", async () => {
  const connection = new RawConnection(url);
  for (const sizeBytes of [100, 1_000_000, 40_000_000]) {
    const body = makePayload(sizeBytes);
    const response = await connection.request({ method: "PUT", target: "/", body });
    expect(`${response.status} ${response.body.toString()}`).toBe(`201 ${body.digest}`);
  }
  connection.close();
});

test("chunked answers are put together, and a closed connection is opened again", async () => {
  const connection = new RawConnection(url);
  const chunked = await connection.request({ method: "GET", target: "/chunked" });
  expect(chunked.body.toString()).toBe("one two three");
  for (let i = 0; i < 2; i++)
    expect((await connection.request({ method: "GET", target: "/hang-up" })).status).toBe(200);
  connection.close();
});

test("a server that is gone or answers anything but 200 ends the load with an error", async () => {
  const load = { headers: {}, connections: 2, seconds: 1 };
  expect((await loadRequests({ ...load, url: `${url}/chunked` })).perSecond).toBeGreaterThan(0);
  await expect(loadRequests({ ...load, url: `${url}/` })).rejects.toThrow("was answered 201");
  await expect(loadRequests({ ...load, url: `${url}/sometimes` })).rejects.toThrow(/under load/);
  const connection = new RawConnection("http://127.0.0.1:1");
  await expect(connection.request({ method: "GET", target: "/" })).rejects.toThrow();
});

function chunks(): ReadableStream<Uint8Array> {
  const words = ["one ", "two ", "three"];
  return new ReadableStream({
    pull: async (controller) => {
      const word = words.shift();
      if (word === undefined) return controller.close();
      // apart in time, so that the client sees more than one chunk
      await Bun.sleep(5);
      controller.enqueue(new TextEncoder().encode(word));
    },
  });
}
