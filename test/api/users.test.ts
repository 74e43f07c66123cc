/** The caller's account and others' view of it: whole bodies, changes with their log entries, and what nobody may slip in. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { findAccount } from "../../src/domain/user/account.ts";
import { avatar } from "../../src/http/api/views.ts";
import { basicOf, password } from "../registry/harness.ts";
import { type Api, envelopeOf, startApi } from "./harness.ts";
import { clientOf, entriesOf, signInAs } from "./sign-in.ts";

setDefaultTimeout(30_000);
let api: Api;
beforeAll(async () => {
  api = await startApi({ FEATURE_USER_METADATA: true });
}, 60_000);
afterAll(() => api.stop());

/** A user that no other test knows, and its browser. */
async function someone(name: string) {
  await api.user(name);
  return api.as(name);
}

const plainView = (username: string, email?: string) => ({
  anonymous: false,
  username,
  avatar: avatar("user", username, email),
  can_create_repo: true,
  is_me: true,
  verified: true,
  email: email ?? null,
  logins: [],
  invoice_email: false,
  invoice_email_address: null,
  preferred_namespace: false,
  tag_expiration_s: 14 * 24 * 3600,
  prompts: [],
  company: null,
  family_name: null,
  given_name: null,
  location: null,
  is_free_account: true,
  has_password_set: true,
  organizations: [],
  super_user: false,
});

describe("GET /user/", () => {
  test("is the whole account of the caller", async () => {
    const alice = await someone("alice");
    await alice.post("/organization/", { name: "alices", email: "org@example.com" });
    const answer = await alice.get("/user/");
    const organization = {
      name: "alices",
      avatar: avatar("org", "alices", "org@example.com"),
      can_create_repo: true,
      public: false,
      is_org_admin: true,
      preferred_namespace: false,
    };
    expect([answer.status, answer.body]).toEqual([200, { ...plainView("alice"), organizations: [organization] }]);
    expect((await alice.get("/user")).status).toBe(308);
  });
  test("tells nobody that no session is needed to ask", async () => {
    const answer = await (await api.nobody()).get("/user/");
    const url = `${api.berth.url}/api/v1/error/invalid_token`;
    const detail = "Requires authentication";
    expect([answer.status, answer.body]).toEqual([
      401,
      {
        detail,
        error_message: detail,
        error_type: "invalid_token",
        title: "invalid_token",
        type: url,
        status: 401,
        decision: "anonymous",
        session_required: false,
      },
    ]);
  });
  test("says of a superuser that it is one", async () => {
    expect((await (await api.as("admin")).get("/user/")).body.super_user).toBe(true);
  });
});

describe("with FEATURE_QUOTA_MANAGEMENT", () => {
  test("the view says how much the namespace holds and may", async () => {
    const counting = await startApi({ FEATURE_QUOTA_MANAGEMENT: true, DEFAULT_SYSTEM_REJECT_QUOTA_BYTES: 1000 });
    const { body } = await (await counting.as("admin")).get("/user/");
    expect({ quotas: body.quotas, quota_report: body.quota_report }).toEqual({
      quotas: [],
      quota_report: {
        quota_bytes: 0,
        configured_quota: 1000,
        running_backfill: "waiting",
        backfill_status: "waiting",
      },
    });
    await counting.stop();
  });
});

describe("GET /users/{username}", () => {
  test("is the public part for others, the whole for oneself and for superusers", async () => {
    const bob = await someone("bob");
    const { username, avatar: picture, anonymous } = plainView("bob");
    const shown = { anonymous, username, avatar: picture };
    expect((await (await api.nobody()).get("/users/bob")).body).toEqual(shown);
    expect((await (await someone("bobs-friend")).get("/users/bob")).body).toEqual(shown);
    expect((await bob.get("/users/bob")).body).toEqual(plainView("bob"));
    expect((await (await api.as("admin")).get("/users/bob")).body).toEqual({ ...plainView("bob"), is_me: false });
  });
  test.each(["nosuch", "alices", "alice%2Bci", "%00", "a%0ab"])("is 404 for %s", async (name) => {
    await api.robot("alice", "ci").catch(() => undefined);
    expect((await (await api.nobody()).get(`/users/${name}`)).status).toBe(404);
  });
});

