/** Organizations over HTTP: their life, who sees what of them, who must stay in them, and what their end ends. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { findAccount } from "../../src/domain/user/account.ts";
import type { RepositoryPath } from "../../src/oci/names.ts";
import { basicOf, eventually, password } from "../registry/harness.ts";
import { image, publish } from "../support/content.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { entriesOf } from "./sign-in.ts";

let api: Api;
let alice: ApiClient;
let bob: ApiClient;
let carol: ApiClient;

beforeAll(async () => {
  api = await startApi({ FEATURE_QUOTA_MANAGEMENT: true, TAG_EXPIRATION_OPTIONS: ["0s", "1d", "2w"] });
  for (const name of ["alice", "bob", "carol"]) await api.user(name);
  [alice, bob, carol] = [await api.as("alice"), await api.as("bob"), await api.as("carol")];
}, 60_000);
afterAll(() => api.stop());

let count = 0;
/** An organization of alice's. */
async function makeOrganization(prefix = "org"): Promise<string> {
  const name = `${prefix}-${++count}`;
  const answer = await alice.post("/organization/", { name, email: `${name}@example.com` });
  expect([answer.status, answer.body]).toEqual([201, "Created"]);
  return name;
}

async function refusal(sent: Promise<Awaited<ReturnType<ApiClient["get"]>>>): Promise<[number, string]> {
  const answer = await sent;
  return [answer.status, envelopeOf(answer).detail];
}

/** Status of a log-in at the token service. */
async function logIn(name: string, secret: string): Promise<number> {
  return (await fetch(`${api.berth.url}/v2/auth`, { headers: basicOf(name, secret) })).status;
}

describe("making one", () => {
  test("gives a team of owners with whoever made it", async () => {
    const name = await makeOrganization();
    const { body } = await alice.get(`/organization/${name}`);
    expect(body).toMatchObject({
      name,
      email: `${name}@example.com`,
      is_admin: true,
      is_member: true,
      ordered_teams: ["owners"],
      teams: { owners: { name: "owners", role: "admin", member_count: 1, repo_count: 0, can_view: true } },
      invoice_email: false,
      invoice_email_address: null,
      tag_expiration_s: 14 * 24 * 3600,
      quotas: [],
      quota_report: { quota_bytes: 0, configured_quota: null, backfill_status: "waiting" },
    });
    const members = await alice.get(`/organization/${name}/team/owners/members`);
    expect(members.body.members.map((member: { name: string }) => member.name)).toEqual(["alice"]);
    expect(await entriesOf(api, "org_create")).toContainEqual({ email: `${name}@example.com`, namespace: name });
  });

  const taken = "A user or organization with this name already exists";
  test.each([
    ["a name that a user has", { name: "bob", email: "new1@example.com" }, taken],
    ["a name that cannot be", { name: "No_Good!" }, /^Invalid namespace No_Good!: Namespace must match expression/],
    ["a short name", { name: "x" }, "Invalid namespace x: Namespace must be between 2 and 255 characters in length"],
    ["a long name", { name: "x".repeat(256) }, /must be between 2 and 255 characters in length$/],
    ["a robot's name", { name: "alice+bot" }, /^Invalid namespace alice\+bot/],
    ["a name with a header in it", { name: "org\r\nX-Evil: 1" }, /^Invalid namespace/],
    ["no e-mail address", { name: "mailless", email: "nobody" }, "Invalid email address: nobody"],
    ["an address with a header in it", { name: "mailless", email: "a@b.co\r\nBcc: x@y.zz" }, /^Invalid email address/],
    ["a NUL", { name: "nul\u0000nul" }, /NUL/],
    ["no name", { email: "new2@example.com" }, /name/],
    ["a list for a name", { name: ["a"] }, /name/],
  ] as const)("refuses %s", async (_, body, text) => {
    const [status, detail] = await refusal(alice.post("/organization/", body));
    expect(status).toBe(400);
    if (typeof text === "string") expect(detail).toBe(text);
    else expect(detail).toMatch(text);
  });
  test("refuses a name and an address that an organization has", async () => {
    const name = await makeOrganization();
    expect(await refusal(bob.post("/organization/", { name }))).toEqual([400, taken]);
    const again = { name: "another-one", email: `${name}@example.com` };
    expect(await refusal(bob.post("/organization/", again))).toEqual([
      400,
      `Email has already been used: ${name}@example.com`,
    ]);
    expect(await findAccount(api.app.db, "another-one")).toBeUndefined();
  });
  test("takes no field that is not asked for", async () => {
    const body = { name: "mass-1", email: "mass-1@example.com", id: 1, enabled: false, kind: "user", verified: true };
    expect((await alice.post("/organization/", { ...body, deleted_ms: 1, tag_expiration_s: 1 })).status).toBe(201);
    const made = await findAccount(api.app.db, "mass-1");
    expect([made?.kind, made?.enabled]).toEqual(["organization", true]);
    expect((await alice.get("/organization/mass-1")).body.tag_expiration_s).toBe(14 * 24 * 3600);
  });
  test("ten at once with one name make one", async () => {
    const clients = await Promise.all(Array.from({ length: 10 }, (_, i) => api.as(i % 2 === 0 ? "alice" : "bob")));
    const answers = await Promise.all(clients.map((client) => client.post("/organization/", { name: "contested" })));
    expect(answers.map((answer) => answer.status).sort()).toEqual([201, ...Array(9).fill(400)]);
  });
});

