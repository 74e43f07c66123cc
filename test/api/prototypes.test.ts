/** Default permissions over HTTP, and what they give to new repositories. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { password } from "../registry/harness.ts";
import { image, publish } from "../support/content.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { entriesOf } from "./sign-in.ts";

let api: Api;
let alice: ApiClient;

beforeAll(async () => {
  api = await startApi();
  for (const name of ["alice", "bob", "carol"]) await api.user(name);
  alice = await api.as("alice");
}, 60_000);
afterAll(() => api.stop());

let count = 0;
/** An organization of alice's, with bob in a team of creators. */
async function makeOrganization(): Promise<string> {
  const name = `proto-${++count}`;
  expect((await alice.post("/organization/", { name })).status).toBe(201);
  await alice.put(`/organization/${name}/team/makers`, { role: "creator" });
  await alice.put(`/organization/${name}/team/makers/members/bob`);
  return name;
}

const user = (name: string) => ({ kind: "user", name });

/** Roles on a repository by user or team. */
async function rolesOf(path: string): Promise<Record<string, string>> {
  const { id } = await api.repository(path);
  const rows = await api.app.db.sql<{ holder: string; role: string }>`
    select coalesce(a.username, t.name) as holder, p.role from repository_permission p
    left join account a on a.id = p.account_id left join team t on t.id = p.team_id
    where p.repository_id = ${id}`;
  return Object.fromEntries(rows.map(({ holder, role }) => [holder, role]));
}

test("a rule is made, listed, changed and taken away", async () => {
  const name = await makeOrganization();
  const path = `/organization/${name}/prototypes`;
  expect((await alice.get(path)).body).toEqual({ prototypes: [] });
  const body = {
    role: "read",
    delegate: user("carol"),
    activating_user: { name: "bob" },
    id: "mine",
    organization_id: 1,
  };
  const made = await alice.post(path, body);
  expect([made.status, made.body]).toMatchObject([
    200,
    {
      role: "read",
      activating_user: { name: "bob", kind: "user", is_robot: false, is_org_member: true },
      delegate: { name: "carol", kind: "user", is_robot: false, is_org_member: false },
    },
  ]);
  const { id } = made.body;
  expect(id).toMatch(/^[0-9a-f-]{36}$/);
  const team = await alice.post(path, { role: "write", delegate: { kind: "team", name: "makers" } });
  expect(team.body).toMatchObject({ activating_user: null, delegate: { name: "makers", kind: "team" } });
  expect((await alice.put(`${path}/${id}`, { role: "admin" })).body).toMatchObject({ id, role: "admin" });
  const listed = (await alice.get(path)).body.prototypes;
  expect(listed.map((p: { id: string; role: string }) => [p.id, p.role])).toEqual([
    [id, "admin"],
    [team.body.id, "write"],
  ]);
  expect((await alice.delete(`${path}/${id}`)).status).toBe(204);
  expect((await alice.delete(`${path}/${id}`)).status).toBe(404);
  expect((await alice.put(`${path}/${id}`, { role: "read" })).status).toBe(404);
  const entry = { prototypeid: id, username: "alice", activating_username: "bob", delegate_user: "carol" };
  expect(await entriesOf(api, "create_prototype_permission")).toContainEqual({ ...entry, role: "read" });
  expect(await entriesOf(api, "modify_prototype_permission")).toEqual([
    { ...entry, role: "admin", original_role: "read" },
  ]);
  expect(await entriesOf(api, "delete_prototype_permission")).toEqual([{ ...entry, role: "admin" }]);
});

test("a second rule for the same two changes the first", async () => {
  const name = await makeOrganization();
  const path = `/organization/${name}/prototypes`;
  const answers = await Promise.all(
    ["read", "write", "admin", "read"].map((role) => alice.post(path, { role, delegate: user("carol") })),
  );
  expect(new Set(answers.map((answer) => answer.body.id)).size).toBe(1);
  expect((await alice.get(path)).body.prototypes).toHaveLength(1);
});