describe("PUT /user/", () => {
  test("changes what it is given, with an entry for each change", async () => {
    const carol = await someone("carol");
    await api.app.db.sql`update account set prompts = '["enter_name","enter_company","confirm_username"]'
      where username = 'carol'`;
    const sent = {
      email: "carol@example.com",
      tag_expiration_s: 7 * 24 * 3600,
      invoice_email: true,
      invoice_email_address: "bills@example.com",
      given_name: "Carol",
      family_name: "Example",
      company: "Example Inc",
      location: "Here",
    };
    const answer = await carol.put("/user/", sent);
    const expected = { ...plainView("carol", sent.email), ...sent, prompts: ["confirm_username"] };
    expect([answer.status, answer.body]).toEqual([200, expected]);
    expect((await carol.get("/user/")).body).toEqual(expected);
    const entries = await api.app.db.sql<{ kind: string; metadata: string }>`
      select kind, metadata from action_log where namespace_id = ${await api.accountId("carol")} order by id`;
    expect(entries.map(({ kind, metadata }) => [kind, JSON.parse(metadata)])).toEqual([
      [
        "user_change_metadata",
        { given_name: "Carol", family_name: "Example", company: "Example Inc", location: "Here" },
      ],
      ["user_change_tag_expiration", { tag_expiration: 604_800 }],
      ["user_change_invoicing", { invoice_email: true }],
      ["user_change_invoicing", { invoice_email_address: "bills@example.com" }],
      ["user_change_email", { username: "carol", email: "carol@example.com", old_email: null }],
    ]);
    const again = await carol.put("/user/", { username: "carol", company: null, invoice_email_address: null });
    expect(again.body).toEqual({ ...expected, prompts: [], company: null, invoice_email_address: null });
  });
  test("changes nothing when one field is wrong", async () => {
    const dora = await someone("dora");
    await api.user("taken");
    await api.app.db.sql`update account set email = 'taken@example.com' where username = 'taken'`;
    const cases: [Record<string, unknown>, string][] = [
      [{ email: "nonsense" }, "Invalid email address: nonsense"],
      [{ email: "a@example.com\r\nBcc: b@example.com" }, "Invalid email address"],
      [{ email: "a@example.com,b@example.com" }, "Invalid email address"],
      [{ email: "Dora <dora@example.com>" }, "Invalid email address"],
      [{ email: "taken@example.com" }, "E-mail address already used"],
      [{ password: "short" }, "Invalid password, password must be at least 8 characters and contain no whitespace."],
      [{ tag_expiration_s: 5 }, "Invalid tag expiration option"],
      [{ tag_expiration_s: -1 }, "field 'tag_expiration_s'"],
      [{ username: "dora2" }, "User names cannot be changed on this registry"],
      [{ family_name: "Dora\r\nBcc: b@example.com" }, "field 'family_name': must be one line"],
      [{ given_name: "D".repeat(256) }, "field 'given_name': must be one line"],
      [{ invoice_email_address: "a@b.example\nBcc: c@d.example" }, "Invalid email address"],
      [{ invoice_email: "yes" }, "field 'invoice_email'"],
    ];
    for (const [wrong, text] of cases) {
      const answer = await dora.put("/user/", { company: "Changed", invoice_email: true, ...wrong });
      expect(answer.status).toBe(400);
      expect(envelopeOf(answer).type).toBe("invalid_request");
      expect(envelopeOf(answer).detail).toStartWith(text);
    }
    expect((await dora.get("/user/")).body).toEqual(plainView("dora"));
  });
  test("acts on no field that is not its own", async () => {
    const mallory = await someone("mallory");
    const columns = () => api.app.db.sql`select * from account where username = 'mallory'`;
    const before = await columns();
    const slipped = {
      id: 1,
      uuid: "00000000-0000-4000-8000-000000000000",
      kind: "organization",
      superuser: true,
      super_user: true,
      promoted: true,
      verified: false,
      enabled: false,
      is_me: false,
      can_create_repo: false,
      prompts: ["confirm_username"],
      password_hash: "x",
      passwordHash: "x",
      failed_logins: 99,
      owner_id: 1,
      organizations: [{ name: "acme" }],
      __proto__: { superuser: true },
      constructor: { prototype: { superuser: true } },
    };
    expect((await mallory.put("/user/", slipped)).body).toEqual(plainView("mallory"));
    expect(await columns()).toEqual(before);
  });
});

describe("a change of the password", () => {
  test("ends every other session, keeps this one, and is what counts from then on", async () => {
    const erin = await someone("erin");
    const other = await api.as("erin");
    const bystander = await api.as("alice");
    const answer = await erin.put("/user/", { password: "another-password" });
    expect([answer.status, answer.body]).toEqual([200, plainView("erin")]);
    expect(answer.headers.get("x-next-csrf-token")).toBe(erin.headers["X-CSRF-Token"] ?? "");
    expect((await erin.get("/user/")).status).toBe(200);
    expect((await other.get("/user/")).status).toBe(401);
    expect((await bystander.get("/user/")).status).toBe(200);
    expect((await signInAs(api, "erin", "another-password")).status).toBe(200);
    expect((await signInAs(api, "erin", password)).status).toBe(403);
    expect(await entriesOf(api, "account_change_password")).toEqual([{}]);
  });
});

