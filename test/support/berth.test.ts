/** The Berth runner against the real server: same data and address after a restart, after a kill, and with a config.yaml. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { startBerth } from "./berth.ts";
import { RegistryClient } from "./registry-client.ts";

test("what was pushed is there after a restart and after a kill, at the same address", async () => {
  const server = await startBerth();
  const client = new RegistryClient({ url: server.url, username: "admin", password: server.adminPassword });
  const image = await client.pushImage("admin/kept", "v1", { layers: 2 });
  expect(image.response.status).toBe(201);
  const { url, pid } = server;
  await server.restart();
  expect(server.url).toBe(url);
  expect(server.pid).not.toBe(pid);
  await server.kill();
  await server.restart();
  const pulled = await client.pullManifest("admin/kept", "v1");
  expect(pulled.headers.get("docker-content-digest")).toBe(image.descriptor.digest);
  expect(server.logs().match(/"msg":"listening"/g)?.length).toBe(3 * server.instances.length);
  expect((await fetch(`${server.metricsUrl}/metrics`)).status).toBe(200);
  await server.stop();
  expect(existsSync(server.dataDir)).toBe(false);
}, 60_000);

test("keys of config.yaml reach the server, and a wrong one is reported with its output", async () => {
  const server = await startBerth({ config: { FEATURE_USER_INITIALIZE: true, SERVER_HOSTNAME: "registry.test" } });
  expect((await fetch(`${server.url}/v2/`)).status).toBe(401);
  await server.stop();
  await expect(startBerth({ config: { FEATURE_USER_INITIALIZE: "perhaps" } })).rejects.toThrow(
    "FEATURE_USER_INITIALIZE",
  );
}, 60_000);
