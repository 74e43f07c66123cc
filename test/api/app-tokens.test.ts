/** App-specific tokens through the API and on /v2. Source: quay-api reference, section 16; quay-behaviour, section 17. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { sweepAppTokens } from "../../src/domain/app-token/app-token.ts";
import { insertCode } from "../../src/domain/oauth/code.ts";
import { sweepOauth } from "../../src/domain/oauth/token.ts";
import { password } from "../registry/harness.ts";
import { image, publish } from "../support/content.ts";
import { basicAuthorization } from "../support/registry-client.ts";
import { giveToken, grantedBy, lastLog, makeApplication, makeOrganization, pullStatus } from "./credentials-world.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

const repository = "alice/private";
let api: Api;
let alice: ApiClient;
let bob: ApiClient;

beforeAll(async () => {
  api = await startApi({ SUPER_USERS: ["admin"] });
  await publish(await api.user("alice"), repository, image("apptoken"), "v1");
  await api.user("bob");
  alice = await api.as("alice");
  bob = await api.as("bob");
}, 60_000);
afterAll(() => api.stop());

async function makeToken(client: ApiClient, title: string): Promise<{ uuid: string; token_code: string }> {
  const answer = await client.post("/user/apptoken", { title });
  expect(answer.status).toBe(200);
  return answer.body.token;
}

describe("an app-specific token", () => {
  test("is made, listed without its text, shown with it, and revoked", async () => {
    const made = await alice.post("/user/apptoken", { title: "laptop" });
    expect(made.body).toEqual({
      token: {
        uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
        title: "laptop",
        last_accessed: null,
        created: expect.any(String),
        expiration: null,
        token_code: expect.stringMatching(/^[A-Z0-9]{120}$/),
      },
    });
    const { token_code, ...rest } = made.body.token;
    const listed = await alice.get("/user/apptoken");
    expect(listed.body).toEqual({ tokens: [rest], only_expiring: false });
    expect(listed.text).not.toContain(token_code);
    expect((await alice.get(`/user/apptoken/${rest.uuid}`)).body).toEqual(made.body);
    expect((await alice.delete(`/user/apptoken/${rest.uuid}`)).status).toBe(204);
    expect((await alice.get("/user/apptoken")).body.tokens).toEqual([]);
    expect((await alice.get(`/user/apptoken/${rest.uuid}`)).status).toBe(404);
    expect((await alice.delete(`/user/apptoken/${rest.uuid}`)).status).toBe(404);
  });

  test("is nobody else's to see or revoke", async () => {
    const { uuid } = await makeToken(alice, "mine");
    for (const answer of [await bob.get(`/user/apptoken/${uuid}`), await bob.delete(`/user/apptoken/${uuid}`)]) {
      expect([answer.status, envelopeOf(answer).type]).toEqual([404, "not_found"]);
    }
    expect((await bob.get("/user/apptoken")).body.tokens).toEqual([]);
    expect((await alice.delete(`/user/apptoken/${uuid}`)).status).toBe(204);
  });

  test("needs a title", async () => {
    for (const body of [{ title: "" }, { title: " " }, { title: "x".repeat(256) }, {}, { title: 7 }]) {
      const answer = await alice.post("/user/apptoken", body);
      expect([answer.status, envelopeOf(answer).type]).toEqual([400, "invalid_request"]);
    }
  });

  test("is logged when it is made and revoked, without its text", async () => {
    const { uuid, token_code } = await makeToken(alice, "logged");
    const accountId = await api.accountId("alice");
    const made = await lastLog(api, "create_app_specific_token");
    expect(made).toEqual({
      metadata: { app_specific_token_title: "logged", app_specific_token: uuid },
      performerId: accountId,
      namespaceId: accountId,
    });
    await alice.delete(`/user/apptoken/${uuid}`);
    expect((await lastLog(api, "revoke_app_specific_token")).metadata).toEqual(made.metadata);
    const rows = await api.app.db
      .sql`/* test.secrets */ select 1 from action_log where metadata like ${`%${token_code}%`}`;
    expect(rows).toEqual([]);
  });

  test("asks a session for a fresh password check", async () => {
    const { uuid } = await makeToken(alice, "fresh");
    const stale = await api.as("alice");
    const accountId = await api.accountId("alice");
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.stale */ update session set fresh_ms = ${Date.now() - 3600_000} where account_id = ${accountId}`;
    });
    for (const answer of [
      await stale.post("/user/apptoken", { title: "x" }),
      await stale.get(`/user/apptoken/${uuid}`),
      await stale.delete(`/user/apptoken/${uuid}`),
    ]) {
      expect([answer.status, envelopeOf(answer).type]).toEqual([401, "fresh_login_required"]);
    }
    expect((await stale.get("/user/apptoken")).status).toBe(200);
    alice = await api.as("alice");
    await alice.delete(`/user/apptoken/${uuid}`);
  });
});