describe("FEATURE_USER_RENAME", () => {
  test("lets a user take another name, whose repositories and log-ins follow", async () => {
    const renaming = await startApi({ FEATURE_USER_RENAME: true, SUPER_USERS: ["admin", "boss"] });
    await renaming.user("old-name");
    await renaming.user("taken");
    const client = await renaming.as("old-name");
    await client.post("/repository", { repository: "app", visibility: "private", description: "" });
    for (const [username, text] of [
      ["taken", "Username is already in use"],
      ["boss", 'The name "boss" is named in the registry\'s configuration'],
      ["UPPER", "Invalid namespace UPPER"],
    ] as const) {
      const answer = await client.put("/user/", { username });
      expect(answer.status).toBe(400);
      expect(envelopeOf(answer).detail).toStartWith(text);
    }
    const answer = await client.put("/user/", { username: "new-name" });
    expect([answer.status, answer.body.username]).toEqual([200, "new-name"]);
    expect((await client.get("/user/")).body.username).toBe("new-name");
    expect((await renaming.repository("new-name/app")).namespace as string).toBe("new-name");
    expect((await signInAs(renaming, "old-name", password)).status).toBe(403);
    expect((await signInAs(renaming, "new-name", password)).status).toBe(200);
    const [entry] = await entriesOf(renaming, "user_change_name");
    expect(entry).toMatchObject({ old_username: "old-name" });
    await renaming.stop();
  });
});

describe("a client key", () => {
  test("logs command line clients in, and is given for the right password alone", async () => {
    const frank = await someone("frank");
    const { body } = await frank.post("/user/clientkey", { password });
    expect(Object.keys(body)).toEqual(["key"]);
    expect(body.key).not.toContain(password);
    const login = await fetch(`${api.berth.url}/v2/auth`, { headers: basicOf("frank", body.key) });
    expect(login.status).toBe(200);
    expect(await entriesOf(api, "user_generate_client_key")).toEqual([{}]);
    const wrong = await frank.post("/user/clientkey", { password: "not-the-password" });
    expect([wrong.status, envelopeOf(wrong).detail]).toEqual([400, "Invalid Username or Password"]);
  });
});

describe("DELETE /user/", () => {
  test("ends the account, its sessions and its name", async () => {
    const gina = await someone("gina");
    const other = await api.as("gina");
    const answer = await gina.delete("/user/");
    expect([answer.status, answer.text]).toEqual([204, ""]);
    for (const client of [gina, other]) expect((await client.get("/user/")).status).toBe(401);
    expect((await (await api.nobody()).get("/users/gina")).status).toBe(404);
    expect(await findAccount(api.app.db, "gina")).toBeUndefined();
    expect(await entriesOf(api, "user_delete")).toEqual([{ username: "gina" }]);
    await api.user("gina");
  });
  test("is refused to the only admin of an organization", async () => {
    const hugo = await someone("hugo");
    await hugo.post("/organization/", { name: "hugos" });
    const answer = await hugo.delete("/user/");
    const detail = "Cannot delete hugo as you are the only admin for organizations: hugos";
    expect([answer.status, envelopeOf(answer).detail]).toEqual([400, detail]);
  });
});

describe("POST /user/convert", () => {
  test("makes an organization whose admin is signed in", async () => {
    const ivan = await someone("ivan");
    await api.user("ivans-admin");
    const answer = await ivan.post("/user/convert", {
      adminUser: "ivans-admin",
      adminPassword: password,
      plan: "free",
    });
    expect([answer.status, answer.body]).toEqual([200, { success: true }]);
    expect((await ivan.get("/user/")).status).toBe(401);
    const admin = clientOf(api, answer);
    const { body } = await admin.get("/user/");
    expect([body.username, body.organizations.map((each: { name: string }) => each.name)]).toEqual([
      "ivans-admin",
      ["ivan"],
    ]);
    expect(await entriesOf(api, "account_convert")).toEqual([{}]);
  });
  test.each([
    ["itself", "judy", password, "The admin user is not valid"],
    ["itself by its address", "judy@example.com", password, "The admin user is not valid"],
    ["a wrong password", "alice", "not-the-password", "The admin user credentials are not valid"],
    ["nobody", "no-such-user", password, "The admin user credentials are not valid"],
    ["an organization", "alices", password, "The admin user credentials are not valid"],
  ])("refuses %s as admin", async (_, adminUser, adminPassword, detail) => {
    if (!(await findAccount(api.app.db, "judy"))) {
      await api.user("judy");
      await api.app.db.sql`update account set email = 'judy@example.com' where username = 'judy'`;
    }
    const answer = await (await api.as("judy")).post("/user/convert", { adminUser, adminPassword });
    expect([answer.status, envelopeOf(answer).detail, answer.body.reason]).toEqual([400, detail, "invaliduser"]);
  });
});

