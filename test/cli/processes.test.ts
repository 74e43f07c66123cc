/** `--processes N`: several processes behind one address, seen as one server by clients, scrapes and service managers. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { processTree } from "../support/process.ts";
import { RegistryClient } from "../support/registry-client.ts";
import { within } from "./harness.ts";

setDefaultTimeout(90_000);
const servers: BerthServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

async function start(): Promise<{ server: BerthServer; admin: RegistryClient }> {
  const server = await startBerth({ args: ["--processes", "2"], alone: "its processes are the cluster" });
  servers.push(server);
  return {
    server,
    admin: new RegistryClient({ url: server.url, username: "admin", password: server.adminPassword }),
  };
}

const children = (server: BerthServer) => processTree(server.pid).slice(1);
const isUp = async (server: BerthServer) =>
  (await fetch(`${server.url}/health/instance`, { headers: { connection: "close" } })).status === 200;

test("pushes and pulls go through either process, one scrape gives the sum, and SIGTERM ends all with 0", async () => {
  const { server, admin } = await start();
  expect(children(server)).toHaveLength(2);
  for (let turn = 0; turn < 4; turn++) {
    const image = await admin.pushImage("admin/shared", `v${turn}`, { layers: 2 });
    expect(image.response.status).toBe(201);
    const pulled = await admin.pullManifest("admin/shared", `v${turn}`);
    expect(pulled.headers.get("docker-content-digest")).toBe(image.descriptor.digest);
  }
  const text = await (await fetch(`${server.metricsUrl}/metrics`)).text();
  const sum = [...text.matchAll(/^quay_registry_image_pushes_total\{[^}]*status="201"[^}]*\} (\d+)$/gm)];
  expect(sum.reduce((total, [, count]) => total + Number(count), 0)).toBe(4);
  expect(text).toMatch(/^quay_user_rows\{[^}]*\} 1$/m);
  expect(await server.shutDown()).toBe(0);
});

test("a process that dies is started again", async () => {
  const { server } = await start();
  const [first = 0] = children(server);
  process.kill(first, "SIGKILL");
  await within(30_000, async () => children(server).length === 2 && !children(server).includes(first));
  expect(server.logs()).toContain("a process ended by itself and is started again");
});

test("SIGUSR2 replaces one after the other while everything is answered", async () => {
  const { server } = await start();
  const before = children(server);
  process.kill(server.pid, "SIGUSR2");
  await within(60_000, async () => {
    expect(await isUp(server).catch(() => isUp(server))).toBe(true);
    return server.logs().includes("replaced the processes");
  });
  expect(children(server)).toHaveLength(2);
  expect(children(server).filter((pid) => before.includes(pid))).toEqual([]);
});

test("the children end with a parent that is killed", async () => {
  const { server } = await start();
  const left = children(server);
  process.kill(server.pid, "SIGKILL");
  const isGone = (pid: number) => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return true;
    }
  };
  await within(60_000, async () => left.every(isGone));
});
