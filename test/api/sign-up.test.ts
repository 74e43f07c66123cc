/** Making an account for oneself: with and without mail, by invitation, behind a captcha, and what nobody may slip in. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { avatar } from "../../src/http/api/views.ts";
import { basicOf, password } from "../registry/harness.ts";
import { codeIn, type SmtpServer, startSmtp } from "../support/smtp.ts";
import { type Api, type ApiAnswer, ApiClient, envelopeOf, startApi } from "./harness.ts";
import { Browser } from "./pages.ts";
import { clientOf, cookieOf, entriesOf, signInAs } from "./sign-in.ts";

setDefaultTimeout(30_000);

async function signUp(api: Api, body: Record<string, unknown>): Promise<ApiAnswer> {
  return (await api.nobody()).post("/user/", { password, ...body });
}

describe("without mail", () => {
  let api: Api;
  beforeAll(async () => {
    api = await startApi({
      FEATURE_BLACKLISTED_EMAILS: true,
      BLACKLISTED_EMAIL_DOMAINS: ["blocked.example", "Upper.example"],
      SUPER_USERS: ["admin"],
    });
  }, 60_000);
  afterAll(() => api.stop());

  test("the account is there and signed in at once", async () => {
    const visitor = await api.nobody();
    const answer = await visitor.post("/user/", { username: "alice", password, email: "alice@example.com" });
    expect([answer.status, answer.body]).toEqual([
      200,
      {
        anonymous: false,
        username: "alice",
        avatar: avatar("user", "alice", "alice@example.com"),
        can_create_repo: true,
        is_me: true,
        verified: true,
        email: "alice@example.com",
        logins: [],
        invoice_email: false,
        invoice_email_address: null,
        preferred_namespace: false,
        tag_expiration_s: 1_209_600,
        prompts: [],
        company: null,
        family_name: null,
        given_name: null,
        location: null,
        is_free_account: true,
        has_password_set: true,
        organizations: [],
        super_user: false,
      },
    ]);
    expect(cookieOf(answer)).not.toBe(visitor.headers.Cookie);
    expect((await clientOf(api, answer).get("/user/")).body).toEqual(answer.body);
    // The visitor's cookie, which somebody may have planted, is nobody's still.
    expect((await visitor.get("/user/")).status).toBe(401);
    expect((await fetch(`${api.berth.url}/v2/auth`, { headers: basicOf("alice") })).status).toBe(200);
    expect(await entriesOf(api, "user_create")).toEqual([{ email: "alice@example.com", username: "alice" }]);
  });
  test("an address is not needed, and two accounts without one are no clash", async () => {
    for (const username of ["bob", "carol"]) {
      const answer = await signUp(api, { username, email: username === "bob" ? "" : null });
      expect([answer.status, answer.body.email]).toEqual([200, null]);
    }
  });
  test("what cannot be is told in Quay's words, and nothing is made", async () => {
    await (await api.as("alice")).post("/organization/", { name: "acme", email: "acme@example.com" });
    const blocked = "Creation of a user account for this e-mail is disabled; please contact an administrator";
    const accounts = () => api.app.db.sql`select username from account order by id`;
    const before = await accounts();
    const cases: [Record<string, unknown>, string][] = [
      [{ username: "alice" }, "The username already exists"],
      [{ username: "acme" }, "Username has already been taken by an organization and cannot be reused: acme"],
      [{ username: "dora", email: "alice@example.com" }, "Email has already been used: alice@example.com"],
      [{ username: "dora", email: "acme@example.com" }, "Email has already been used: acme@example.com"],
      [{ username: "dora", email: "nonsense" }, "Invalid email address: nonsense"],
      [{ username: "dora", email: "d@e.example\r\nBcc: eve@e.example" }, "Invalid email address: d@e.example"],
      [{ username: "dora", email: "d@e.example,eve@e.example" }, "Invalid email address: d@e.example,eve@e.example"],
      [{ username: "dora", email: "d@blocked.example" }, blocked],
      [{ username: "dora", email: "d@mail.BLOCKED.example" }, blocked],
      [{ username: "dora", email: "d@upper.example" }, blocked],
      [{ username: "D" }, "Invalid namespace D: Namespace must be between 2 and 255 characters in length"],
      [{ username: "Dora" }, "Invalid namespace Dora: Namespace must match expression"],
      [{ username: "dora+robot" }, "Invalid namespace dora+robot: Namespace must match expression"],
      [{ username: "dora\r\nX: y" }, "Invalid namespace"],
      [{ username: "~dora" }, "Invalid namespace ~dora"],
      [
        { username: "dora", password: "1234567" },
        "Invalid password, password must be at least 8 characters and contain no whitespace.",
      ],
      [
        { username: "dora", password: "with white space" },
        "Invalid password, password must be at least 8 characters and contain no whitespace.",
      ],
      [{ username: 7 }, "field 'username'"],
      [{}, "field 'username'"],
    ];
    for (const [body, text] of cases) {
      const answer = await signUp(api, body);
      expect([answer.status, envelopeOf(answer).type]).toEqual([400, "invalid_request"]);
      expect(envelopeOf(answer).detail).toStartWith(text);
      expect(answer.headers.get("set-cookie")).toBeNull();
    }
    expect(await accounts()).toEqual(before);
    // A domain that only ends like a blocked one is another.
    expect((await signUp(api, { username: "dora", email: "d@unblocked.example" })).status).toBe(200);
  });
  test("no field of it makes anybody more than a user", async () => {
    const answer = await signUp(api, {
      username: "mallory",
      id: 1,
      kind: "organization",
      superuser: true,
      super_user: true,
      verified: false,
      enabled: false,
      restricted: false,
      owner_id: 1,
      tag_expiration_s: 1,
      password_hash: "x",
      prompts: ["confirm_username"],
      __proto__: { superuser: true },
    });
    expect([answer.status, answer.body.super_user, answer.body.verified]).toEqual([200, false, true]);
    const [row] = await api.app.db.sql<Record<string, unknown>>`
      select kind, owner_id, tag_expiration_s, prompts from account where username = 'mallory'`;
    const found: Record<string, unknown> = { ...row, tag_expiration_s: Number(row?.tag_expiration_s) };
    expect(found).toEqual({
      kind: "user",
      owner_id: null,
      tag_expiration_s: 1_209_600,
      prompts: "[]",
    });
    expect((await clientOf(api, answer).get("/superuser/users/")).status).toBe(403);
  });
  test("two who ask for one name at once: one gets it", async () => {
    const answers = await Promise.all(
      [1, 2, 3].map((n) => signUp(api, { username: "race", email: `r${n}@example.com` })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400]);
  });
});

describe("with mail", () => {
  let api: Api;
  let smtp: SmtpServer;
  beforeAll(async () => {
    smtp = await startSmtp({ refuses: (address) => (address.startsWith("refused") ? "no such mailbox" : undefined) });
    api = await startApi({ ...smtp.config, FEATURE_USER_METADATA: true });
  }, 60_000);
  afterAll(async () => {
    await api.stop();
    await smtp.stop();
  });

  test("the account waits for its address, and opens by the link", async () => {
    const answer = await signUp(api, { username: "alice", email: "alice@example.com" });
    expect([answer.status, answer.body]).toEqual([200, { awaiting_verification: true }]);
    expect(answer.headers.get("set-cookie")).toBeNull();
    const mail = await smtp.next("alice@example.com");
    expect(mail.text).toContain(`http://registry.example.com/confirm?code=${codeIn(mail)}`);
    const refused = await signInAs(api, "alice", password);
    const message = "Please confirm your e-mail address first: open the link in the mail we sent.";
    expect([refused.status, refused.body]).toEqual([
      403,
      { needsEmailVerification: true, invalidCredentials: false, message },
    ]);
    const clients = await fetch(`${api.berth.url}/v2/auth`, { headers: basicOf("alice") });
    expect([clients.status, await clients.text()]).toEqual([401, expect.stringContaining("has not been confirmed")]);
    // A wrong password learns nothing of that.
    expect((await signInAs(api, "alice", "not-the-password")).body.needsEmailVerification).toBe(false);
    const browser = new Browser(api.berth.url);
    const page = await browser.open(`/confirm?code=${codeIn(mail)}`);
    expect(page.text).toContain("Is alice@example.com your address, and alice your account?");
    expect((await browser.submit(page, "/confirm")).text).toContain("You can sign in now");
    expect((await browser.submit(page, "/confirm")).status).toBe(404);
    await Bun.sleep(600);
    const signedIn = await signInAs(api, "alice", password);
    expect(signedIn.status).toBe(200);
    const { body } = await clientOf(api, signedIn).get("/user/");
    expect([body.verified, body.prompts]).toEqual([true, ["enter_name", "enter_company"]]);
  });
  test("an address is needed", async () => {
    const answer = await signUp(api, { username: "bob" });
    expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Email address is required"]);
  });
  test("a mail that did not arrive is sent again by signing in, once a minute", async () => {
    const failed = await signUp(api, { username: "carol", email: "refused@example.com" });
    expect([failed.status, failed.body]).toEqual([400, { message: expect.stringContaining("could not be sent") }]);
    await api.app.db.sql`update account set email = 'carol@example.com' where username = 'carol'`;
    await api.app.db.sql`update email_code set created_ms = created_ms - 60001`;
    for (let round = 0; round < 3; round++) expect((await signInAs(api, "carol", password)).status).toBe(403);
    const mail = await smtp.next("carol@example.com");
    expect(smtp.mails.filter(({ recipients }) => recipients.includes("carol@example.com"))).toHaveLength(1);
    const browser = new Browser(api.berth.url);
    const page = await browser.open(`/confirm?code=${codeIn(mail)}`);
    expect((await browser.submit(page, "/confirm")).status).toBe(200);
    expect((await signInAs(api, "carol", password)).status).toBe(200);
  });
  test("another address holds when it is confirmed, and the old one hears of it", async () => {
    await api.user("dora");
    await api.app.db.sql`update account set email = 'dora@example.com' where username = 'dora'`;
    const dora = await api.as("dora");
    const answer = await dora.put("/user/", { email: "dora2@example.com" });
    expect([answer.status, answer.body.email]).toEqual([200, "dora@example.com"]);
    const mail = await smtp.next("dora2@example.com");
    const browser = new Browser(api.berth.url);
    const page = await browser.open(`/confirm?code=${codeIn(mail)}`);
    expect((await browser.submit(page, "/confirm")).status).toBe(200);
    expect((await dora.get("/user/")).body.email).toBe("dora2@example.com");
    expect((await smtp.next("dora@example.com")).text).toContain("dora2@example.com");
    expect(await entriesOf(api, "user_change_email")).toEqual([
      { username: "dora", email: "dora2@example.com", old_email: "dora@example.com" },
    ]);
  });
  test("an address that was taken meanwhile is not given twice", async () => {
    for (const name of ["erin", "frank"]) await api.user(name);
    const codes: string[] = [];
    for (const name of ["erin", "frank"]) {
      expect((await (await api.as(name)).put("/user/", { email: "wanted@example.com" })).status).toBe(200);
      codes.push(codeIn(await smtp.next("wanted@example.com")));
    }
    const statuses: number[] = [];
    for (const code of codes) {
      const browser = new Browser(api.berth.url);
      statuses.push((await browser.submit(await browser.open(`/confirm?code=${code}`), "/confirm")).status);
    }
    expect(statuses).toEqual([200, 400]);
    expect((await (await api.as("frank")).get("/user/")).body.email).toBeNull();
  });
  test("a change of the password is told to the user", async () => {
    await api.user("gina");
    await api.app.db.sql`update account set email = 'gina@example.com' where username = 'gina'`;
    expect((await (await api.as("gina")).put("/user/", { password: "another-password" })).status).toBe(200);
    expect((await smtp.next("gina@example.com")).subject).toContain("was changed");
  });
  test("names and addresses put no header and no line into a mail", async () => {
    for (const mail of smtp.mails) {
      expect(mail.recipients).toHaveLength(1);
      expect(mail.parsed.headers.has("bcc")).toBe(false);
      expect(mail.parsed.headers.has("x")).toBe(false);
    }
    expect(smtp.mails.length).toBeGreaterThan(5);
  });
});

describe("by invitation only", () => {
  test("an invited address makes an account, which is confirmed by the invitation", async () => {
    const smtp = await startSmtp();
    const api = await startApi({ ...smtp.config, FEATURE_INVITE_ONLY_USER_CREATION: true });
    const admin = await api.as("admin");
    await admin.post("/organization/", { name: "acme", email: "acme@example.com" });
    const invited = await admin.put("/organization/acme/team/owners/invite/new@example.com");
    expect(invited.status).toBe(200);
    const invite_code = codeIn(await smtp.next("new@example.com"));
    for (const wrong of [undefined, "", "nonsense"]) {
      const answer = await signUp(api, { username: "newcomer", email: "new@example.com", invite_code: wrong });
      expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Cannot create non-invited user"]);
    }
    const other = await signUp(api, { username: "other", email: "other@example.com", invite_code });
    expect(other.body).toEqual({ awaiting_verification: true });
    const answer = await signUp(api, { username: "newcomer", email: "new@example.com", invite_code });
    expect([answer.status, answer.body.username, answer.body.verified]).toEqual([200, "newcomer", true]);
    await api.stop();
    await smtp.stop();
  });
});

describe("not there", () => {
  test.each([
    ["FEATURE_USER_CREATION off", { FEATURE_USER_CREATION: false }],
    [
      "FEATURE_DIRECT_LOGIN off",
      {
        FEATURE_DIRECT_LOGIN: false,
        FEATURE_GITHUB_LOGIN: true,
        GITHUB_LOGIN_CONFIG: { CLIENT_ID: "id", CLIENT_SECRET: "s", GITHUB_ENDPOINT: "https://git.example.com/" },
      },
    ],
  ])("with %s", async (_, config) => {
    const api = await startApi(config);
    expect((await signUp(api, { username: "alice" })).status).toBe(404);
    await api.stop();
  });
  test("and refused while the registry is read-only", async () => {
    const api = await startApi({ REGISTRY_STATE: "readonly" });
    const answer = await signUp(api, { username: "alice" });
    expect([answer.status, answer.body.is_readonly]).toEqual([503, true]);
    await api.stop();
  });
});

describe("behind a captcha", () => {
  test("only who solves it comes through, and only the service sees the secret", async () => {
    const asked: Record<string, string>[] = [];
    let isBroken = false;
    const service = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch(request) {
        const form = Object.fromEntries((await request.formData()) as unknown as Iterable<[string, string]>);
        asked.push(form);
        if (isBroken) return new Response("no", { status: 500 });
        return Response.json({ success: form.response === "solved" });
      },
    });
    const api = await startApi({
      FEATURE_RECAPTCHA: true,
      RECAPTCHA_SITE_KEY: "site-key",
      RECAPTCHA_SECRET_KEY: "captcha-secret",
      RECAPTCHA_WHITELISTED_USERS: ["admin"],
      RECAPTCHA_VERIFY_URL: `http://127.0.0.1:${service.port}/verify`,
    });
    const bot = { message: "Are you a bot? If not, please revalidate the captcha." };
    for (const recaptcha_response of [undefined, "", "wrong"]) {
      const answer = await signUp(api, { username: "alice", recaptcha_response });
      expect([answer.status, answer.body]).toEqual([400, bot]);
    }
    expect((await signUp(api, { username: "alice", recaptcha_response: "solved" })).status).toBe(200);
    expect(asked).toEqual([
      { secret: "captcha-secret", response: "wrong", remoteip: "127.0.0.1" },
      { secret: "captcha-secret", response: "solved", remoteip: "127.0.0.1" },
    ]);
    isBroken = true;
    const broken = await signUp(api, { username: "bob", recaptcha_response: "solved" });
    expect([broken.status, envelopeOf(broken).type]).toEqual([520, "downstream_issue"]);
    const admin = await api.as("admin");
    expect((await new ApiClient(admin.url, admin.headers).post("/user/", { username: "bob", password })).status).toBe(
      200,
    );
    expect(api.berth.logs()).not.toContain("captcha-secret");
    await api.stop();
    await service.stop(true);
  });
});