describe("what is seen of one", () => {
  test("a stranger sees its name, a member its teams, an admin its settings", async () => {
    const name = await makeOrganization();
    await alice.put(`/organization/${name}/team/devs`, { role: "member" });
    await alice.put(`/organization/${name}/team/devs/members/bob`);
    const stranger = (await carol.get(`/organization/${name}`)).body;
    expect(Object.keys(stranger).sort()).toEqual(["avatar", "email", "is_admin", "is_member", "name"]);
    expect(stranger).toMatchObject({ email: "", is_admin: false, is_member: false });
    expect((await (await api.nobody()).get(`/organization/${name}`)).body).toEqual(stranger);
    const member = (await bob.get(`/organization/${name}`)).body;
    expect(member).toMatchObject({
      email: "",
      is_admin: false,
      is_member: true,
      ordered_teams: ["devs", "owners"],
      teams: { devs: { can_view: true, member_count: 1 }, owners: { can_view: false } },
    });
    expect(member.tag_expiration_s).toBeUndefined();
    expect(member.quotas).toBeUndefined();
  });
  test("users and what is not there are 404", async () => {
    for (const name of ["alice", "nosuch", "alice+bot", "%00", "..%2f..", "a%27or%271%27=%271"]) {
      expect([name, (await alice.get(`/organization/${name}`)).status]).toEqual([name, 404]);
    }
  });
});

describe("changing one", () => {
  test("keeps what is sent and logs it", async () => {
    const name = await makeOrganization();
    const answer = await alice.put(`/organization/${name}`, {
      email: `${name}-new@example.com`,
      invoice_email: true,
      invoice_email_address: "bills@example.com",
      tag_expiration_s: 86_400,
      name: "renamed",
      is_admin: false,
    });
    expect([answer.status, answer.body.name, answer.body.email]).toEqual([200, name, `${name}-new@example.com`]);
    expect(answer.body).toMatchObject({
      invoice_email: true,
      invoice_email_address: "bills@example.com",
      tag_expiration_s: 86_400,
    });
    const emails = await entriesOf(api, "org_change_email");
    expect(emails).toContainEqual({ email: `${name}-new@example.com`, old_email: `${name}@example.com` });
    expect(await entriesOf(api, "org_change_tag_expiration")).toContainEqual({ tag_expiration: 86_400 });
    const cleared = await alice.put(`/organization/${name}`, { invoice_email_address: null });
    expect([cleared.body.invoice_email_address, cleared.body.invoice_email]).toEqual([null, true]);
  });
  test("refuses what is not an option or somebody else's", async () => {
    const name = await makeOrganization();
    const other = await makeOrganization();
    const put = (body: unknown) => refusal(alice.put(`/organization/${name}`, body));
    expect(await put({ tag_expiration_s: 12_345 })).toEqual([400, "Invalid tag expiration option"]);
    expect((await put({ tag_expiration_s: -1 }))[0]).toBe(400);
    expect((await put({ tag_expiration_s: 1e300 }))[0]).toBe(400);
    expect(await put({ email: `${other}@example.com` })).toEqual([400, "E-mail address already used"]);
    expect((await put({ email: "" }))[0]).toBe(400);
    expect((await put({ invoice_email_address: "x\r\ny@z.zz" }))[0]).toBe(400);
    expect((await alice.get(`/organization/${name}`)).body.email).toBe(`${name}@example.com`);
  });
});

