/**
 * With what somebody logs in on /v2, and what ends it: client keys, app-specific tokens, OAuth tokens, robots. Changes are
 * made in this process and met on the server, which is another one. Source: quay-behaviour reference, sections 1, 2, 17.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { decodeJwt } from "jose";
import { createAppToken, revokeAppToken } from "../../src/domain/app-token/app-token.ts";
import { makeClientKey } from "../../src/domain/client-key/client-key.ts";
import { findOauthCaller } from "../../src/domain/oauth/bearer.ts";
import { deleteToken } from "../../src/domain/oauth/token.ts";
import { deleteRobot, regenerateRobotToken } from "../../src/domain/robot/robot.ts";
import { findAccount, setPasswordHash } from "../../src/domain/user/account.ts";
import { createHttp } from "../../src/http/server.ts";
import {
  callerOf,
  giveToken,
  grantedBy,
  makeApplication,
  makeOrganization,
  pullStatus,
} from "../api/credentials-world.ts";
import { image, publish } from "../support/content.ts";
import { basicOf, errorOf, password, type Registry, startRegistry } from "./harness.ts";

const repository = "alice/private";
const request = { ip: undefined, userAgent: undefined };
/** What another process commits is heard within 200 ms on SQLite (src/db/NOTES.md), sooner on PostgreSQL. */
const heardAfterMs = 260;
let registry: Registry;
let clientId: string;

beforeAll(async () => {
  registry = await startRegistry();
  await publish(await registry.user("alice"), repository, image("credentials"), "v1");
  await makeOrganization(registry, "acme", "alice");
  clientId = (await makeApplication(registry, "acme", "alice", "https://ci.example/cb")).clientId;
}, 60_000);
afterAll(() => registry.stop());

async function appToken(of: Registry, username: string): Promise<{ uuid: string; code: string }> {
  const caller = await callerOf(of, username);
  const accountId = await of.accountId(username);
  const { token, code } = await createAppToken(of.app, { accountId, title: "test", caller, request });
  return { uuid: token.uuid, code };
}

async function refusalOf(of: Registry, username: string, secret: string): Promise<string> {
  const response = await fetch(`${of.berth.url}/v2/`, { headers: basicOf(username, secret) });
  expect(response.status).toBe(401);
  return (await errorOf(response)).message;
}

describe("a client key", () => {
  test("stands for the password it was made of, until the password is another one", async () => {
    await publish(await registry.user("carol"), "carol/private", image("credentials"), "v1");
    const key = makeClientKey(registry.app, password);
    expect(key).not.toContain(password);
    expect(await pullStatus(registry, basicOf("carol", key).authorization ?? "", "carol/private")).toBe(200);
    expect((await grantedBy(registry, "carol", key, "carol/private"))?.actions).toEqual(["pull", "push", "delete"]);
    const hash = await registry.app.passwords.hash("another-password");
    const id = await registry.accountId("carol");
    await registry.app.db.tx((tx) => setPasswordHash(tx, id, hash));
    await Bun.sleep(heardAfterMs);
    expect(await refusalOf(registry, "carol", key)).toBe("Invalid Username or Password");
  });

  test("changed by one character, or made under another key, is only a wrong password", async () => {
    await registry.user("dave");
    const key = makeClientKey(registry.app, password);
    const changed = `${key.slice(0, -2)}${key.endsWith("A") ? "B" : "A"}A`;
    expect(await refusalOf(registry, "dave", changed)).toBe("Invalid Username or Password");
    await registry.user("erin");
    const foreign = makeClientKey({ secretKey: "another key" }, password);
    expect(await refusalOf(registry, "erin", foreign)).toBe("Invalid Username or Password");
  });

  test("what is kept in the database under the other key is none", async () => {
    await registry.user("frank");
    const sealed = registry.app.secrets.seal(JSON.stringify({ password }));
    expect(await refusalOf(registry, "frank", sealed)).toBe("Invalid Username or Password");
  });

  test("may be asked for: FEATURE_REQUIRE_ENCRYPTED_BASIC_AUTH refuses plain passwords and nothing else", async () => {
    const strict = await startRegistry({ FEATURE_REQUIRE_ENCRYPTED_BASIC_AUTH: true });
    try {
      await strict.user("alice");
      const text =
        "Client login with unencrypted passwords is disabled. Please generate an encrypted password in the user " +
        "admin panel for use here.";
      for (const [name, secret] of [
        ["alice", password],
        ["alice", "wrong"],
        ["nobody", password],
      ] as const) {
        expect(await refusalOf(strict, name, secret)).toBe(text);
      }
      const robot = await strict.robot("alice", "builder");
      const { code } = await appToken(strict, "alice");
      for (const [name, secret] of [
        ["alice", makeClientKey(strict.app, password)],
        [robot.name, robot.token],
        ["$app", code],
      ] as const) {
        expect((await fetch(`${strict.berth.url}/v2/`, { headers: basicOf(name, secret) })).status).toBe(200);
      }
    } finally {
      await strict.stop();
    }
  }, 30_000);
});

