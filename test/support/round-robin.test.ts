import { afterEach, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { openRaw } from "./raw-http.ts";
import { type RoundRobin, startRoundRobin } from "./round-robin.ts";

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

function server(name: string, answer?: (request: Request) => Response | Promise<Response>) {
  const made = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async (request) => (answer ? answer(request) : new Response(name)),
  });
  stops.push(() => made.stop(true));
  return { host: `127.0.0.1:${made.port}`, stop: () => made.stop(true) };
}

async function balancer(...targets: { host: string }[]): Promise<RoundRobin> {
  const made = await startRoundRobin({ targets: targets.map(({ host }) => host) });
  stops.push(() => made.stop());
  return made;
}

const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

test("requests on one connection go to one server after the other", async () => {
  const proxy = await balancer(server("a"), server("b"));
  const connection = await openRaw(proxy.host);
  const seen: string[] = [];
  for (let turn = 0; turn < 4; turn++) {
    connection.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    seen.push((await connection.response()).body);
  }
  // Two at once are answered in their order.
  connection.send("GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n");
  seen.push((await connection.response()).body, (await connection.response()).body);
  expect(seen).toEqual(["a", "b", "a", "b", "a", "b"]);
  expect(proxy.counts()).toEqual([3, 3]);
  connection.end();
});

test("large bodies come through whole in both directions, with and without a length", async () => {
  const echo = async (request: Request) => {
    const body = new Uint8Array(await request.arrayBuffer());
    const isStreamed = request.headers.get("transfer-encoding") !== null;
    return new Response(isStreamed ? new Blob([body]).stream() : body, { headers: { "x-sha": sha(body) } });
  };
  const proxy = await balancer(server("a", echo), server("b", echo));
  const content = randomBytes(20 * 1024 * 1024);
  for (let turn = 0; turn < 4; turn++) {
    const body = turn % 2 === 0 ? content : new Blob([content]).stream();
    const response = await fetch(proxy.url, { method: "POST", body });
    expect(response.headers.get("x-sha")).toBe(sha(content));
    expect(sha(new Uint8Array(await response.arrayBuffer()))).toBe(sha(content));
  }
  expect(proxy.counts()).toEqual([2, 2]);
}, 60_000);

test("a body passes as it comes, and a client that is cut off cuts the server off", async () => {
  const begun = Promise.withResolvers<void>();
  const over = Promise.withResolvers<string>();
  const proxy = await balancer(
    server("a", async (request) => {
      let size = 0;
      try {
        for await (const chunk of request.body ?? []) {
          size += chunk.length;
          if (size >= 1000) begun.resolve();
        }
        over.resolve(request.signal.aborted ? "cut" : `whole: ${size}`);
      } catch (error) {
        over.resolve(String((error as Error).name));
      }
      return new Response("late");
    }),
  );
  const connection = await openRaw(proxy.host);
  connection.send(`POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n${"x".repeat(1000)}`);
  await begun.promise;
  connection.reset();
  expect(await over.promise).not.toStartWith("whole");
});

test("what is no HTTP is left to the server", async () => {
  const proxy = await balancer(server("a"));
  for (const text of [
    "NONSENSE\r\n\r\n",
    "\x16\x03\x01\x00",
    "GET / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
  ]) {
    const connection = await openRaw(proxy.host);
    connection.send(text);
    const answer = await connection.response().catch(() => undefined);
    expect(answer?.status ?? 400).toBe(400);
    connection.reset();
  }
});

test("a server that is gone is passed over, and an answer cut short stays short", async () => {
  const gone = server("gone");
  const proxy = await balancer(gone, server("b"));
  await gone.stop();
  for (let turn = 0; turn < 4; turn++) expect(await (await fetch(proxy.url, { method: "POST" })).text()).toBe("b");

  const half = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        socket.flush();
        socket.end();
      },
    },
  });
  stops.push(async () => half.stop(true));
  const cutting = await balancer({ host: `127.0.0.1:${half.port}` });
  const connection = await openRaw(cutting.host);
  connection.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  await expect(connection.response()).rejects.toThrow("half");
});