describe("its people", () => {
  test("members are in teams, collaborators have roles alone, robots are neither", async () => {
    const name = await makeOrganization();
    await alice.put(`/organization/${name}/team/devs`, { role: "member" });
    await alice.put(`/organization/${name}/team/devs/members/bob`);
    await alice.put(`/organization/${name}/robots/ci`);
    await alice.put(`/organization/${name}/team/devs/members/${name}+ci`);
    await publish(api.client("alice", password), `${name}/app`, image("members"), "v1");
    await api.grant("carol", `${name}/app`, "read");
    await api.grant("bob", `${name}/app`, "write");
    const members = (await alice.get(`/organization/${name}/members`)).body.members;
    expect(members.map((m: { name: string }) => m.name)).toEqual(["alice", "bob"]);
    expect(members[1]).toMatchObject({ kind: "user", teams: [{ name: "devs" }], repositories: ["app"] });
    const { collaborators } = (await alice.get(`/organization/${name}/collaborators`)).body;
    expect(collaborators).toMatchObject([{ name: "carol", kind: "user", repositories: ["app"] }]);
    const one = async (member: string) => (await alice.get(`/organization/${name}/members/${member}`)).body;
    expect(await one("carol")).toMatchObject({ name: "carol", teams: [], repositories: ["app"] });
    expect(await one(`${name}+ci`)).toMatchObject({ kind: "robot", teams: [{ name: "devs" }] });
    for (const nobody of ["nosuch", "admin", "%00", name]) {
      expect((await alice.get(`/organization/${name}/members/${nobody}`)).status).toBe(404);
    }
  });
  test("taking somebody out ends teams and roles at once", async () => {
    const name = await makeOrganization();
    await alice.put(`/organization/${name}/team/devs`, { role: "member" });
    await alice.put(`/organization/${name}/team/devs/members/bob`);
    await publish(api.client("alice", password), `${name}/app`, image("remove"), "v1");
    await api.grant("bob", `${name}/app`, "read");
    const puller = api.client("bob", password);
    expect((await puller.pullManifest(`${name}/app`, "v1")).status).toBe(200);
    expect((await alice.delete(`/organization/${name}/members/bob`)).status).toBe(204);
    expect((await puller.pullManifest(`${name}/app`, "v1")).status).toBe(401);
    expect((await alice.delete(`/organization/${name}/members/bob`)).status).toBe(404);
    expect(await entriesOf(api, "org_remove_team_member")).toContainEqual({ member: "bob", team: "devs" });
    const only = "Cannot remove user as they are the only organization admin";
    expect(await refusal(alice.delete(`/organization/${name}/members/alice`))).toEqual([400, only]);
  });
  test("the rights of one organization reach nothing in another", async () => {
    const mine = await makeOrganization();
    expect((await bob.post("/organization/", { name: `bobs-${mine}` })).status).toBe(201);
    const other = `/organization/bobs-${mine}`;
    for (const path of ["/members", "/collaborators", "/members/bob", "/prototypes", "/robots/x"]) {
      expect([path, (await alice.get(other + path)).status]).toEqual([path, 403]);
    }
    expect((await alice.delete(other)).status).toBe(403);
    expect((await alice.put(other, { tag_expiration_s: 0 })).status).toBe(403);
  });
});

describe("deleting one", () => {
  test("frees its name and ends everything in it at once", async () => {
    const name = await makeOrganization();
    await alice.put(`/organization/${name}/team/devs`, { role: "member" });
    await alice.put(`/organization/${name}/team/devs/members/bob`);
    const robot = (await alice.put(`/organization/${name}/robots/ci`)).body;
    expect(await logIn(robot.name, robot.token)).toBe(200);
    const owner = api.client("alice", password);
    await publish(owner, `${name}/app`, image("deleted"), "v1");
    await api.visibility(`${name}/app`, "public");
    expect((await api.anonymous.pullManifest(`${name}/app`, "v1")).status).toBe(200);
    const { id } = (await findAccount(api.app.db, name)) ?? { id: 0 };
    expect((await bob.delete(`/organization/${name}`)).status).toBe(403);
    expect((await alice.delete(`/organization/${name}`)).status).toBe(204);

    expect((await alice.get(`/organization/${name}`)).status).toBe(404);
    expect((await api.anonymous.pullManifest(`${name}/app`, "v1")).status).toBe(401);
    expect(await logIn(robot.name, robot.token)).toBe(401);
    expect(await entriesOf(api, "org_delete")).toContainEqual({ namespace: name });
    const jobs = await api.app.db.sql<{ payload: string }>`select payload from job where queue = 'namespacegc'`;
    expect(jobs.map(({ payload }) => JSON.parse(payload))).toContainEqual({ namespaceId: id });

    // The name, the address and the robot's name are anybody's now, and nothing of the old one shows.
    const again = await bob.post("/organization/", { name, email: `${name}@example.com` });
    expect(again.status).toBe(201);
    const view = (await bob.get(`/organization/${name}`)).body;
    expect(view.ordered_teams).toEqual(["owners"]);
    expect((await bob.put(`/organization/${name}/robots/ci`)).body.token).not.toBe(robot.token);
    await publish(api.client("bob", password), `${name}/app`, image("second life"), "v1");
    expect((await owner.pullManifest(`${name}/app`, "v1")).status).toBe(401);
  });
  test("wants a fresh log-in", async () => {
    const name = await makeOrganization();
    const stale = await api.as("alice");
    const { id } = (await findAccount(api.app.db, "alice")) ?? { id: 0 };
    await api.app.db.tx(async (tx) => {
      await tx.sql`update session set fresh_ms = 0 where account_id = ${id}`;
    });
    const answer = await stale.delete(`/organization/${name}`);
    expect([answer.status, envelopeOf(answer).type]).toEqual([401, "fresh_login_required"]);
    alice = await api.as("alice");
    expect((await alice.delete(`/organization/${name}`)).status).toBe(204);
  });
  test("a second instance knows at once", async () => {
    const name = await makeOrganization();
    await publish(api.client("alice", password), `${name}/app`, image("instances"), "v1");
    await api.visibility(`${name}/app`, "public");
    const path = `${name}/app` as RepositoryPath;
    expect(await api.app.lookup.repository(path)).toMatchObject({ namespace: name });
    expect((await alice.delete(`/organization/${name}`)).status).toBe(204);
    await eventually(async () => !(await api.app.lookup.repository(path)), 1000);
  });
});

