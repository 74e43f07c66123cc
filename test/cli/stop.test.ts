/** Stopping: what runs may end, health tells the load balancers, and a second signal is obeyed at once. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { basicAuthorization, digestOf, RegistryClient } from "../support/registry-client.ts";

setDefaultTimeout(60_000);
const servers: BerthServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

async function start(): Promise<BerthServer> {
  const server = await startBerth();
  servers.push(server);
  return server;
}

/** An upload that has sent half of its bytes and sends the rest when told to. */
async function halfUpload(server: BerthServer, content: Uint8Array<ArrayBuffer>) {
  const authorization = basicAuthorization("admin", server.adminPassword);
  let finish = () => {};
  const told = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const half = content.length / 2;
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async start(controller) {
      controller.enqueue(content.subarray(0, half));
      await told;
      controller.enqueue(content.subarray(half));
      controller.close();
    },
  });
  const path = `/v2/admin/slow/blobs/uploads/?digest=${digestOf(content)}`;
  const headers = { authorization, "content-type": "application/octet-stream" };
  const answer = fetch(`${server.url}${path}`, { method: "POST", headers, body }).then(
    (response) => response.status,
    () => "cut" as const,
  );
  const uploads = join(server.dataDir, "blobs", "uploads");
  await until(async () => readdirSync(uploads).some((name) => !name.startsWith(".")));
  return { answer, finish };
}

const refuses = (server: BerthServer) =>
  fetch(`${server.url}/v2/`).then(
    () => false,
    () => true,
  );

/** Its own end: another signal would cut it short. */
const hasEnded = (server: BerthServer) => until(async () => !existsSync(`/proc/${server.pid}`), 30_000);

async function until(probe: () => Promise<boolean>, timeoutMs = 20_000): Promise<number> {
  const startedMs = performance.now();
  while (!(await probe())) {
    if (performance.now() - startedMs > timeoutMs) throw new Error(`still not so after ${timeoutMs} ms`);
    await Bun.sleep(10);
  }
  return performance.now() - startedMs;
}

test("an upload that runs at SIGTERM gets its 201, nothing new is taken meanwhile, and the exit code is 0", async () => {
  const server = await start();
  const content = randomBytes(4 * 1024 * 1024);
  const upload = await halfUpload(server, content);
  const ended = server.shutDown();
  await until(() => refuses(server));
  await Bun.sleep(500);
  upload.finish();
  expect(await upload.answer).toBe(201);
  expect(await ended).toBe(0);

  await server.restart();
  const admin = new RegistryClient({ url: server.url, username: "admin", password: server.adminPassword });
  const pulled = await admin.pullBlob("admin/slow", digestOf(content));
  expect(digestOf(new Uint8Array(await pulled.arrayBuffer()))).toBe(digestOf(content));
});

test("a registry that nobody polls stops at once", async () => {
  const server = await start();
  const startedMs = performance.now();
  expect(await server.shutDown()).toBe(0);
  expect(performance.now() - startedMs).toBeLessThan(1500);
});

test("whoever polls sees 503 before connections are refused, while pulls are still answered", async () => {
  const server = await start();
  const health = async () => {
    const response = await fetch(`${server.url}/health/instance`);
    const body = (await response.json()) as { data: { services: Record<string, boolean> }; status_code: number };
    return { status: response.status, body };
  };
  expect((await health()).status).toBe(200);
  process.kill(server.pid, "SIGTERM");
  await until(async () => (await health()).status === 503);
  const { body } = await health();
  expect(body.status_code).toBe(503);
  expect(body.data.services).toMatchObject({ registry_gunicorn: false, web_gunicorn: false, database: true });
  expect((await fetch(`${server.url}/v2/`)).status).toBe(401);
  const tookMs = await until(() => refuses(server));
  // Two polls of one a second fit in; nobody is kept waiting for much longer.
  expect(tookMs).toBeGreaterThan(1000);
  expect(tookMs).toBeLessThan(4000);
  await hasEnded(server);
  expect(await server.shutDown()).toBe(0);
});

test("a second signal stops at once, whatever runs", async () => {
  const server = await start();
  const upload = await halfUpload(server, randomBytes(1024 * 1024));
  process.kill(server.pid, "SIGTERM");
  await until(() => refuses(server));
  await Bun.sleep(600);
  process.kill(server.pid, "SIGINT");
  expect(await upload.answer).toBe("cut");
  expect(await server.shutDown()).toBe(1);
  expect(server.logs()).toContain('"msg":"stopping at once"');
});

test("one Ctrl-C that arrives twice, from the terminal and from npm, is one", async () => {
  const server = await start();
  const content = randomBytes(1024 * 1024);
  const upload = await halfUpload(server, content);
  process.kill(server.pid, "SIGINT");
  await Bun.sleep(20);
  process.kill(server.pid, "SIGINT");
  await until(() => refuses(server));
  upload.finish();
  expect(await upload.answer).toBe(201);
  await hasEnded(server);
  expect(await server.shutDown()).toBe(0);
});
