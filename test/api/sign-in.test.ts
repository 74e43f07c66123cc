/** Signing in and out, asking for the password again, lock-out, and what a session cookie is good for. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { endSessions } from "../../src/domain/session/session.ts";
import { findAccount, setPasswordHash } from "../../src/domain/user/account.ts";
import { beginSession } from "../../src/domain/user/sign-in.ts";
import { eventually, password } from "../registry/harness.ts";
import { type Api, ApiClient, envelopeOf, startApi } from "./harness.ts";
import { clientOf, cookieOf, countEntries, signInAs } from "./sign-in.ts";

setDefaultTimeout(30_000);
let api: Api;
beforeAll(async () => {
  api = await startApi({ ACTION_LOG_AUDIT_LOGIN_FAILURES: true });
  for (const name of ["alice", "bob", "carol", "dora", "erin", "frank", "gina", "disabled"]) await api.user(name);
  await api.enabled("disabled", false);
}, 60_000);
afterAll(() => api.stop());

async function sessionsOf(accountId: number): Promise<number> {
  return (await api.app.db.sql`select 1 as one from session where account_id = ${accountId}`).length;
}

const refusal = { needsEmailVerification: false, invalidCredentials: true };

describe("a right password", () => {
  test("begins a session with a new cookie and its CSRF value", async () => {
    const nobody = await api.nobody();
    const visitor = nobody.headers.Cookie;
    const answer = await nobody.post("/signin", { username: "alice", password });
    expect([answer.status, answer.body]).toEqual([200, { success: true }]);
    const cookie = answer.headers.get("set-cookie") ?? "";
    expect(cookie).toMatch(/^_csrf_token=[\w-]{43}; Path=\/; SameSite=Lax; HttpOnly; Max-Age=2678400$/);
    expect(cookieOf(answer)).not.toBe(visitor);
    const csrf = answer.headers.get("x-next-csrf-token") ?? "";
    const alice = new ApiClient(nobody.url, { Cookie: cookieOf(answer), "X-CSRF-Token": csrf });
    expect((await alice.post("/signin/verify", { password })).body).toEqual({ success: true });
  });
  test("is noted in the action log, a wrong one too", async () => {
    const wrong = await signInAs(api, "bob\ninjected", "wrong-password");
    expect(wrong.status).toBe(403);
    await signInAs(api, "bob", password);
    await eventually(async () => (await countEntries(api, "login_success", '"username":"bob"')) === 1);
    await eventually(async () => (await countEntries(api, "login_failure", "injected")) === 1);
    expect(await countEntries(api, "login_failure", "\n")).toBe(0);
    expect(await countEntries(api, "login_failure", "wrong-password")).toBe(0);
  });
  test("under the e-mail address", async () => {
    await api.app.db.sql`update account set email = 'alice@example.com' where username = 'alice'`;
    expect((await signInAs(api, "alice@example.com", password)).status).toBe(200);
  });
  test("with the CSRF value as a query field", async () => {
    const nobody = await api.nobody();
    const { Cookie = "", "X-CSRF-Token": csrf } = nobody.headers;
    const bare = new ApiClient(nobody.url, { Cookie });
    expect((await bare.post(`/signin?_csrf_token=${csrf}`, { username: "alice", password })).status).toBe(200);
  });
});

describe("refused", () => {
  test.each([
    ["a wrong password", "carol", "not-the-password"],
    ["a name that nobody has", "nobody-has-this", password],
    ["an e-mail address that nobody has", "nobody@example.com", password],
    ["an empty name", "", password],
    ["a name with a NUL", "carol\u0001", password],
    ["a name that is not ASCII", "cärol", password],
  ])("%s", async (_, username, secret) => {
    const answer = await signInAs(api, username, secret);
    expect([answer.status, answer.body]).toEqual([403, { ...refusal, message: "Invalid Username or Password" }]);
    expect(answer.headers.get("set-cookie")).toBeNull();
  });
  test("a robot with its token", async () => {
    const robot = await api.robot("alice", "ci");
    const answer = await signInAs(api, robot.name, robot.token);
    expect([answer.status, answer.body]).toEqual([403, { ...refusal, message: "Invalid Username or Password" }]);
  });
  test("a disabled user, and only with the right password told so", async () => {
    const right = await signInAs(api, "disabled", password);
    const message = "This user has been disabled. Please contact your administrator.";
    expect([right.status, right.body]).toEqual([403, { ...refusal, message }]);
    const wrong = await signInAs(api, "disabled", "not-the-password");
    expect(wrong.body.message).toBe("Invalid Username or Password");
  });
  test("fields that are missing or of another type", async () => {
    const nobody = await api.nobody();
    for (const body of [{}, { username: "alice" }, { username: "alice", password: 7 }, { username: {}, password }]) {
      const answer = await nobody.post("/signin", body);
      expect([answer.status, envelopeOf(answer).type]).toEqual([400, "invalid_request"]);
    }
  });
});

describe("too many wrong passwords", () => {
  test.each([
    ["of a user", "dora"],
    ["of nobody: the same, so that it does not tell who exists", "nobody-at-all"],
  ])("%s", async (_, username) => {
    for (const status of [403, 429]) {
      const answer = await signInAs(api, username, "not-the-password");
      expect(answer.status).toBe(status);
      if (status === 403) continue;
      expect(answer.text).toBe("Too many login attempts. \nPlease reset your Quay password and try again.");
      expect(Number(answer.headers.get("retry-after"))).toBe(1);
      expect(answer.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    }
    await Bun.sleep(600);
    expect((await signInAs(api, username, "not-the-password")).status).toBe(403);
  });
  test("hold also for asking again", async () => {
    const erin = await api.as("erin");
    const wrong = await erin.post("/signin/verify", { password: "not-the-password" });
    expect([wrong.status, wrong.body]).toEqual([
      403,
      { message: "Invalid Username or Password", invalidCredentials: true },
    ]);
    expect((await erin.post("/signin/verify", { password })).status).toBe(429);
  });
});

describe("a session", () => {
  test("that somebody planted before sign-in is not the one after it", async () => {
    const planted = await api.nobody();
    expect((await planted.post("/signin", { username: "alice", password })).status).toBe(200);
    const answer = await planted.post("/signin/verify", { password });
    expect([answer.status, envelopeOf(answer).type]).toEqual([401, "invalid_token"]);
  });
  test("ends when its browser signs in as somebody else", async () => {
    const frank = await api.as("frank");
    expect((await frank.post("/signin", { username: "gina", password })).status).toBe(200);
    expect((await frank.post("/signin/verify", { password })).status).toBe(401);
  });
  test("ends on every browser when the user signs out on one", async () => {
    const [one, other] = [await api.as("frank"), await api.as("frank")];
    const bystander = await api.as("gina");
    const answer = await one.post("/signout");
    expect([answer.status, answer.body]).toEqual([200, { success: true }]);
    expect(cookieOf(answer)).not.toBe(one.headers.Cookie);
    for (const client of [one, other]) expect((await client.post("/signin/verify", { password })).status).toBe(401);
    expect((await bystander.post("/signin/verify", { password })).status).toBe(200);
    await eventually(async () => (await countEntries(api, "logout_success", "")) === 1);
  });
  test("of nobody can be signed out of too", async () => {
    expect((await (await api.nobody()).post("/signout")).body).toEqual({ success: true });
  });
  test("is not begun with a password that was changed while it was checked", async () => {
    const { app } = api;
    const checked = await findAccount(app.db, "gina");
    if (!checked) throw new Error("no gina");
    const request = { ip: undefined, userAgent: undefined };
    const written = Promise.withResolvers<void>();
    const change = app.db.tx(async (tx) => {
      await setPasswordHash(tx, checked.id, "$argon2id$another");
      await endSessions(tx, checked.id);
      written.resolve();
      // Long enough for the sign-in to get as far as it can before this is committed.
      await Bun.sleep(200);
    });
    await written.promise;
    await expect(beginSession(app, checked, { before: undefined, request })).rejects.toThrow("disabled");
    await change;
    expect(await sessionsOf(checked.id)).toBe(0);
  });
});

describe("while the registry is read-only", () => {
  test("people sign in, prove themselves and sign out, and change nothing", async () => {
    const frozen = await startApi({ REGISTRY_STATE: "readonly" });
    const secret = frozen.berth.adminPassword;
    const admin = clientOf(frozen, await signInAs(frozen, "admin", secret));
    expect((await admin.get("/user/")).status).toBe(200);
    expect((await admin.post("/signin/verify", { password: secret })).status).toBe(200);
    for (const change of [await admin.put("/user/", { password: "another-one" }), await admin.delete("/user/")]) {
      expect([change.status, change.body.is_readonly]).toEqual([503, true]);
    }
    expect((await admin.post("/signout")).status).toBe(200);
    expect((await admin.get("/user/")).status).toBe(401);
    await frozen.stop();
  });
});

describe("with FEATURE_DIRECT_LOGIN off", () => {
  test("nobody signs in with a password", async () => {
    const closed = await startApi({
      FEATURE_DIRECT_LOGIN: false,
      AUTHENTICATION_TYPE: "Database",
      GITHUB_LOGIN_CONFIG: { CLIENT_ID: "id", CLIENT_SECRET: "secret", GITHUB_ENDPOINT: "https://git.example.com/" },
      FEATURE_GITHUB_LOGIN: true,
    });
    const answer = await signInAs(closed, "admin", closed.berth.adminPassword);
    expect([answer.status, envelopeOf(answer).type]).toEqual([404, "not_found"]);
    await closed.stop();
  });
});
