/** The registry as a whole in the hands of superusers: its size, texts, configuration, mails and end. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { countRegistrySize, getRegistrySize, requestRegistrySize } from "../../src/domain/superuser/registry-size.ts";
import { type SmtpServer, startSmtp } from "../support/smtp.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

const secret = "not-for-anybodys-eyes";

let smtp: SmtpServer;
let api: Api;
let su: ApiClient;
beforeAll(async () => {
  smtp = await startSmtp();
  const config = {
    ...smtp.config,
    SECRET_KEY: secret,
    FEATURE_SUPERUSER_CONFIGDUMP: true,
    MADE_UP: { password: secret, harmless: 1 },
  };
  api = await startApi(config, { env: { BERTH_ADMIN_PASSWORD: secret, WORKER_COUNT: "4", SHELL_SECRET: secret } });
  await api.user("alice");
  su = await api.as("admin");
}, 60_000);
afterAll(async () => {
  await api.stop();
  await smtp.stop();
});

test("all of it is for superusers alone", async () => {
  const alice = await api.as("alice");
  const nobody = await api.nobody();
  for (const [method, path] of [
    ["GET", "/superuser/changelog/"],
    ["GET", "/superuser/registrysize/"],
    ["POST", "/superuser/registrysize/"],
    ["GET", "/superuser/registrystatus"],
    ["POST", "/superuser/shutdown"],
    ["GET", "/superuser/config"],
    ["POST", "/superusers/users/alice/sendrecovery"],
  ] as const) {
    expect([path, (await alice.send(method, path)).status]).toEqual([path, 403]);
    expect([path, (await nobody.send(method, path)).status]).toEqual([path, 401]);
  }
});

test("texts", async () => {
  expect((await su.get("/superuser/changelog/")).body.log).toStartWith("# Changelog");
  expect((await su.get("/superuser/registrystatus")).body).toEqual({ provider_id: "file", status: "ready" });
});

describe("the size", () => {
  // Without SERVER_HOSTNAME, which mails need: clients of /v2 would look for it.
  let api: Api;
  let su: ApiClient;
  beforeAll(async () => {
    api = await startApi();
    su = await api.as("admin");
  }, 60_000);
  afterAll(() => api.stop());

  const finished = async () => {
    for (let round = 0; round < 100; round++) {
      const { body } = await su.get("/superuser/registrysize/");
      if (!body.queued && !body.running) return body;
      await Bun.sleep(50);
    }
    throw new Error("the count does not end");
  };
  /** The count under way has not moved for two minutes. */
  const makeAbandoned = async () => {
    const { db } = api.app;
    const [row] = await db.sql<{
      value: string;
    }>`/* test.count */ select value from setting where key = 'registry_size'`;
    const count = JSON.parse(row?.value ?? "{}");
    count.current.movedMs -= 120_000;
    await db.tx(async (tx) => {
      await tx.sql`/* test.abandon */
        update setting set value = ${JSON.stringify(count)} where key = 'registry_size'`;
    });
  };
  const stored = async () => {
    const [row] = await api.app.db.sql<{ size: number }>`/* test.size */
      select cast(coalesce(sum(size_bytes), 0) as bigint) as size from blob`;
    return Number(row?.size);
  };

  test("is nothing before it was asked for, and then the bytes of distinct blobs", async () => {
    expect((await su.get("/superuser/registrysize/")).body).toEqual({
      size_bytes: 0,
      last_ran: null,
      queued: false,
      running: false,
    });
    await api.admin.pushImage("admin/a", "v1", { layerBytes: 5000 });
    await api.admin.pushImage("admin/b", "v1", { layerBytes: 7000 });
    const asked = await su.post("/superuser/registrysize/");
    expect([asked.status, asked.text]).toEqual([201, ""]);
    const { size_bytes, last_ran } = await finished();
    expect(size_bytes).toBe(await stored());
    expect(size_bytes).toBeGreaterThan(12_000);
    expect(Math.abs(last_ran - Date.now())).toBeLessThan(30_000);
  }, 30_000);

  test("is counted piece by piece by one at a time, and goes on where another instance stopped", async () => {
    const blobs = 45_000;
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.blobs */
        insert into blob (digest, size_bytes, created_ms)
        with recursive n (i) as (select 1 union all select i + 1 from n where i < ${blobs})
        select 'sha256:' || cast(i as text), 10, 0 from n`;
    });
    // As an instance leaves it that was killed: asked for, and nobody at it.
    expect(await requestRegistrySize(api.app)).toBe(true);
    expect((await su.post("/superuser/registrysize/")).status).toBe(202);
    await countRegistrySize(api.app, false);
    expect(await getRegistrySize(api.app.db)).toMatchObject({ queued: true, running: false });
    await Promise.all([countRegistrySize(api.app, true), countRegistrySize(api.app, true)]);
    await countRegistrySize(api.app, true);
    expect((await finished()).size_bytes).toBe(await stored());
    expect(await requestRegistrySize(api.app)).toBe(true);
    await makeAbandoned();
    await countRegistrySize(api.app, false);
    expect((await finished()).size_bytes).toBe(await stored());
  }, 60_000);
});

describe("the configuration", () => {
  test("is shown with its secrets starred, the unknown keys, the environment and the schema", async () => {
    const { body, text } = await su.get("/superuser/config");
    expect(body.config).toMatchObject({
      SECRET_KEY: "***",
      FEATURE_SUPERUSER_CONFIGDUMP: true,
      SUPER_USERS: ["admin"],
    });
    expect(body.warning).toEqual({ MADE_UP: { password: "***", harmless: 1 } });
    expect(body.env).toMatchObject({ WORKER_COUNT: "4", BERTH_ADMIN_PASSWORD: "***" });
    expect(JSON.parse(body.env.QUAY_OVERRIDE_CONFIG)).toMatchObject({ SECRET_KEY: "***" });
    expect(body.env.SHELL_SECRET).toBeUndefined();
    expect(text).not.toContain(secret);
    expect(body.schema.properties.SUPER_USERS).toMatchObject({ type: "array" });
  });
});

describe("recovery mails", () => {
  test("go to users with an address, and the link works", async () => {
    await su.put("/superuser/users/alice", { email: "alice@example.com" });
    expect((await su.post("/superusers/users/alice/sendrecovery")).body).toEqual({ email: "alice@example.com" });
    const mail = await smtp.next("alice@example.com");
    expect(mail.text).toContain('the account "alice"');
    expect(mail.text).toMatch(/https?:\/\/\S+\/recovery\?code=[A-Z0-9]+/);
  }, 30_000);

  test("go to nobody else", async () => {
    await api.user("bob");
    expect((await su.post("/superusers/users/bob/sendrecovery")).status).toBe(400);
    expect(envelopeOf(await su.post("/superusers/users/admin/sendrecovery")).detail).toBe(
      "Cannot send a recovery email for a superuser",
    );
    expect((await su.post("/superusers/users/nobody-at-all/sendrecovery")).status).toBe(404);
  });
});

test("a shutdown ends the instance in order, and it starts again", async () => {
  const other = await startApi();
  try {
    const client = await other.as("admin");
    expect((await client.get("/superuser/config")).status).toBe(404);
    expect((await client.post("/superuser/shutdown")).body).toEqual({});
    const isOver = () => other.berth.logs().includes("shutdown asked for by admin");
    for (let round = 0; round < 100 && !isOver(); round++) await Bun.sleep(50);
    expect(isOver()).toBe(true);
    expect(await other.berth.shutDown()).toBe(0);
    await other.berth.restart();
    expect((await client.get("/superuser/registrystatus")).status).toBe(200);
  } finally {
    await other.stop();
  }
}, 60_000);