describe("what the config decides", () => {
  let strict: Api;
  beforeAll(async () => {
    strict = await startApi({
      CREATE_NAMESPACE_ON_PUSH: true,
      FEATURE_SUPERUSERS_ORG_CREATION_ONLY: true,
      FEATURE_CHANGE_TAG_EXPIRATION: false,
      FEATURE_ORG_SHARED_EMAIL: true,
      FEATURE_RECAPTCHA: true,
      RECAPTCHA_SITE_KEY: "site-key",
      RECAPTCHA_SECRET_KEY: "none",
      RECAPTCHA_WHITELISTED_USERS: ["admin"],
      SUPER_USERS: ["admin", "sam"],
    });
    for (const name of ["alice", "sam"]) await strict.user(name);
  }, 60_000);
  afterAll(() => strict.stop());

  test("only superusers make organizations, by a push neither", async () => {
    const sent = (await strict.as("alice")).post("/organization/", { name: "by-alice" });
    expect(await refusal(sent)).toEqual([403, "Unauthorized"]);
    expect(await pushes(strict, "alice", "by-push/app")).toBe(false);
    expect(await findAccount(strict.app.db, "by-push")).toBeUndefined();
    expect(await pushes(strict, "sam", "by-sam/app")).toBe(true);
    expect((await findAccount(strict.app.db, "by-sam"))?.kind).toBe("organization");
    expect(await entriesOf(strict, "org_create")).toContainEqual({ email: null, namespace: "by-sam" });
  });
  test("a captcha is asked for, but not of the trusted", async () => {
    const answer = await (await strict.as("sam")).post("/organization/", { name: "captcha" });
    expect([answer.status, answer.body]).toEqual([
      400,
      { message: "Are you a bot? If not, please revalidate the captcha." },
    ]);
    expect((await (await strict.as("admin")).post("/organization/", { name: "captcha" })).status).toBe(201);
  });
  test("organizations may share an address, and the window stays", async () => {
    const admin = await strict.as("admin");
    for (const name of ["share-1", "share-2"]) {
      expect((await admin.post("/organization/", { name, email: "team@example.com" })).status).toBe(201);
      expect((await admin.get(`/organization/${name}`)).body.email).toBe("team@example.com");
    }
    const changed = await admin.put("/organization/share-2", {
      email: "other@example.com",
      tag_expiration_s: 1_209_600,
    });
    expect([changed.status, changed.body.email]).toEqual([200, "other@example.com"]);
    const [status, detail] = await refusal(admin.put("/organization/share-1", { tag_expiration_s: 86_400 }));
    expect([status, detail]).toEqual([
      400,
      "The tag expiration stays at 1209600 seconds: FEATURE_CHANGE_TAG_EXPIRATION is off",
    ]);
  });
});

/** Whether somebody can push to a place that is not there yet. */
async function pushes(at: Api, username: string, path: string): Promise<boolean> {
  try {
    await publish(at.client(username, password), path, image(path), "v1");
    return true;
  } catch {
    return false;
  }
}
