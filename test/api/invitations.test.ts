/** Invitations to teams: who is asked, by notice and by mail, what the code is good for, and for whom. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type ReceivedMail, type SmtpServer, startSmtp } from "../support/smtp.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { entriesOf } from "./sign-in.ts";

let smtp: SmtpServer;
let api: Api;
let alice: ApiClient;
let bob: ApiClient;
let carol: ApiClient;
const team = "/organization/acme/team/devs";

beforeAll(async () => {
  smtp = await startSmtp({ refuses: (address) => (address.startsWith("refused") ? "no such mailbox" : undefined) });
  api = await startApi(smtp.config);
  for (const name of ["alice", "bob", "carol"]) {
    await api.user(name);
    await api.app.db.tx(async (tx) => {
      await tx.sql`update account set email = ${`${name}@example.com`} where username = ${name}`;
    });
  }
  [alice, bob, carol] = [await api.as("alice"), await api.as("bob"), await api.as("carol")];
  expect((await alice.post("/organization/", { name: "acme", email: "acme@example.com" })).status).toBe(201);
  expect((await alice.put(team, { role: "member" })).status).toBe(200);
}, 60_000);
afterAll(async () => {
  await api.stop();
  await smtp.stop();
});

function codeIn(mail: ReceivedMail): string {
  const code = /confirminvite\?code=([A-Za-z0-9%_-]+)/.exec(mail.text)?.[1];
  if (!code) throw new Error(`no code in ${mail.text}`);
  return decodeURIComponent(code);
}

async function names(query = ""): Promise<string[]> {
  const { members } = (await alice.get(`${team}/members${query}`)).body;
  return members.map((member: { name?: string; email?: string; invited: boolean }) =>
    [member.name ?? member.email, ...(member.invited ? ["invited"] : [])].join(" "),
  );
}

async function noticesOf(username: string): Promise<Record<string, unknown>[]> {
  const rows = await api.app.db.sql<{ metadata: string }>`
    select n.metadata from user_notification n join account a on a.id = n.account_id
    where a.username = ${username} and n.kind = 'org_team_invite'`;
  return rows.map((row) => JSON.parse(row.metadata));
}

test("an organization needs an e-mail address where mail is sent", async () => {
  const answer = await alice.post("/organization/", { name: "mailless" });
  expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Email address is required"]);
});

describe("a user who is not in the organization", () => {
  test("is asked, and is in when it says yes", async () => {
    const answer = await alice.put(`${team}/members/bob`);
    expect([answer.status, answer.body.name, answer.body.invited]).toEqual([200, "bob", true]);
    expect(await names()).toEqual([]);
    expect(await names("?includePending=true")).toEqual(["bob invited"]);
    expect((await bob.get("/organization/acme")).body.is_member).toBe(false);
    const code = codeIn(await smtp.next("bob@example.com"));
    const [notice] = await noticesOf("bob");
    expect(notice).toEqual({ code, inviter: "alice", org: "acme", team: "devs" });

    const stolen = await carol.put(`/teaminvite/${code}`);
    expect([stolen.status, envelopeOf(stolen).detail]).toEqual([
      400,
      "This invitation is for another user. Please log in as that user and try again.",
    ]);
    expect((await carol.delete(`/teaminvite/${code}`)).status).toBe(400);
    const accepted = await bob.put(`/teaminvite/${code}`);
    expect([accepted.status, accepted.body]).toEqual([200, { org: "acme", team: "devs" }]);
    expect(await names("?includePending=true")).toEqual(["bob"]);
    expect(await noticesOf("bob")).toEqual([]);
    expect((await bob.put(`/teaminvite/${code}`)).status).toBe(404);
    expect(await entriesOf(api, "org_invite_team_member")).toContainEqual({ user: "bob", member: "bob", team: "devs" });
    const entry = { member: "bob", team: "devs", inviter: "alice" };
    expect(await entriesOf(api, "org_team_member_invite_accepted")).toEqual([entry]);
  });
  test("who is in another team already is not asked again", async () => {
    await alice.put("/organization/acme/team/ops", { role: "member" });
    expect((await alice.put("/organization/acme/team/ops/members/bob")).body.invited).toBe(false);
  });
  test("may say no", async () => {
    await alice.put(`${team}/members/carol`);
    const code = codeIn(await smtp.next("carol@example.com"));
    expect((await carol.delete(`/teaminvite/${code}`)).status).toBe(204);
    expect(await names("?includePending=true")).toEqual(["bob"]);
    expect((await carol.put(`/teaminvite/${code}`)).status).toBe(404);
    const entry = { member: "carol", team: "devs", inviter: "alice" };
    expect(await entriesOf(api, "org_team_member_invite_declined")).toEqual([entry]);
  });
  test("is asked anew with another code, and the old one is worth nothing", async () => {
    await alice.put(`${team}/members/carol`);
    const old = codeIn(await smtp.next("carol@example.com"));
    await alice.put(`${team}/members/carol`);
    const code = codeIn(await smtp.next("carol@example.com"));
    expect(await noticesOf("carol")).toHaveLength(1);
    expect((await carol.put(`/teaminvite/${old}`)).status).toBe(404);
    const removed = await alice.delete(`${team}/members/carol`);
    expect(removed.status).toBe(204);
    expect((await carol.put(`/teaminvite/${code}`)).status).toBe(404);
    expect(await noticesOf("carol")).toEqual([]);
    const entry = { user: "carol", member: "carol", team: "devs" };
    expect(await entriesOf(api, "org_delete_team_member_invite")).toContainEqual(entry);
  });
  test("loses the invitation with the team", async () => {
    await alice.put("/organization/acme/team/short-lived", { role: "member" });
    await alice.put("/organization/acme/team/short-lived/members/carol");
    const code = codeIn(await smtp.next("carol@example.com"));
    expect((await alice.delete("/organization/acme/team/short-lived")).status).toBe(204);
    expect((await carol.put(`/teaminvite/${code}`)).status).toBe(404);
    expect(await noticesOf("carol")).toEqual([]);
  });
  test("is in once, however often the code comes at once", async () => {
    await alice.put("/organization/acme/team/race", { role: "member" });
    await alice.put("/organization/acme/team/race/members/carol");
    const code = codeIn(await smtp.next("carol@example.com"));
    const answers = await Promise.all(Array.from({ length: 6 }, () => carol.put(`/teaminvite/${code}`)));
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, 404, 404, 404, 404, 404]);
    await alice.delete("/organization/acme/members/carol");
  });
});

describe("an address", () => {
  const invite = (email: string) => `${team}/invite/${encodeURIComponent(email)}`;
  test("is invited whoever reads it, and only by a real code", async () => {
    const answer = await alice.put(invite("dave@example.com"));
    expect(answer.body).toMatchObject({ email: "dave@example.com", kind: "invite", invited: true });
    expect(await names("?includePending=true")).toEqual(["bob", "dave@example.com invited"]);
    const code = codeIn(await smtp.next("dave@example.com"));
    for (const wrong of ["x", code.toLowerCase(), `${code}%00`, "%27%20or%201=1"]) {
      expect((await carol.put(`/teaminvite/${wrong}`)).status).toBe(404);
    }
    expect((await carol.put(`/teaminvite/${code}`)).status).toBe(200);
    expect(await names("?includePending=true")).toEqual(["bob", "carol"]);
    await alice.delete("/organization/acme/members/carol");
    const entry = { email: "dave@example.com", member: "dave@example.com", team: "devs" };
    expect(await entriesOf(api, "org_invite_team_member")).toContainEqual(entry);
  });
  test("that an account has is answered like any other", async () => {
    const known = await alice.put(invite("carol@example.com"));
    expect(Object.keys(known.body).sort()).toEqual(["avatar", "email", "invited", "kind"]);
    await smtp.next("carol@example.com");
    expect((await alice.delete(invite("carol@example.com"))).status).toBe(204);
    expect((await alice.delete(invite("carol@example.com"))).status).toBe(404);
  });
  test.each([
    "nobody",
    "a@b",
    "x@y.zz\r\nBcc: evil@example.com",
    "x@y.zz, evil@example.com",
    '"x" <x@y.zz>',
    "@example.com",
  ])("refuses %p", async (email) => {
    const before = smtp.mails.length;
    expect((await alice.put(invite(email))).status).toBe(400);
    expect(smtp.mails.length).toBe(before);
    expect((await alice.delete(invite(email))).status).not.toBe(500);
    expect((await names("?includePending=true")).filter((name) => name.startsWith(email))).toEqual([]);
  });
  test("that the server does not take is told, and can be tried again", async () => {
    const answer = await alice.put(invite("refused@example.com"));
    expect([answer.status, typeof answer.body.message]).toEqual([400, "string"]);
    expect((await alice.delete(invite("refused@example.com"))).status).toBe(204);
  });
  test("names of people and organizations stand in the mail as text", async () => {
    await alice.put("/organization/acme/team/marked", { role: "member", description: "<script>" });
    await alice.put(`/organization/acme/team/marked/invite/${encodeURIComponent("eve@example.com")}`);
    const mail = await smtp.next("eve@example.com");
    expect(mail.subject).toBe('alice invites you to the team "marked" of "acme"');
    expect(mail.html).not.toContain("<script>");
  });
});

test("the code is not in the database", async () => {
  await alice.put(`${team}/invite/${encodeURIComponent("frank@example.com")}`);
  const code = codeIn(await smtp.next("frank@example.com"));
  const rows = await api.app.db.sql`select * from team_invite`;
  expect(JSON.stringify(rows)).not.toContain(code);
});