describe("on /v2", () => {
  test("logs in as $app with its owner's rights, and ends with its row what was made with it", async () => {
    const { uuid, token_code } = await makeToken(alice, "docker");
    const basic = basicAuthorization("$app", token_code);
    expect(await pullStatus(api, basic, repository)).toBe(200);
    const granted = await grantedBy(api, "$app", token_code, repository);
    expect(granted?.actions).toEqual(["pull", "push", "delete"]);
    expect(granted?.expiresInSeconds).toBe(3600);
    const bearer = `Bearer ${granted?.token}`;
    expect(await pullStatus(api, bearer, repository)).toBe(200);

    expect((await alice.delete(`/user/apptoken/${uuid}`)).status).toBe(204);
    expect(await pullStatus(api, basic, repository)).toBe(401);
    expect(await pullStatus(api, bearer, repository)).toBe(401);
    expect(await grantedBy(api, "$app", token_code, repository)).toBeUndefined();
  });

  test("an expired one is as good as none, and what was made with it ends with it", async () => {
    const { uuid, token_code } = await makeToken(alice, "short");
    const until = Date.now() + 1500;
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.expire */ update app_token set expires_ms = ${until} where uuid = ${uuid}`;
    });
    const granted = await grantedBy(api, "$app", token_code, repository);
    expect(granted?.actions).toEqual(["pull", "push", "delete"]);
    expect(granted?.expiresInSeconds).toBeLessThanOrEqual(2);
    const bearer = `Bearer ${granted?.token}`;
    expect(await pullStatus(api, bearer, repository)).toBe(200);
    await Bun.sleep(until - Date.now() + 50);
    expect(await pullStatus(api, basicAuthorization("$app", token_code), repository)).toBe(401);
    expect(await pullStatus(api, bearer, repository)).toBe(401);
  }, 15_000);

  test("Quay's text meets a wrong one, whatever it looks like", async () => {
    for (const secret of ["", "x", "A".repeat(120), "A".repeat(60), "\u0000".repeat(120), password]) {
      const response = await fetch(`${api.berth.url}/v2/`, {
        headers: { authorization: basicAuthorization("$app", secret) },
      });
      expect(response.status).toBe(401);
      expect(await response.json()).toMatchObject({ errors: [{ code: "UNAUTHORIZED", message: "Invalid token" }] });
    }
  });

  test("a disabled owner's token is off, and on again with its owner", async () => {
    const carol = await api.user("carol");
    await publish(carol, "carol/private", image("apptoken"), "v1");
    const { token_code } = await makeToken(await api.as("carol"), "carol");
    const granted = await grantedBy(api, "$app", token_code, "carol/private");
    await api.enabled("carol", false);
    expect(await pullStatus(api, basicAuthorization("$app", token_code), "carol/private")).toBe(401);
    expect(await pullStatus(api, `Bearer ${granted?.token}`, "carol/private")).toBe(401);
    await api.enabled("carol", true);
    expect(await pullStatus(api, basicAuthorization("$app", token_code), "carol/private")).toBe(200);
  });

  test("a use is noted, and the pull names the token in the log", async () => {
    const { uuid, token_code } = await makeToken(alice, "noted");
    const client = api.client("$app", token_code);
    await publish(client, "alice/fresh-by-app", image("apptoken"), "v1");
    expect((await lastLog(api, "create_repo")).metadata).toMatchObject({
      username: "alice",
      app_specific_token: uuid,
      app_specific_token_title: "noted",
    });
    const deadline = Date.now() + 3000;
    let seen: string | null = null;
    while (seen === null && Date.now() < deadline) {
      seen = (await alice.get(`/user/apptoken/${uuid}`)).body.token.last_accessed;
      if (seen === null) await Bun.sleep(20);
    }
    expect(Math.abs(Date.parse(seen ?? "") - Date.now())).toBeLessThan(60_000);
  });
});

describe("lists", () => {
  test("expiring ones are those of the coming four weeks, expired ones not among them", async () => {
    const dora = await api.user("dora").then(() => api.as("dora"));
    const day = 24 * 3600 * 1000;
    for (const [title, days] of [
      ["gone", -1],
      ["soon", 3],
      ["later", 60],
      ["never", undefined],
    ] as const) {
      const { uuid } = await makeToken(dora, title);
      const expiresMs = days === undefined ? null : Date.now() + days * day;
      await api.app.db.tx(async (tx) => {
        await tx.sql`/* test.expiry */ update app_token set expires_ms = ${expiresMs} where uuid = ${uuid}`;
      });
    }
    const titles = (body: { tokens: { title: string }[] }) => body.tokens.map(({ title }) => title);
    expect(titles((await dora.get("/user/apptoken")).body)).toEqual(["gone", "soon", "later", "never"]);
    const expiring = await dora.get("/user/apptoken?expiring=true");
    expect([titles(expiring.body), expiring.body.only_expiring]).toEqual([["soon"], true]);
  });

  test("superusers see everybody's, without their texts; others are refused", async () => {
    const { uuid, token_code } = await makeToken(alice, "seen by admin");
    const admin = await api.as("admin");
    const answer = await admin.get("/superuser/apptokens");
    expect(answer.body.tokens).toContainEqual(expect.objectContaining({ uuid, username: "alice" }));
    expect(answer.text).not.toContain(token_code);
    expect((await alice.get("/superuser/apptokens")).status).toBe(403);
    expect((await (await api.nobody()).get("/superuser/apptokens")).status).toBe(401);
  });

  test("go on behind a page, and the page is good for its own list alone", async () => {
    const eve = await api.user("eve").then(() => api.as("eve"));
    const accountId = await api.accountId("eve");
    await api.app.db.tx(async (tx) => {
      for (let index = 0; index < 205; index++) {
        await tx.sql`/* test.many */
          insert into app_token (uuid, account_id, title, token_name, token_encrypted, created_ms)
          values (${crypto.randomUUID()}, ${accountId}, ${`t${index}`}, ${`N${index}`}, 'x', ${Date.now()})`;
      }
    });
    const first = await eve.get("/user/apptoken");
    expect(first.body.tokens).toHaveLength(200);
    const second = await eve.get(`/user/apptoken?next_page=${first.body.next_page}`);
    expect(second.body.tokens.map(({ title }: { title: string }) => title)).toEqual([
      "t200",
      "t201",
      "t202",
      "t203",
      "t204",
    ]);
    expect(second.body.next_page).toBeUndefined();
    expect((await alice.get(`/user/apptoken?next_page=${first.body.next_page}`)).status).toBe(400);
  }, 20_000);
});

describe("what is over", () => {
  const hour = 3600 * 1000;

  test("app-specific tokens go a day after their end, others stay", async () => {
    const fred = await api.user("fred").then(() => api.as("fred"));
    for (const [title, hours] of [
      ["long gone", -25],
      ["just over", -23],
      ["good", 1],
      ["endless", undefined],
    ] as const) {
      const { uuid } = await makeToken(fred, title);
      const expiresMs = hours === undefined ? null : Date.now() + hours * hour;
      await api.app.db.tx(async (tx) => {
        await tx.sql`/* test.expiry */ update app_token set expires_ms = ${expiresMs} where uuid = ${uuid}`;
      });
    }
    while ((await sweepAppTokens(api.app)) > 0);
    const left = (await fred.get("/user/apptoken")).body.tokens.map(({ title }: { title: string }) => title);
    expect(left).toEqual(["just over", "good", "endless"]);
    const kept = { ...api.app, config: { ...api.app.config, EXPIRED_APP_SPECIFIC_TOKEN_GC: null } };
    expect(await sweepAppTokens(kept)).toBe(0);
  });

  test("OAuth codes go at their end, tokens a month after it", async () => {
    await makeOrganization(api, "sweeping", "alice");
    const { id, clientId } = await makeApplication(api, "sweeping", "alice", "");
    const old = await giveToken(api, "alice", clientId, ["repo:read"], -31 * 24 * 3600);
    const recent = await giveToken(api, "alice", clientId, ["repo:read"], -29 * 24 * 3600);
    const accountId = await api.accountId("alice");
    const scopes = new Set(["repo:read"] as const);
    const input = { applicationId: id, accountId, scopes, redirectUri: "" };
    await api.app.db.tx(async (tx) => {
      await insertCode(tx, { ...input, nowMs: Date.now() - hour });
      await insertCode(tx, { ...input, nowMs: Date.now() });
    });
    while ((await sweepOauth(api.app)) > 0);
    const tokens = await api.app.db.sql<{ uuid: string }>`/* test.tokens */
      select uuid from oauth_token where application_id = ${id}`;
    expect(tokens.map(({ uuid }) => uuid)).toEqual([recent.uuid]);
    expect(tokens).not.toContainEqual({ uuid: old.uuid });
    const codes = await api.app.db.sql`/* test.codes */ select 1 from oauth_code where application_id = ${id}`;
    expect(codes).toHaveLength(1);
  });
});

describe("by config", () => {
  test("expire after APP_SPECIFIC_TOKEN_EXPIRATION, or are not there at all", async () => {
    const off = await startApi({ FEATURE_APP_SPECIFIC_TOKENS: false });
    const limited = await startApi({ APP_SPECIFIC_TOKEN_EXPIRATION: "7d" });
    try {
      await off.user("alice");
      await limited.user("alice");
      expect((await (await off.as("alice")).get("/user/apptoken")).status).toBe(404);
      expect((await (await off.as("alice")).post("/user/apptoken", { title: "x" })).status).toBe(404);
      const made = await (await limited.as("alice")).post("/user/apptoken", { title: "x" });
      const days = (Date.parse(made.body.token.expiration) - Date.now()) / (24 * 3600 * 1000);
      expect(days).toBeGreaterThan(6.9);
      expect(days).toBeLessThan(7.1);
    } finally {
      await off.stop();
      await limited.stop();
    }
  }, 60_000);
});
