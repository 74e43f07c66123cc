/** Teams over HTTP: making and changing them, who is in them, and that an organization never loses its last admin. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { eventually, password } from "../registry/harness.ts";
import { image, publish } from "../support/content.ts";
import { type Api, type ApiAnswer, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { entriesOf } from "./sign-in.ts";

let api: Api;
let alice: ApiClient;
let bob: ApiClient;

beforeAll(async () => {
  api = await startApi();
  for (const name of ["alice", "bob", "carol"]) await api.user(name);
  [alice, bob] = [await api.as("alice"), await api.as("bob")];
}, 60_000);
afterAll(() => api.stop());

let count = 0;
/** An organization of alice's. */
async function makeOrganization(): Promise<string> {
  const name = `team-org-${++count}`;
  expect((await alice.post("/organization/", { name })).status).toBe(201);
  return name;
}

async function addAdmin(name: string, member: string, team = "owners"): Promise<void> {
  await alice.put(`/organization/${name}/team/${team}`, { role: "admin" });
  expect((await alice.put(`/organization/${name}/team/${team}/members/${member}`)).status).toBe(200);
}

async function refusal(sent: Promise<ApiAnswer>): Promise<[number, string]> {
  const answer = await sent;
  return [answer.status, envelopeOf(answer).detail];
}

async function admins(name: string): Promise<string[]> {
  const rows = await api.app.db.sql<{ username: string }>`
    select distinct a.username from account o join team t on t.organization_id = o.id and t.role = 'admin'
    join team_member m on m.team_id = t.id join account a on a.id = m.account_id
    where o.username = ${name} order by a.username`;
  return rows.map((row) => row.username);
}

describe("making and changing", () => {
  test("PUT makes a team, and changes it the next time", async () => {
    const name = await makeOrganization();
    const path = `/organization/${name}/team/devs`;
    const made = await alice.put(path, { role: "member", description: "who writes it" });
    expect([made.status, made.body]).toMatchObject([
      200,
      { name: "devs", description: "who writes it", role: "member", can_view: true, new_team: true },
    ]);
    const changed = await alice.put(path, { role: "creator" });
    expect(changed.body).toMatchObject({ role: "creator", description: "who writes it", new_team: false });
    const emptied = await alice.put(path, { role: "creator", description: "" });
    expect(emptied.body.description).toBe("");
    expect(await entriesOf(api, "org_create_team")).toContainEqual({ team: "devs" });
    expect(await entriesOf(api, "org_set_team_role")).toContainEqual({ team: "devs", role: "creator" });
    expect(await entriesOf(api, "org_set_team_description")).toContainEqual({ team: "devs", description: "" });
    expect((await alice.delete(path)).status).toBe(204);
    expect((await alice.delete(path)).status).toBe(404);
    expect(await entriesOf(api, "org_delete_team")).toContainEqual({ team: "devs" });
  });
  test.each([
    ["a name that cannot be", "No%20Good", { role: "member" }, /^Invalid team name No Good: /],
    ["a line break in the name", "a%0D%0Ab", { role: "member" }, /^Invalid team name/],
    ["a short name", "x", { role: "member" }, /between 2 and 255/],
    ["a role that is none", "devs", { role: "owner" }, /role/],
    ["no role", "devs", { description: "x" }, /role/],
    ["a description without end", "devs", { role: "member", description: "x".repeat(20_000) }, /description/],
  ] as const)("refuses %s", async (_, team, body, text) => {
    const name = await makeOrganization();
    const [status, detail] = await refusal(alice.put(`/organization/${name}/team/${team}`, body));
    expect(status).toBe(400);
    expect(detail).toMatch(text);
  });
  test("twenty at once make one team", async () => {
    const name = await makeOrganization();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => alice.put(`/organization/${name}/team/crowd`, { role: "member" })),
    );
    expect(answers.filter((answer) => answer.body.new_team).length).toBe(1);
    expect(answers.every((answer) => answer.status === 200)).toBe(true);
  });
});

