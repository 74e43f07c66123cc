/** Instances that start at the same moment on an empty database agree on one schema, one admin and one set of keys. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { migrations } from "../../src/db/migrations.ts";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { image, publish } from "../support/content.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { basicAuthorization, pullScope, RegistryClient } from "../support/registry-client.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import { override, patienceMs } from "./instances.ts";

setDefaultTimeout(patienceMs);
const count = 3;
const repository = "admin/app";
let dir: TempDir;
let outside: postgres.Sql;
let servers: BerthServer[] = [];
let adminPassword = "";

beforeAll(async () => {
  dir = makeTempDir("first");
  const database = await createTestDatabase();
  outside = postgres(database, { max: 1, onnotice: () => undefined });
  const config = {
    DB_URI: database,
    DISTRIBUTED_STORAGE_CONFIG: { default: ["LocalStorage", { storage_path: join(dir.path, "blobs") }] },
    FEATURE_PROGRAMMATIC_BOOTSTRAP: true,
    BOOTSTRAP_TOKEN_OWNER: "admin",
    BOOTSTRAP_TOKEN_PATH: join(dir.path, "bootstrap-token"),
  };
  const start = (_: unknown, index: number) =>
    startBerth({
      database,
      dataDir: join(dir.path, `data-${index}`),
      // None is given, so one is made.
      env: { ...override(config), BERTH_ADMIN_PASSWORD: undefined },
      alone: "each is an instance",
    });
  servers = await Promise.all(Array.from({ length: count }, start));
}, 2 * patienceMs);
afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop()));
  await outside?.end();
  dir?.remove();
}, patienceMs);

test("the schema is there once, and whole", async () => {
  const rows = await outside`select id from schema_migration order by id`;
  expect(rows.map(({ id }) => Number(id))).toEqual(migrations.map(({ id }) => id));
});

test("there is one admin, whose password one of them tells and keeps", async () => {
  const told = servers.filter((server) => server.logs().includes("first start:"));
  expect(told).toHaveLength(1);
  const kept = servers.map(({ dataDir }) => join(dataDir, "initial-admin-password")).filter(existsSync);
  expect(kept).toHaveLength(1);
  adminPassword = readFileSync(kept[0] ?? "", "utf8").trim();
  expect(told[0]?.logs()).toContain(adminPassword);
  expect(await outside`select username from account`).toHaveLength(1);
});

test("they sign and seal with the same keys", async () => {
  const keys = await outside<{ kid: string }[]>`select kid from service_key where private_encrypted is not null`;
  expect(keys).toHaveLength(1);
  const [first] = servers;
  const admin = new RegistryClient({ url: first?.url ?? "", username: "admin", password: adminPassword });
  await publish(admin, repository, image("first"), "v1");
  const authorization = basicAuthorization("admin", adminPassword);
  for (const signer of servers) {
    const token = await fetch(`${signer.url}/v2/auth?scope=${pullScope(repository)}`, { headers: { authorization } });
    const bearer = `Bearer ${((await token.json()) as { token: string }).token}`;
    const { kid } = JSON.parse(Buffer.from(bearer.slice(7).split(".")[0] ?? "", "base64url").toString());
    expect(kid).toBe(keys[0]?.kid ?? "");
    for (const server of servers) {
      const pulled = await fetch(`${server.url}/v2/${repository}/manifests/v1`, { headers: { authorization: bearer } });
      expect(pulled.status).toBe(200);
      await pulled.arrayBuffer();
    }
  }
});

test("a visitor's CSRF value of one is good on the others", async () => {
  for (const from of servers) {
    const given = await fetch(`${from.url}/csrf_token`);
    const cookie = given.headers.get("set-cookie")?.split(";")[0] ?? "";
    const { csrf_token } = (await given.json()) as { csrf_token: string };
    for (const to of servers) {
      const answer = await fetch(`${to.url}/api/v1/signin`, {
        method: "POST",
        headers: { "content-type": "application/json", cookie, "x-csrf-token": csrf_token },
        body: JSON.stringify({ username: "admin", password: adminPassword }),
      });
      expect(answer.status).toBe(200);
      await answer.arrayBuffer();
    }
  }
});

test("the file that they share holds the one bootstrap token there is", async () => {
  const token = readFileSync(join(dir.path, "bootstrap-token"), "utf8").trim();
  expect(await outside`select uuid from oauth_token`).toHaveLength(1);
  for (const server of servers) {
    const answer = await fetch(`${server.url}/api/v1/user/`, { headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBe(200);
    await answer.arrayBuffer();
  }
});
