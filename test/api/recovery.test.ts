/** Forgotten passwords, over a real mail server: what the answer tells, what the link opens, and what it never does. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { eventually, password } from "../registry/harness.ts";
import { codeIn, type SmtpServer, startSmtp } from "../support/smtp.ts";
import { type Api, ApiClient, envelopeOf, startApi } from "./harness.ts";
import { Browser } from "./pages.ts";
import { entriesOf, signInAs } from "./sign-in.ts";

setDefaultTimeout(30_000);
let api: Api;
let smtp: SmtpServer;
beforeAll(async () => {
  smtp = await startSmtp();
  api = await startApi({ ...smtp.config, LOGGING_LEVEL: "DEBUG" });
}, 60_000);
afterAll(async () => {
  await api.stop();
  await smtp.stop();
});

async function userWithMail(name: string): Promise<string> {
  await api.user(name);
  const email = `${name}@example.com`;
  await api.app.db.sql`update account set email = ${email} where username = ${name}`;
  return email;
}

const recover = async (email: string) => (await api.nobody()).post("/recovery", { email });

/** Asks for a mail and gives the code in it. */
async function codeFor(email: string): Promise<string> {
  expect((await recover(email)).body).toEqual({ status: "sent" });
  return codeIn(await smtp.next(email));
}

describe("POST /recovery", () => {
  test("sends a link to a known address, and answers an unknown one alike", async () => {
    const email = await userWithMail("alice");
    const answers = [await recover(email), await recover("nobody@example.com"), await recover("no address at all")];
    for (const answer of answers) expect([answer.status, answer.text]).toEqual([200, '{"status":"sent"}']);
    const mail = await smtp.next(email);
    expect(mail.text).toContain(`http://registry.example.com/recovery?code=${codeIn(mail)}`);
    expect(smtp.mails.flatMap(({ recipients }) => recipients)).not.toContain("nobody@example.com");
  });
  test("answers for a known address before it writes or sends anything, so that the time it takes tells nothing", async () => {
    const email = await userWithMail("bob");
    const visitor = await api.nobody();
    const { db } = api.app;
    // A code belongs to the account: none can be written as long as somebody else has that row, or SQLite's file.
    await db.tx(async (tx) => {
      await tx.sql`update account set email = ${email} where username = 'bob'`;
      expect((await visitor.post("/recovery", { email })).body).toEqual({ status: "sent" });
    });
    expect(codeIn(await smtp.next(email))).not.toBe("");
  });
  test("sends one mail a minute to an account", async () => {
    const email = await userWithMail("carol");
    for (let round = 0; round < 5; round++) await recover(email);
    await smtp.next(email);
    await Bun.sleep(300);
    expect(smtp.mails.filter(({ recipients }) => recipients.includes(email))).toHaveLength(1);
  });
  test("tells of an organization behind a mask, and mails who can help", async () => {
    await userWithMail("dora");
    const dora = await api.as("dora");
    expect((await dora.post("/organization/", { name: "acme-works", email: "office@acme.example" })).status).toBe(201);
    const { body } = await recover("office@acme.example");
    expect(body).toEqual({ status: "org", orgemail: "offic•••••••••ample", orgname: "ac••••••ks" });
    expect((await smtp.next("office@acme.example")).text).toContain("Its administrators are: dora.");
  });
  test("sends nothing to a disabled user", async () => {
    const email = await userWithMail("disabled");
    await api.enabled("disabled", false);
    expect((await recover(email)).body).toEqual({ status: "sent" });
    await Bun.sleep(300);
    expect(smtp.mails.flatMap(({ recipients }) => recipients)).not.toContain(email);
  });
  test("takes no address with a header in it", async () => {
    const before = smtp.mails.length;
    for (const email of ["alice@example.com\r\nBcc: eve@example.com", "alice@example.com,eve@example.com", "\u0001"]) {
      expect((await recover(email)).body).toEqual({ status: "sent" });
    }
    await Bun.sleep(200);
    expect(smtp.mails).toHaveLength(before);
  });
  test("is not there without mail", async () => {
    const silent = await startApi();
    const answer = await (await silent.nobody()).post("/recovery", { email: "alice@example.com" });
    expect([answer.status, envelopeOf(answer).type]).toEqual([404, "not_found"]);
    await silent.stop();
  });
});