describe("names of their own", () => {
  test("say in Quay's words what is wrong", async () => {
    expect(await refusalOf(registry, "$app", "x")).toBe("Invalid token");
    expect(await refusalOf(registry, "$token", "x")).toBe("Invalid access token");
    expect(await refusalOf(registry, "$oauthtoken", "x")).toBe("The OAuth token is not valid");
    expect(await refusalOf(registry, "$other", "x")).toBe("Invalid Username or Password");
    const robot = await registry.robot("alice", "wrong");
    expect(await refusalOf(registry, robot.name, "x")).toBe(
      `Could not find robot with username: ${robot.name} and supplied password.`,
    );
  });

  test("a registry token says what it was given for, and names it", async () => {
    const { uuid, code } = await appToken(registry, "alice");
    const granted = await grantedBy(registry, "$app", code, repository);
    expect(decodeJwt(granted?.token ?? "")).toMatchObject({
      sub: "alice",
      credential: `app-token:${uuid}`,
      context: { kind: "appspecifictoken", entity_kind: "appspecifictoken", entity_reference: uuid, user: "alice" },
    });
    const oauth = await giveToken(registry, "alice", clientId, ["repo:read"]);
    const read = await grantedBy(registry, "$oauthtoken", oauth.token, repository);
    expect(decodeJwt(read?.token ?? "")).toMatchObject({
      credential: `oauth:${oauth.uuid}`,
      context: { kind: "oauthtoken", entity_reference: oauth.uuid },
    });
  });

  test("AppToken: passwords open nothing, tokens and robots do", async () => {
    const only = await startRegistry({ AUTHENTICATION_TYPE: "AppToken", FEATURE_DIRECT_LOGIN: false });
    try {
      await only.user("alice");
      const text = "An application specific token is required to login";
      expect(await refusalOf(only, "alice", password)).toBe(text);
      expect(await refusalOf(only, "alice", makeClientKey(only.app, password))).toBe(text);
      expect(await refusalOf(only, "nobody", password)).toBe(text);
      const { code } = await appToken(only, "alice");
      const robot = await only.robot("alice", "builder");
      for (const [name, secret] of [
        ["$app", code],
        [robot.name, robot.token],
      ] as const) {
        expect((await fetch(`${only.berth.url}/v2/`, { headers: basicOf(name, secret) })).status).toBe(200);
      }
    } finally {
      await only.stop();
    }
  }, 30_000);
});