describe("what is refused", () => {
  test.each([
    ["no delegate", { role: "read" }, "Missing delegate user or team"],
    ["an empty delegate", { role: "read", delegate: {} }, "Missing delegate user or team"],
    [
      "a delegate of another kind",
      { role: "read", delegate: { kind: "org", name: "x" } },
      "Missing delegate user or team",
    ],
    [
      "nobody who makes it",
      { role: "read", delegate: user("bob"), activating_user: { name: "no" } },
      "Unknown activating user",
    ],
    ["a delegate who is nobody", { role: "read", delegate: user("nosuch") }, "Unknown delegate user: nosuch"],
    ["a team that is not there", { role: "read", delegate: { kind: "team", name: "no" } }, "Unknown delegate team: no"],
    [
      "a robot of a user",
      { role: "read", delegate: user("bob+bot") },
      /^Cannot add robot bob\+bot under namespace proto-/,
    ],
    ["a role that is none", { role: "owner", delegate: user("bob") }, /role/],
  ] as const)("%s", async (_, body, text) => {
    const name = await makeOrganization();
    await (await api.as("bob")).put("/user/robots/bot");
    const answer = await alice.post(`/organization/${name}/prototypes`, body);
    expect(answer.status).toBe(400);
    const { detail } = envelopeOf(answer);
    if (typeof text === "string") expect(detail).toBe(text);
    else expect(detail).toMatch(text);
  });
  test("a rule of another organization is not there", async () => {
    const [mine, other] = [await makeOrganization(), await makeOrganization()];
    const made = await alice.post(`/organization/${other}/prototypes`, { role: "read", delegate: user("carol") });
    const path = `/organization/${mine}/prototypes/${made.body.id}`;
    expect((await alice.put(path, { role: "admin" })).status).toBe(404);
    expect((await alice.delete(path)).status).toBe(404);
    expect((await alice.get(`/organization/${other}/prototypes`)).body.prototypes[0].role).toBe("read");
  });
});

describe("a new repository", () => {
  test("gives what the rules say: those for its maker before those for everybody", async () => {
    const name = await makeOrganization();
    const path = `/organization/${name}/prototypes`;
    await alice.put(`/organization/${name}/robots/ci`);
    await alice.post(path, { role: "read", delegate: user("carol") });
    await alice.post(path, { role: "write", delegate: user("carol"), activating_user: { name: "bob" } });
    await alice.post(path, { role: "admin", delegate: user("carol"), activating_user: { name: "alice" } });
    await alice.post(path, { role: "read", delegate: { kind: "team", name: "makers" } });
    await alice.post(path, { role: "write", delegate: user(`${name}+ci`) });
    // Bob makes it and is its admin already: the rule for him is left out.
    await alice.post(path, { role: "read", delegate: user("bob") });
    await publish(api.client("bob", password), `${name}/app`, image("rules"), "v1");
    expect(await rolesOf(`${name}/app`)).toEqual({
      bob: "admin",
      carol: "write",
      makers: "read",
      [`${name}+ci`]: "write",
    });
    expect((await api.client("carol", password).pullManifest(`${name}/app`, "v1")).status).toBe(200);
  });
  test("in a user's own namespace has no rules", async () => {
    await publish(api.client("bob", password), "bob/app", image("own"), "v1");
    expect(await rolesOf("bob/app")).toEqual({});
  });
  test("a rule goes with the team or robot it is for", async () => {
    const name = await makeOrganization();
    const path = `/organization/${name}/prototypes`;
    await alice.put(`/organization/${name}/robots/ci`);
    await alice.put(`/organization/${name}/team/brief`, { role: "member" });
    await alice.post(path, { role: "write", delegate: user(`${name}+ci`) });
    await alice.post(path, { role: "read", delegate: { kind: "team", name: "brief" } });
    expect((await alice.delete(`/organization/${name}/robots/ci`)).status).toBe(204);
    expect((await alice.delete(`/organization/${name}/team/brief`)).status).toBe(204);
    expect((await alice.get(path)).body).toEqual({ prototypes: [] });
    await publish(api.client("bob", password), `${name}/app`, image("gone"), "v1");
    expect(await rolesOf(`${name}/app`)).toEqual({ bob: "admin" });
  });
});
