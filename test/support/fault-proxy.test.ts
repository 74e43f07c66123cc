/** The fault proxy's own faults, against plain servers: what passes is unchanged, and each fault does what its name says. */
import { afterEach, expect, test } from "bun:test";
import { connect, createServer, type Socket } from "node:net";
import { type FaultProxy, startFaultProxy } from "./fault-proxy.ts";

const cleanUps: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanUps.splice(0).reverse()) await clean();
});

/** Sends back what it gets, and its end with the client's end. */
async function echo(): Promise<FaultProxy & { server: Socket[] }> {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUps.push(() => void server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const proxy = await startFaultProxy({ host: "127.0.0.1", port: address.port });
  cleanUps.push(() => proxy.stop());
  return { ...proxy, server: sockets };
}

/** A client that keeps what it gets and how it ended. */
function dial(port: number) {
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  cleanUps.push(() => void socket.destroy());
  const seen = { bytes: 0, ended: false, error: "", closed: false };
  socket.on("data", (bytes: Buffer) => {
    seen.bytes += bytes.length;
  });
  socket.on("end", () => {
    seen.ended = true;
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    seen.error = error.code ?? error.message;
  });
  socket.on("close", () => {
    seen.closed = true;
  });
  return { socket, seen };
}

async function until(condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${condition}`);
    await Bun.sleep(5);
  }
}

test("without faults every byte and both ends pass", async () => {
  const proxy = await echo();
  const { socket, seen } = dial(proxy.port);
  socket.end(Buffer.alloc(20_000_000, 7));
  await until(() => seen.ended);
  expect(seen.bytes).toBe(20_000_000);
  socket.destroy();
  await until(() => proxy.connections().open === 0);
  expect(proxy.connections()).toEqual({ open: 0, total: 1 });
  expect(proxy.broken()).toBe(0);
}, 20_000);

test("latency delays each way, and pieces behind each other overlap", async () => {
  const proxy = await echo();
  proxy.faults.latencyMs.toServer = 150;
  proxy.faults.latencyMs.toClient = 100;
  const { socket, seen } = dial(proxy.port);
  const startedMs = performance.now();
  for (let i = 0; i < 20; i++) {
    socket.write("x");
    await Bun.sleep(1);
  }
  await until(() => seen.bytes === 20);
  const tookMs = performance.now() - startedMs;
  expect(tookMs).toBeGreaterThanOrEqual(245);
  expect(tookMs).toBeLessThan(20 * 250);
}, 20_000);

test("bandwidth is bounded", async () => {
  const proxy = await echo();
  proxy.faults.bytesPerSecond.toServer = 100_000;
  const { socket, seen } = dial(proxy.port);
  const startedMs = performance.now();
  socket.write(Buffer.alloc(50_000));
  await until(() => seen.bytes === 50_000);
  expect(performance.now() - startedMs).toBeGreaterThan(400);
}, 20_000);

test("a connection is reset after so many bytes, counted from when it was asked for", async () => {
  const proxy = await echo();
  const { socket, seen } = dial(proxy.port);
  socket.write(Buffer.alloc(1000));
  await until(() => seen.bytes === 1000);
  proxy.faults.resetAfterBytes = 500;
  socket.write(Buffer.alloc(100));
  await until(() => seen.bytes === 1100);
  expect(seen.closed).toBe(false);
  socket.write(Buffer.alloc(400));
  await until(() => seen.closed);
  expect(seen.error).toBe("ECONNRESET");
  expect(proxy.broken()).toBe(1);
}, 20_000);

test("refused is refused, open connections stay, and the port comes back", async () => {
  const proxy = await echo();
  const before = dial(proxy.port);
  before.socket.write("x");
  await until(() => before.seen.bytes === 1);
  proxy.faults.refuse = true;
  const refused = dial(proxy.port);
  await until(() => refused.seen.closed);
  expect(refused.seen.error).toBe("ECONNREFUSED");
  before.socket.write("x");
  await until(() => before.seen.bytes === 2);
  proxy.faults.refuse = false;
  for (;;) {
    const after = dial(proxy.port);
    after.socket.write("x");
    await until(() => after.seen.bytes === 1 || after.seen.closed);
    if (after.seen.bytes === 1) break;
  }
}, 20_000);

test("a silent way keeps bytes and ends back until it is open again; the other way goes on", async () => {
  const proxy = await echo();
  const { socket, seen } = dial(proxy.port);
  socket.write("a");
  await until(() => seen.bytes === 1);
  proxy.faults.silent.toServer = true;
  socket.write("bc");
  proxy.server[0]?.write("from the server");
  await until(() => seen.bytes === 16);
  socket.end();
  await Bun.sleep(50);
  expect(seen).toMatchObject({ bytes: 16, ended: false, closed: false });
  proxy.faults.silent.toServer = false;
  await until(() => seen.bytes === 18 && seen.ended);
}, 20_000);

test("silent both ways is a black hole for new connections, too", async () => {
  const proxy = await echo();
  proxy.faults.silent.toServer = true;
  proxy.faults.silent.toClient = true;
  const { socket, seen } = dial(proxy.port);
  let isConnected = false;
  socket.on("connect", () => {
    isConnected = true;
  });
  socket.write("x");
  await until(() => isConnected);
  await Bun.sleep(50);
  expect(seen).toMatchObject({ bytes: 0, closed: false });
  proxy.faults.clear();
  await until(() => seen.bytes === 1);
}, 20_000);

test("one way ends after so many bytes while the other goes on", async () => {
  const proxy = await echo();
  proxy.faults.endAfterBytes.toServer = 10;
  const { socket, seen } = dial(proxy.port);
  socket.write(Buffer.alloc(30));
  await until(() => seen.ended);
  expect(seen.bytes).toBe(10);
}, 20_000);

test("an answer is lost after its request was passed on", async () => {
  const proxy = await echo();
  const { socket, seen } = dial(proxy.port);
  proxy.faults.loseAnswers = { text: "commit", times: 1 };
  socket.write("begin");
  await until(() => seen.bytes === 5);
  let arrived = 0;
  proxy.server[0]?.on("data", (bytes: Buffer) => {
    arrived += bytes.length;
  });
  socket.write("commit");
  await until(() => seen.closed);
  expect(seen.bytes).toBe(5);
  expect(arrived).toBe(6);
  const again = dial(proxy.port);
  again.socket.write("commit");
  await until(() => again.seen.bytes === 6);
}, 20_000);

async function store() {
  const got: string[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => {
      const body = await request.text();
      got.push(`${request.method} ${new URL(request.url).pathname} ${body.length}`);
      return new Response("0123456789".repeat(1000), { headers: { "X-Host": request.headers.get("host") ?? "" } });
    },
  });
  cleanUps.push(() => server.stop(true));
  const proxy = await startFaultProxy({ host: "127.0.0.1", port: server.port ?? 0, http: true, seed: 5 });
  cleanUps.push(() => proxy.stop());
  const url = `http://${proxy.host}:${proxy.port}`;
  const chunked = () =>
    new ReadableStream<Uint8Array>({
      start(stream) {
        for (let i = 0; i < 20; i++) stream.enqueue(new Uint8Array(1000));
        stream.close();
      },
    });
  return { proxy, url, got, chunked };
}

/** Status and length of the body, or "broken". */
async function ask(url: string, options: RequestInit = {}): Promise<string> {
  try {
    const response = await fetch(url, options);
    return `${response.status} ${(await response.text()).length}`;
  } catch {
    return "broken";
  }
}

test("HTTP passes as it is, with the client's own Host", async () => {
  const { url, got, chunked, proxy } = await store();
  const response = await fetch(`${url}/a`, { method: "PUT", body: new Uint8Array(300_000) });
  expect(response.headers.get("X-Host")).toBe(new URL(url).host);
  expect((await response.text()).length).toBe(10_000);
  expect(await ask(`${url}/b`, { method: "POST", body: chunked() })).toBe("200 10000");
  expect(await ask(`${url}/c`)).toBe("200 10000");
  expect(got).toEqual(["PUT /a 300000", "POST /b 20000", "GET /c 0"]);
  expect(proxy.http.requests()).toBe(3);
}, 20_000);

test("an error in the store's place takes the body, asks nobody and leaves the connection usable", async () => {
  const { url, got, chunked, proxy } = await store();
  proxy.http.faults.push({ method: "PUT", path: /part/, times: 3, does: { kind: "status", status: 503 } });
  expect(await ask(`${url}/part`, { method: "PUT", body: new Uint8Array(300_000) })).toStartWith("503 ");
  expect(await ask(`${url}/part`, { method: "PUT", body: chunked() })).toStartWith("503 ");
  expect(await ask(`${url}/part`)).toBe("200 10000");
  expect(await ask(`${url}/part`, { method: "PUT" })).toStartWith("503 ");
  expect(await ask(`${url}/part`, { method: "PUT", body: "abc" })).toBe("200 10000");
  expect(got).toEqual(["GET /part 0", "PUT /part 3"]);
  expect(proxy.http.struck()).toEqual({ status: 3 });
}, 20_000);

test("answers are cut, lost, late or never given", async () => {
  const { url, got, proxy } = await store();
  proxy.http.faults.push({ path: /cut/, does: { kind: "cut", bytes: 5000 } });
  proxy.http.faults.push({ path: /lost/, times: 1, does: { kind: "lost" } });
  proxy.http.faults.push({ path: /late/, does: { kind: "delay", delayMs: 200 } });
  proxy.http.faults.push({ path: /never/, does: { kind: "silent" } });
  const cut = await fetch(`${url}/cut`);
  expect(cut.status).toBe(200);
  expect(await cut.text().catch(() => "broken")).toBe("broken");
  expect(await ask(`${url}/lost`, { method: "DELETE" })).toBe("broken");
  const startedMs = performance.now();
  expect(await ask(`${url}/late`)).toBe("200 10000");
  expect(performance.now() - startedMs).toBeGreaterThan(190);
  expect(await ask(`${url}/never`, { signal: AbortSignal.timeout(300) })).toBe("broken");
  expect(got.map((line) => line.split(" ")[1])).toEqual(["/cut", "/lost", "/late"]);
  expect(proxy.http.struck()).toEqual({ cut: 1, lost: 1, delay: 1, silent: 1 });
}, 20_000);

test("a share is decided by the seed", async () => {
  const runs: string[][] = [];
  for (let run = 0; run < 2; run++) {
    const { url, proxy } = await store();
    proxy.http.faults.push({ share: 0.3, does: { kind: "status", status: 500 } });
    const statuses: string[] = [];
    for (let i = 0; i < 40; i++) statuses.push(await ask(url));
    runs.push(statuses);
  }
  expect(runs[0]).toEqual(runs[1] ?? []);
  const failed = runs[0]?.filter((status) => status.startsWith("500")).length ?? 0;
  expect(failed).toBeGreaterThan(5);
  expect(failed).toBeLessThan(25);
}, 30_000);