describe("what another instance takes back", () => {
  test("an app-specific token ends with every registry token made with it", async () => {
    const { uuid, code } = await appToken(registry, "alice");
    const basic = basicOf("$app", code).authorization ?? "";
    const bearer = `Bearer ${(await grantedBy(registry, "$app", code, repository))?.token}`;
    expect([await pullStatus(registry, basic, repository), await pullStatus(registry, bearer, repository)]).toEqual([
      200, 200,
    ]);
    const caller = await callerOf(registry, "alice");
    await revokeAppToken(registry.app, { accountId: await registry.accountId("alice"), uuid, caller, request });
    await Bun.sleep(heardAfterMs);
    expect([await pullStatus(registry, basic, repository), await pullStatus(registry, bearer, repository)]).toEqual([
      401, 401,
    ]);
  });

  test("an OAuth token too", async () => {
    const { uuid, token } = await giveToken(registry, "alice", clientId, ["repo:read"]);
    const basic = basicOf("$oauthtoken", token).authorization ?? "";
    const bearer = `Bearer ${(await grantedBy(registry, "$oauthtoken", token, repository))?.token}`;
    expect([await pullStatus(registry, basic, repository), await pullStatus(registry, bearer, repository)]).toEqual([
      200, 200,
    ]);
    await registry.app.db.tx((tx) => deleteToken(tx, uuid));
    await Bun.sleep(heardAfterMs);
    expect([await pullStatus(registry, basic, repository), await pullStatus(registry, bearer, repository)]).toEqual([
      401, 401,
    ]);
  });

  test("a changed password ends what was made with the old one, and so does a robot's new token", async () => {
    await publish(await registry.user("grace"), "grace/private", image("credentials"), "v1");
    const before = `Bearer ${(await grantedBy(registry, "grace", password, "grace/private"))?.token}`;
    const robot = await registry.robot("grace", "renewed");
    await registry.grant(robot.name, "grace/private", "read");
    const robots = `Bearer ${(await grantedBy(registry, robot.name, robot.token, "grace/private"))?.token}`;
    const { code } = await appToken(registry, "grace");
    const apps = `Bearer ${(await grantedBy(registry, "$app", code, "grace/private"))?.token}`;
    const all = () =>
      Promise.all([before, robots, apps].map((bearer) => pullStatus(registry, bearer, "grace/private")));
    expect(await all()).toEqual([200, 200, 200]);

    const id = await registry.accountId("grace");
    const hash = await registry.app.passwords.hash("another-password");
    await registry.app.db.tx((tx) => setPasswordHash(tx, id, hash));
    await Bun.sleep(heardAfterMs);
    expect(await all()).toEqual([401, 200, 200]);
    const owner = await findAccount(registry.app.db, "grace");
    if (!owner) throw new Error("no grace");
    const by = { caller: await callerOf(registry, "grace"), request };
    await regenerateRobotToken(registry.app, owner, "renewed", by);
    await Bun.sleep(heardAfterMs);
    expect(await all()).toEqual([401, 401, 200]);
    const after = `Bearer ${(await grantedBy(registry, "grace", "another-password", "grace/private"))?.token}`;
    expect(await pullStatus(registry, after, "grace/private")).toBe(200);
  });

  test("a deleted robot too", async () => {
    const robot = await registry.robot("alice", "short-lived");
    await registry.grant(robot.name, repository, "read");
    const basic = basicOf(robot.name, robot.token).authorization ?? "";
    const bearer = `Bearer ${(await grantedBy(registry, robot.name, robot.token, repository))?.token}`;
    expect([await pullStatus(registry, basic, repository), await pullStatus(registry, bearer, repository)]).toEqual([
      200, 200,
    ]);
    const owner = await findAccount(registry.app.db, "alice");
    if (!owner) throw new Error("no alice");
    await deleteRobot(registry.app, owner, "short-lived", { caller: await callerOf(registry, "alice"), request });
    await Bun.sleep(heardAfterMs);
    expect([await pullStatus(registry, basic, repository), await pullStatus(registry, bearer, repository)]).toEqual([
      401, 401,
    ]);
  });
});

describe("what a warm pull asks the database", () => {
  test("is nothing, whatever it came with", async () => {
    const http = createHttp(registry.app);
    const { code } = await appToken(registry, "alice");
    const { token } = await giveToken(registry, "alice", clientId, ["repo:read"]);
    const app = (await grantedBy(registry, "$app", code, repository))?.token;
    const oauth = (await grantedBy(registry, "$oauthtoken", token, repository))?.token;
    for (const authorization of [
      basicOf("$app", code).authorization,
      basicOf("$oauthtoken", token).authorization,
      `Bearer ${app}`,
      `Bearer ${oauth}`,
    ]) {
      const pull = async () => {
        const path = `http://berth.test/v2/${repository}/manifests/v1`;
        const headers = { authorization: authorization ?? "", accept: "*/*" };
        const response = await http.fetch(new Request(path, { headers }), { clientIp: "127.0.0.1" });
        expect(response.status).toBe(200);
        await response.arrayBuffer();
      };
      await pull();
      // The note of its use goes on beside the answer; what the poll asks is not counted.
      await Bun.sleep(50);
      const before = registry.app.db.stats.queries;
      for (let round = 0; round < 5; round++) await pull();
      expect(registry.app.db.stats.queries - before).toBe(0);
    }
  });

  test("a bearer of the API that was checked before costs no query", async () => {
    const { token } = await giveToken(registry, "alice", clientId, ["user:read"]);
    const first = await findOauthCaller(registry.app, token);
    await Bun.sleep(50);
    const before = registry.app.db.stats.queries;
    expect(await findOauthCaller(registry.app, token)).toEqual(first);
    expect(registry.app.db.stats.queries).toBe(before);
  });

  test("a use is noted once in a minute, not on every request", async () => {
    const robot = await registry.robot("alice", "busy");
    await registry.grant(robot.name, repository, "read");
    const find = async () => (await findAccount(registry.app.db, robot.name))?.lastAccessedMs;
    const basic = basicOf(robot.name, robot.token).authorization ?? "";
    expect(await pullStatus(registry, basic, repository)).toBe(200);
    const deadline = Date.now() + 3000;
    while ((await find()) === undefined && Date.now() < deadline) await Bun.sleep(10);
    const first = await find();
    expect(first).toBeDefined();
    for (let round = 0; round < 5; round++) await pullStatus(registry, basic, repository);
    await Bun.sleep(100);
    expect(await find()).toBe(first);
  });
});