describe("members", () => {
  test("without mail users are in at once, and their rights with them", async () => {
    const name = await makeOrganization();
    await publish(api.client("alice", password), `${name}/app`, image("team"), "v1");
    await alice.put(`/organization/${name}/team/devs`, { role: "member" });
    const puller = api.client("bob", password);
    expect((await puller.pullManifest(`${name}/app`, "v1")).status).toBe(401);
    await api.app.db.tx(async (tx) => {
      const [team] = await tx.sql<{ id: number }>`
        select t.id from team t join account o on o.id = t.organization_id
        where o.username = ${name} and t.name = 'devs'`;
      const { id } = await api.repository(`${name}/app`);
      await tx.sql`insert into repository_permission (repository_id, team_id, role) values (${id}, ${team?.id ?? 0}, 'read')`;
    });
    const added = await alice.put(`/organization/${name}/team/devs/members/bob`);
    expect(added.body).toMatchObject({ name: "bob", kind: "user", is_robot: false, invited: false });
    expect((await puller.pullManifest(`${name}/app`, "v1")).status).toBe(200);
    const permissions = await alice.get(`/organization/${name}/team/devs/permissions`);
    expect(permissions.body).toEqual({
      permissions: [{ repository: { name: "app", is_public: false }, role: "read" }],
    });
    expect((await alice.delete(`/organization/${name}/team/devs/members/bob`)).status).toBe(204);
    expect((await puller.pullManifest(`${name}/app`, "v1")).status).toBe(401);
    await alice.put(`/organization/${name}/team/devs/members/bob`);
    expect((await puller.pullManifest(`${name}/app`, "v1")).status).toBe(200);
    expect((await alice.delete(`/organization/${name}/team/devs`)).status).toBe(204);
    expect((await puller.pullManifest(`${name}/app`, "v1")).status).toBe(401);
    expect(await entriesOf(api, "org_add_team_member")).toContainEqual({ member: "bob", team: "devs" });
  });
  test("another instance forgets at once what a team gave", async () => {
    const name = await makeOrganization();
    await publish(api.client("alice", password), `${name}/app`, image("instances"), "v1");
    await addAdmin(name, "bob", "second");
    const { lookup } = api.app;
    const repository = await api.repository(`${name}/app`);
    const principal = await lookup.principal(await api.accountId("bob"));
    await eventually(async () => (await lookup.role(principal, repository)) === "admin", 1000);
    expect((await alice.delete(`/organization/${name}/team/second/members/bob`)).status).toBe(204);
    await eventually(async () => (await lookup.role(principal, repository)) === "none", 1000);
  });
  test("are seen by themselves and by admins, edited by admins alone", async () => {
    const name = await makeOrganization();
    await alice.put(`/organization/${name}/team/devs`, { role: "member" });
    await alice.put(`/organization/${name}/team/ops`, { role: "creator" });
    await alice.put(`/organization/${name}/team/devs/members/bob`);
    const seen = await bob.get(`/organization/${name}/team/devs/members?includePending=true`);
    expect(seen.body).toMatchObject({ name: "devs", can_edit: false, members: [{ name: "bob" }] });
    expect((await alice.get(`/organization/${name}/team/devs/members`)).body.can_edit).toBe(true);
    expect((await bob.get(`/organization/${name}/team/ops/members`)).status).toBe(403);
    expect((await bob.put(`/organization/${name}/team/ops/members/bob`)).status).toBe(403);
    expect((await bob.put(`/organization/${name}/team/devs`, { role: "admin" })).status).toBe(403);
    expect((await bob.delete(`/organization/${name}/team/devs/members/bob`)).status).toBe(403);
    expect((await alice.get(`/organization/${name}/team/nosuch/members`)).status).toBe(404);
  });
  test("robots only of the organization, users only that are there", async () => {
    const name = await makeOrganization();
    const members = `/organization/${name}/team/owners/members`;
    await alice.put(`/organization/${name}/robots/ci`);
    await bob.put("/user/robots/foreign");
    expect((await alice.put(`${members}/${name}+ci`)).body).toMatchObject({ name: `${name}+ci`, is_robot: true });
    expect(await refusal(alice.put(`${members}/bob+foreign`))).toEqual([
      400,
      "Cannot add the specified robot to this team, as it is not a member of the organization",
    ]);
    for (const nobody of ["nosuch", name, "a%0Ab", "..%2Fbob", "BOB"]) {
      expect(await refusal(alice.put(`${members}/${nobody}`))).toEqual([400, "Unknown user"]);
    }
    expect((await alice.put(`/organization/${name}/team/nosuch/members/bob`)).status).toBe(404);
    expect((await alice.put(`${members}/a%00b`)).status).toBe(404);
    expect((await alice.delete(`${members}/nosuch`)).status).toBe(404);
    expect(await refusal(alice.delete(`${members}/carol`))).toEqual([400, "User carol does not belong to team owners"]);
  });
  test("a team of another organization is not there", async () => {
    const [mine, other] = [await makeOrganization(), await makeOrganization()];
    await alice.put(`/organization/${other}/team/theirs`, { role: "member" });
    for (const path of ["members", "permissions"]) {
      expect((await alice.get(`/organization/${mine}/team/theirs/${path}`)).status).toBe(404);
    }
    expect((await alice.delete(`/organization/${mine}/team/theirs`)).status).toBe(404);
    expect((await alice.put(`/organization/${mine}/team/theirs/members/bob`)).status).toBe(404);
    expect((await alice.delete(`/organization/${mine}/team/theirs/members/bob`)).status).toBe(404);
  });
});