describe("the link", () => {
  test("opens a form, which changes the password once and begins a session", async () => {
    const email = await userWithMail("erin");
    const elsewhere = await api.as("erin");
    const code = await codeFor(email);
    const browser = new Browser(api.berth.url);
    // A scanner that opens the link uses nothing up.
    for (let round = 0; round < 3; round++) {
      const seen = await new Browser(api.berth.url).open(`/recovery?code=${code}`);
      expect([seen.status, seen.text]).toEqual([200, expect.stringContaining("For the account erin")]);
    }
    const form = await browser.open(`/recovery?code=${code}`);
    const before = browser.cookie;
    const short = await browser.submit(form, "/recovery", { password: "short" });
    expect([short.status, short.text]).toEqual([400, expect.stringContaining("at least 8 characters")]);
    const done = await browser.submit(short, "/recovery", { password: "a-better-password" });
    expect([done.status, done.text]).toEqual([200, expect.stringContaining('"erin" has a new password')]);
    expect(browser.cookie).not.toBe(before);
    const erin = new ApiClient(api.berth.url, { Cookie: browser.cookie });
    expect((await erin.get("/user/")).body.username).toBe("erin");
    expect((await elsewhere.get("/user/")).status).toBe(401);
    expect((await signInAs(api, "erin", password)).status).toBe(403);
    await Bun.sleep(600);
    expect((await signInAs(api, "erin", "a-better-password")).status).toBe(200);
    expect((await smtp.next(email)).subject).toContain("was changed");
    expect(await entriesOf(api, "account_change_password")).toEqual([{}]);
    const again = await browser.submit(form, "/recovery", { password: "a-third-password" });
    expect([again.status, again.text]).toEqual([403, expect.stringContaining("open the link again")]);
    const later = await new Browser(api.berth.url).open(`/recovery?code=${code}`);
    expect([later.status, later.text]).toEqual([404, expect.stringContaining("not good any more")]);
  });
  test("is used by one of two who bring it at once", async () => {
    const code = await codeFor(await userWithMail("frank"));
    const done = await Promise.all(
      [1, 2, 3, 4].map(async (number) => {
        const browser = new Browser(api.berth.url);
        const form = await browser.open(`/recovery?code=${code}`);
        return browser.submit(form, "/recovery", { password: `password-number-${number}` });
      }),
    );
    expect(done.map(({ status }) => status).sort()).toEqual([200, 404, 404, 404]);
  });
  test("ends with its time, with a new password and with the account's address", async () => {
    const late = await codeFor(await userWithMail("gina"));
    const changed = await codeFor(await userWithMail("hugo"));
    const moved = await codeFor(await userWithMail("ivan"));
    await api.app.db.sql`update email_code set expires_ms = ${Date.now() - 1}
      where account_id = ${await api.accountId("gina")}`;
    await (await api.as("hugo")).put("/user/", { password: "changed-by-hand" });
    await (await api.as("ivan")).put("/user/", { email: "ivan2@example.com" });
    const confirming = new Browser(api.berth.url);
    const page = await confirming.open(`/confirm?code=${codeIn(await smtp.next("ivan2@example.com"))}`);
    expect((await confirming.submit(page, "/confirm")).status).toBe(200);
    for (const code of [late, changed, moved]) {
      expect((await new Browser(api.berth.url).open(`/recovery?code=${code}`)).status).toBe(404);
    }
  });
  test.each([
    ["nothing", ""],
    ["an empty code", "?code="],
    ["another code", "?code=nonsense"],
    ["a long one", `?code=${"A".repeat(5000)}`],
    ["a NUL", "?code=%00"],
    ["a quote", "?code=%27--"],
  ])("is nothing with %s", async (_, query) => {
    for (const path of ["/recovery", "/confirm", "/confirminvite"]) {
      expect((await new Browser(api.berth.url).open(path + query)).status).toBe(404);
    }
  });
  test("leaves no code in logs, caches, frames and referrers", async () => {
    const code = await codeFor(await userWithMail("judy"));
    const browser = new Browser(api.berth.url);
    const page = await browser.open(`/recovery?code=${code}`);
    const headers = Object.fromEntries(page.headers);
    expect(headers).toMatchObject({
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
      "x-frame-options": "DENY",
      "x-content-type-options": "nosniff",
      "content-security-policy": expect.stringContaining("default-src 'none'"),
    });
    await browser.submit(page, "/recovery", { password: "a-better-password" });
    await eventually(async () => api.berth.logs().includes('"path":"/recovery"'));
    expect(api.berth.logs()).not.toContain(code);
    expect(api.berth.logs()).not.toContain("a-better-password");
    const [row] = await api.app.db.sql`select count(*) as codes from email_code where code_hash = ${code}`;
    expect(Number(row?.codes)).toBe(0);
  });
  test("wants the form of its own cookie", async () => {
    const code = await codeFor(await userWithMail("kim"));
    const browser = new Browser(api.berth.url);
    await browser.open(`/recovery?code=${code}`);
    const other = new Browser(api.berth.url);
    const foreign = await other.open(`/recovery?code=${code}`);
    const password = "a-better-password";
    expect((await browser.post("/recovery", { code, password })).status).toBe(403);
    expect((await browser.submit(foreign, "/recovery", { password })).status).toBe(403);
    expect((await signInAs(api, "kim", password)).status).toBe(403);
  });
});

