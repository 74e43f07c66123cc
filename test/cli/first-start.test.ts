/** The first start on an empty directory: one admin, whose password is shown once and kept for its owner alone. */
import { afterAll, afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { basicAuthorization } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";

setDefaultTimeout(60_000);
const dir = makeTempDir("first-start");
const servers: BerthServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});
afterAll(() => dir.remove());

async function start(
  name: string,
  password: string | undefined,
  config?: Record<string, unknown>,
): Promise<BerthServer> {
  const server = await startBerth({
    dataDir: join(dir.path, name),
    database: "sqlite",
    env: { BERTH_ADMIN_PASSWORD: password },
    ...(config === undefined ? {} : { config }),
  });
  servers.push(server);
  return server;
}

async function login(server: BerthServer, password: string): Promise<number> {
  const headers = { authorization: basicAuthorization("admin", password) };
  return (await fetch(`${server.url}/v2/auth`, { headers })).status;
}

test("the password is printed once, kept with mode 0600, and right; the second start says nothing", async () => {
  const server = await start("plain", undefined);
  const kept = join(server.dataDir, "initial-admin-password");
  const password = readFileSync(kept, "utf8").trimEnd();
  expect(password.length).toBeGreaterThanOrEqual(20);
  expect(statSync(kept).mode & 0o777).toBe(0o600);
  expect(
    server
      .logs()
      .split("\n")
      .filter((line) => line.includes(password)),
  ).toEqual([`first start: user "admin" with password "${password}" (kept in ${kept})`]);
  expect(await login(server, password)).toBe(200);

  const before = server.logs().length;
  await server.restart();
  expect(server.logs().slice(before)).toContain('"msg":"listening"');
  expect(server.logs().slice(before)).not.toContain("first start");
  expect(server.logs().slice(before)).not.toContain(password);
  expect(await login(server, password)).toBe(200);
  // The wrong one last: each makes the account wait before its next try.
  expect(await login(server, `${password}x`)).toBe(401);
});

test("BERTH_ADMIN_PASSWORD sets it, and then it is neither printed nor kept", async () => {
  const server = await start("given", "a-password-of-my-own");
  expect(await login(server, "a-password-of-my-own")).toBe(200);
  expect(server.logs()).not.toContain("a-password-of-my-own");
  expect(server.logs()).not.toContain("first start");
  expect(existsSync(join(server.dataDir, "initial-admin-password"))).toBe(false);
});

test("on a database that has users already it changes nothing", async () => {
  const server = await start("changed", "the-first-password");
  await server.shutDown();
  const again = await start("changed", "another-password");
  expect(await login(again, "the-first-password")).toBe(200);
  expect(await login(again, "another-password")).toBe(401);
});

test("with a config.yaml no admin is made by itself", async () => {
  const server = await start("configured", undefined, { SUPER_USERS: ["admin"], FEATURE_USER_INITIALIZE: true });
  expect(server.logs()).not.toContain("first start");
  expect(existsSync(join(server.dataDir, "initial-admin-password"))).toBe(false);
  const response = await fetch(`${server.url}/api/v1/user/initialize`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username: "admin", password: "initialized-password", email: "admin@example.com" }),
  });
  expect(response.status).toBe(200);
  expect(await login(server, "initialized-password")).toBe(200);
});