describe("the last admin", () => {
  test("cannot leave, be demoted or lose the team", async () => {
    const name = await makeOrganization();
    const team = `/organization/${name}/team/owners`;
    expect(await refusal(alice.delete(`${team}/members/alice`))).toEqual([
      400,
      "User cannot remove themselves from their only admin team.",
    ]);
    for (const sent of [alice.put(team, { role: "member" }), alice.delete(team)]) {
      const [status, detail] = await refusal(sent);
      expect(status).toBe(400);
      expect(detail).toContain(`would remove admin ability for user 'alice' in organization '${name}'`);
    }
    // A robot is nobody who could take the organization over.
    await alice.put(`/organization/${name}/robots/ci`);
    await alice.put(`${team}/members/${name}+ci`);
    expect((await alice.delete(`${team}/members/alice`)).status).toBe(400);
    expect(await admins(name)).toEqual(["alice", `${name}+ci`]);
  });
  test("may go once somebody else is admin by another team", async () => {
    const name = await makeOrganization();
    await addAdmin(name, "bob", "second");
    expect((await alice.put(`/organization/${name}/team/second/members/alice`)).status).toBe(200);
    expect((await alice.delete(`/organization/${name}/team/owners`)).status).toBe(204);
    expect(await admins(name)).toEqual(["alice", "bob"]);
    expect((await bob.delete(`/organization/${name}/team/second/members/alice`)).status).toBe(204);
    expect(await admins(name)).toEqual(["bob"]);
  });
  test("two admins who remove each other at once leave one", async () => {
    for (let round = 0; round < 8; round++) {
      const name = await makeOrganization();
      await addAdmin(name, "bob", "second");
      const answers = await Promise.all([
        alice.delete(`/organization/${name}/team/second/members/bob`),
        bob.delete(`/organization/${name}/team/owners/members/alice`),
      ]);
      expect((await admins(name)).length).toBe(1);
      expect(answers.filter((answer) => answer.status === 204).length).toBe(1);
    }
  }, 30_000);
  test("two admin teams that are demoted, deleted and left at once leave one admin", async () => {
    for (let round = 0; round < 8; round++) {
      const name = await makeOrganization();
      await addAdmin(name, "bob", "second");
      await Promise.all([
        alice.put(`/organization/${name}/team/second`, { role: "member" }),
        bob.delete(`/organization/${name}/team/owners`),
        alice.delete(`/organization/${name}/members/bob`),
        bob.delete(`/organization/${name}/members/alice`),
      ]);
      expect((await admins(name)).length).toBeGreaterThan(0);
    }
  }, 30_000);
  test("an admin who deletes his account while the other one leaves", async () => {
    for (let round = 0; round < 5; round++) {
      const name = await makeOrganization();
      const user = `leaver-${round}`;
      await api.user(user);
      await addAdmin(name, user, "second");
      const leaver = await api.as(user);
      const [deleted, left] = await Promise.all([
        leaver.delete("/user/"),
        alice.delete(`/organization/${name}/members/alice`),
      ]);
      expect([deleted.status, left.status].sort()).toEqual([204, 400]);
      expect((await admins(name)).length).toBe(1);
    }
  }, 30_000);
  test("nobody is in a team whose account was deleted while it was added", async () => {
    const name = await makeOrganization();
    for (let round = 0; round < 6; round++) {
      const user = `fleeting-${round}`;
      await api.user(user);
      const leaver = await api.as(user);
      const add = alice.put(`/organization/${name}/team/owners/members/${user}`);
      const [added, deleted] = await Promise.all([add, leaver.delete("/user/")]);
      expect([200, 400]).toContain(added.status);
      expect([204, 400]).toContain(deleted.status);
    }
    const gone = await api.app.db.sql`
      select m.team_id from team_member m join account a on a.id = m.account_id where a.deleted_ms is not null`;
    expect(gone).toEqual([]);
  }, 30_000);
});