describe("the sign-in page", () => {
  test("signs in, and goes on to consent and invitations alone", async () => {
    await userWithMail("laura");
    const targets: [string, string][] = [
      ["/oauth/authorize?client_id=x", "/oauth/authorize?client_id=x"],
      ["/confirminvite?code=ABC", "/confirminvite?code=ABC"],
      ["https://evil.example/", "/"],
      ["//evil.example/", "/"],
      ["/\\evil.example/", "/"],
      ["/oauth/authorize\\@evil.example/", "/"],
      ["/confirminvite?code=A\r\nSet-Cookie: a=b", "/"],
      ["/oauth/authorize", "/"],
      ["javascript:alert(1)", "/"],
    ];
    for (const [asked, expected] of targets) {
      const browser = new Browser(api.berth.url);
      const page = await browser.open(`/signin?redirect_url=${encodeURIComponent(asked)}`);
      const before = browser.cookie;
      const done = await browser.submit(page, "/signin", { username: "laura", password, redirect_url: asked });
      expect([done.status, done.headers.get("location")]).toEqual([303, expected]);
      expect(browser.cookie).not.toBe(before);
    }
  });
  test("says what is wrong, and shows what was typed as text", async () => {
    const browser = new Browser(api.berth.url);
    const username = `"><script>alert(1)</script>`;
    const page = await browser.submit(await browser.open("/signin"), "/signin", { username, password: "x" });
    expect([page.status, page.text]).toEqual([403, expect.stringContaining("Invalid Username or Password")]);
    expect(page.html).not.toContain("<script>");
  });
});

test("asking for the head of a page gives no body", async () => {
  const response = await fetch(`${api.berth.url}/signin`, { method: "HEAD" });
  expect([response.status, await response.text()]).toEqual([200, ""]);
  expect((await fetch(`${api.berth.url}/signin`, { method: "PUT" })).status).toBe(404);
});

describe("an invitation's link", () => {
  test("leads through sign-in to a question, and into the team", async () => {
    await userWithMail("mona");
    const email = await userWithMail("nora");
    const mona = await api.as("mona");
    await mona.post("/organization/", { name: "monas", email: "monas@example.com" });
    const invited = await mona.put("/organization/monas/team/owners/members/nora");
    expect([invited.status, invited.body.invited]).toEqual([200, true]);
    const link = `/confirminvite?code=${codeIn(await smtp.next(email))}`;
    const browser = new Browser(api.berth.url);
    const away = await browser.open(link);
    expect(away.status).toBe(303);
    const form = await browser.open(away.headers.get("location") ?? "");
    const back = await browser.submit(form, "/signin", { username: "nora", password });
    expect(back.headers.get("location")).toBe(link);
    const question = await browser.open(link);
    expect(question.text).toContain("mona invites you, nora , to the team owners of the organization monas");
    expect((await browser.submit(question, "/confirminvite", { answer: "accept" })).status).toBe(200);
    const nora = new ApiClient(api.berth.url, { Cookie: browser.cookie });
    expect((await nora.get("/user/")).body.organizations).toHaveLength(1);
  });
});

test("the well-known address for changing a password leads to the settings", async () => {
  const page = await new Browser(api.berth.url).open("/.well-known/change-password");
  expect([page.status, page.headers.get("location")]).toEqual([302, "/user/?tab=settings"]);
});