describe("a name that the config gives rights to", () => {
  test("does not become free for whoever signs up next", async () => {
    const admin = await api.as("admin");
    const detail = (what: string) => `"admin" is named in the registry's configuration and cannot be ${what}`;
    const deleted = await admin.delete("/user/");
    expect([deleted.status, envelopeOf(deleted).detail]).toEqual([400, detail("deleted")]);
    const converted = await admin.post("/user/convert", { adminUser: "anna", adminPassword: password });
    expect([converted.status, envelopeOf(converted).detail]).toEqual([400, detail("converted")]);
    expect((await admin.get("/user/")).body.super_user).toBe(true);
  });
});

describe("a log-in that is not fresh", () => {
  test("may look and not change, until the password is given again", async () => {
    const strict = await startApi({ FRESH_LOGIN_TIMEOUT: "1s" });
    await strict.user("kim");
    const kim = await strict.as("kim");
    expect((await kim.put("/user/", { company: "x" })).status).toBe(200);
    await Bun.sleep(1100);
    expect((await kim.get("/user/")).status).toBe(200);
    for (const stale of [await kim.put("/user/", { company: "y" }), await kim.delete("/user/")]) {
      expect([stale.status, envelopeOf(stale)]).toEqual([
        401,
        { type: "fresh_login_required", detail: "Requires fresh login", decision: "fresh-login" },
      ]);
    }
    expect((await kim.post("/signin/verify", { password: "not-the-password" })).status).toBe(403);
    expect((await kim.put("/user/", { company: "y" })).status).toBe(401);
    await Bun.sleep(600);
    expect((await kim.post("/signin/verify", { password })).status).toBe(200);
    expect((await kim.put("/user/", { company: "y" })).status).toBe(200);
    await strict.stop();
  });
});

describe("a restricted user", () => {
  test("owns nothing new, is told so by its view, and works where others let it", async () => {
    const strict = await startApi({ FEATURE_RESTRICTED_USERS: true, RESTRICTED_USERS_WHITELIST: ["free"] });
    for (const name of ["bound", "free"]) await strict.user(name);
    const [bound, free] = [await strict.as("bound"), await strict.as("free")];
    expect((await bound.get("/user/")).body.can_create_repo).toBe(false);
    expect((await free.get("/user/")).body.can_create_repo).toBe(true);
    expect((await (await strict.as("admin")).get("/user/")).body.can_create_repo).toBe(true);
    const repository = { repository: "app", visibility: "private", description: "" };
    expect((await bound.post("/repository", repository)).status).toBe(403);
    expect((await bound.post("/organization/", { name: "bounds" })).status).toBe(403);
    expect((await bound.put("/user/robots/ci", {})).status).toBe(403);
    expect((await free.post("/organization/", { name: "frees" })).status).toBe(201);
    await free.put("/organization/frees/team/owners/members/bound");
    expect((await bound.post("/repository", { ...repository, namespace: "frees" })).status).toBe(201);
    const push = async (name: string, secret: string, path: string) => {
      const scope = `repository:${path}:pull,push`;
      const answer = await fetch(`${strict.berth.url}/v2/auth?scope=${scope}`, { headers: basicOf(name, secret) });
      const { token = "" } = (await answer.json()) as { token?: string };
      const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as {
        access: { actions: string[] }[];
      };
      return claims.access.flatMap(({ actions }) => actions).includes("push");
    };
    // A robot is what its owner is: restricted, exempt, or of an organization.
    const found: Record<string, boolean> = {};
    for (const owner of ["bound", "free", "frees", "admin"]) {
      const { name, token } = await strict.robot(owner, "ci");
      await strict.app.db.sql`insert into repository (namespace_id, name, path, visibility, created_ms)
        values (${await strict.accountId(owner)}, 'old', ${`${owner}/old`}, 'private', 1)`;
      await strict.grant(name, `${owner}/old`, "write");
      found[owner] = await push(name, token, `${owner}/old`);
    }
    expect(found).toEqual({ bound: false, free: true, frees: true, admin: true });
    await strict.stop();
  });
});
