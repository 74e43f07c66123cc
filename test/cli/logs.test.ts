/** Logs on stderr: one JSON object a line when it is no terminal, and no secret in any of them. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { basicAuthorization, RegistryClient } from "../support/registry-client.ts";

setDefaultTimeout(60_000);
let server: BerthServer;
beforeAll(async () => {
  server = await startBerth({
    database: "sqlite",
    config: {
      SUPER_USERS: ["admin"],
      FEATURE_USER_INITIALIZE: true,
      LOGGING_LEVEL: "DEBUG",
      SECRET_KEY: "the-secret-key-of-sessions",
      DATABASE_SECRET_KEY: "the-secret-key-of-columns",
      ENABLE_HEALTH_DEBUG_SECRET: "the-secret-of-health",
      FEATURE_USER_CREATON: false,
      MAIL_PASSWORD: "the-password-of-mail",
    },
  });
});
afterAll(() => server.stop());

test("every line is an object with time, level and text, also at the chattiest level", async () => {
  const made = await fetch(`${server.url}/api/v1/user/initialize`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      username: "admin",
      password: "the-password-of-admin",
      email: "admin@example.com",
      access_token: true,
    }),
  });
  const { access_token: accessToken } = (await made.json()) as { access_token: string };
  const admin = new RegistryClient({ url: server.url, username: "admin", password: "the-password-of-admin" });
  expect((await admin.pushImage("admin/logged", "v1")).response.status).toBe(201);
  const token = await admin.authorize("repository:admin/logged:pull");
  const requestId = "log-test-0001";
  await fetch(`${server.url}/v2/admin/logged/tags/list?secret=in-the-query`, {
    headers: { authorization: basicAuthorization("admin", "the-wrong-password"), "x-request-id": requestId },
  });
  await fetch(`${server.url}/health/instance`, { headers: { authorization: "Bearer the-secret-of-health" } });
  await server.shutDown();

  const lines = server.logs().trimEnd().split("\n");
  const entries = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(entries.length).toBeGreaterThan(5);
  for (const entry of entries) {
    expect(Number.isNaN(Date.parse(String(entry.time)))).toBe(false);
    expect(["debug", "info", "warn", "error"]).toContain(String(entry.level));
    expect(String(entry.msg)).not.toBe("");
  }
  expect(entries[0]).toMatchObject({ msg: "listening", http: server.url, database: "sqlite" });
  expect(entries.at(-1)).toMatchObject({ msg: "stopping", signal: "SIGTERM" });
  expect(entries.find((entry) => entry.requestId === requestId)).toMatchObject({
    msg: "request",
    method: "GET",
    path: "/v2/admin/logged/tags/list",
    status: 401,
  });
  expect(lines.join("\n")).toContain("FEATURE_USER_CREATION");
  const secrets = [
    "the-secret-key-of-sessions",
    "the-secret-key-of-columns",
    "the-secret-of-health",
    "the-password-of-mail",
    "the-password-of-admin",
    "the-wrong-password",
    "in-the-query",
    accessToken,
    String(token).replace("Bearer ", ""),
    basicAuthorization("admin", "the-password-of-admin").replace("Basic ", ""),
  ];
  expect(secrets.filter((secret) => secret === "" || lines.join("\n").includes(secret))).toEqual([]);
});
