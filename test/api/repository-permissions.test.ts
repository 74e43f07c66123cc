/** Roles on repositories: given, shown, taken away, and in force for the next pull. Source: quay-api reference, section 11. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { image, publish } from "../support/content.ts";
import { basicAuthorization } from "../support/registry-client.ts";
import { giveToken, makeApplication, makeOrganization, pullStatus } from "./credentials-world.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { create, logsOf, makeTeam } from "./repository-world.ts";

const secret = "correct-horse-battery";
const users = "/repository/acme/app/permissions/user/";
const teams = "/repository/acme/app/permissions/team/";
let api: Api;
let alice: ApiClient;
let bob: ApiClient;

beforeAll(async () => {
  api = await startApi();
  for (const name of ["alice", "bob", "carol"]) await api.user(name);
  alice = await api.as("alice");
  bob = await api.as("bob");
  await makeOrganization(api, "acme", "alice");
  await makeTeam(api, "acme", "readers", "member", ["carol"]);
  await makeOrganization(api, "other", "alice");
  await makeTeam(api, "other", "strangers", "member", ["bob"]);
  await create(alice, "acme/app");
  await publish(api.client("alice", secret), "acme/app", image("app"), "v1");
  // Who made it has a role of its own; as an owner of the organization it needs none.
  expect((await alice.delete(`${users}alice`)).status).toBe(204);
}, 60_000);
afterAll(() => api.stop());

/** Whether this user pulls the image now, with Basic, which warm caches answer. */
async function pulls(name: string, word = secret): Promise<number> {
  return pullStatus(api, basicAuthorization(name, word), "acme/app");
}

const avatarOf = (kind: string, name: string) => expect.objectContaining({ kind, name });

describe("users", () => {
  test("a role is given, shown, replaced and taken, each in force for the next pull", async () => {
    expect(await pulls("bob")).toBe(403);
    const given = await alice.put(`${users}bob`, { role: "read" });
    const entry = { role: "read", name: "bob", is_robot: false, avatar: avatarOf("user", "bob"), is_org_member: false };
    expect([given.status, given.body]).toEqual([200, entry]);
    expect(await pulls("bob")).toBe(200);
    expect((await alice.get(users)).body).toEqual({ permissions: { bob: entry } });
    expect((await alice.get(`${users}bob`)).body).toEqual(entry);

    expect((await alice.put(`${users}bob`, { role: "admin" })).body.role).toBe("admin");
    expect(Object.keys((await bob.get(users)).body.permissions)).toEqual(["bob"]);

    expect((await alice.delete(`${users}bob`)).status).toBe(204);
    expect(await pulls("bob")).toBe(403);
    expect((await alice.get(users)).body).toEqual({ permissions: {} });
    const kinds = (await logsOf(api, "app")).filter(({ kind }) => kind.endsWith("_permission"));
    expect(kinds.slice(1)).toEqual([
      { kind: "change_repo_permission", metadata: { repo: "app", namespace: "acme", username: "bob", role: "read" } },
      { kind: "change_repo_permission", metadata: { repo: "app", namespace: "acme", username: "bob", role: "admin" } },
      { kind: "delete_repo_permission", metadata: { repo: "app", namespace: "acme", username: "bob" } },
    ]);
  });

  test("a member of the organization is shown as one", async () => {
    await alice.put(`${users}carol`, { role: "write" });
    expect((await alice.get(`${users}carol`)).body).toMatchObject({ is_org_member: true, role: "write" });
    await alice.delete(`${users}carol`);
  });

  test("in a user's namespace nobody is a member of anything", async () => {
    await create(alice, "alice/mine");
    const given = await alice.put("/repository/alice/mine/permissions/user/bob", { role: "read" });
    expect(given.body).not.toHaveProperty("is_org_member");
    expect((await bob.get("/repository/alice/mine")).body).toMatchObject({ can_write: false, can_admin: false });
  });

  test("a namespace's owner always is admin", async () => {
    await create(alice, "alice/owned");
    const path = "/repository/alice/owned/permissions/user/alice";
    for (const answer of [await alice.put(path, { role: "read" }), await alice.delete(path)]) {
      expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Namespace owner must always be admin."]);
    }
  });

  test("who is not there, an organization and one without a role are Quay's 400", async () => {
    for (const name of ["nobody-here", "other", "a%27%20or%201=1"]) {
      const text = decodeURIComponent(name);
      for (const answer of [
        await alice.put(`${users}${name}`, { role: "read" }),
        await alice.get(`${users}${name}`),
        await alice.delete(`${users}${name}`),
      ]) {
        expect([answer.status, envelopeOf(answer).detail]).toEqual([400, `User does not exist: ${text}`]);
      }
      expect((await alice.get(`${users}${name}/transitive`)).status).toBe(404);
    }
    for (const answer of [await alice.get(`${users}bob`), await alice.delete(`${users}bob`)]) {
      expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "User does not have permission for repo."]);
    }
  });

  test("a role that is none is refused, and other fields are not acted on", async () => {
    for (const body of [{ role: "owner" }, { role: "none" }, {}, { role: ["admin"] }, undefined]) {
      expect((await alice.put(`${users}bob`, body)).status).toBe(400);
    }
    const sly = { role: "read", username: "carol", repository_id: 1, team_id: 1, is_robot: true };
    expect((await alice.put(`${users}bob`, sly)).body).toMatchObject({ name: "bob", role: "read", is_robot: false });
    expect(Object.keys((await alice.get(users)).body.permissions)).toEqual(["bob"]);
    await alice.delete(`${users}bob`);
  });

  test("are for admins of the repository alone", async () => {
    await alice.put(`${users}bob`, { role: "write" });
    expect((await bob.get(users)).status).toBe(403);
    expect((await bob.put(`${users}bob`, { role: "admin" })).status).toBe(403);
    expect((await bob.delete(`${users}bob`)).status).toBe(403);
    expect((await (await api.nobody()).get(users)).status).toBe(401);
    await alice.delete(`${users}bob`);
  });

  test("a token needs repo:admin", async () => {
    const { clientId } = await makeApplication(api, "acme", "alice", "http://localhost/");
    const writer = api.bearer((await giveToken(api, "alice", clientId, ["repo:write"])).token);
    const admin = api.bearer((await giveToken(api, "alice", clientId, ["repo:admin"])).token);
    expect((await writer.put(`${users}bob`, { role: "read" })).status).toBe(403);
    expect((await admin.put(`${users}bob`, { role: "read" })).status).toBe(200);
    expect((await admin.delete(`${users}bob`)).status).toBe(204);
    const reader = api.bearer((await giveToken(api, "alice", clientId, ["user:read"])).token);
    expect((await reader.get("/repository?namespace=acme")).body.repositories).toEqual([]);
    expect((await reader.post("/repository", { repository: "x", visibility: "private", description: "" })).status).toBe(
      403,
    );
  });
});

describe("robots", () => {
  test("of the namespace get roles, of another never", async () => {
    const own = await api.robot("acme", "ci");
    const foreign = await api.robot("other", "ci");
    const given = await alice.put(`${users}${encodeURIComponent(own.name)}`, { role: "write" });
    expect(given.body).toEqual({
      role: "write",
      name: "acme+ci",
      is_robot: true,
      avatar: avatarOf("robot", "acme+ci"),
      is_org_member: true,
    });
    expect(await pulls(own.name, own.token)).toBe(200);
    // Written with its plus as it is, too.
    expect((await alice.get(`${users}acme+ci`)).body.name).toBe("acme+ci");
    const refused = await alice.put(`${users}${foreign.name}`, { role: "read" });
    expect([refused.status, envelopeOf(refused).detail]).toEqual([
      400,
      "Cannot add robot other+ci under namespace acme",
    ]);
    expect(await pulls(foreign.name, foreign.token)).toBe(403);
    await alice.delete(`${users}acme+ci`);
    expect(await pulls(own.name, own.token)).toBe(403);
  });
});

describe("teams", () => {
  test("a role is given to all in it, shown, and taken", async () => {
    expect(await pulls("carol")).toBe(403);
    const given = await alice.put(`${teams}readers`, { role: "read" });
    const entry = { role: "read", name: "readers", avatar: avatarOf("team", "readers") };
    expect([given.status, given.body]).toEqual([200, entry]);
    expect(await pulls("carol")).toBe(200);
    expect((await alice.get(teams)).body).toEqual({ permissions: { readers: entry } });
    expect((await alice.get(`${teams}readers`)).body).toEqual({ role: "read" });

    await alice.put(`${users}carol`, { role: "write" });
    const both = (await alice.get(`${users}carol/transitive`)).body.permissions;
    expect(both.map(({ role }: { role: string }) => role).sort()).toEqual(["read", "write"]);
    await alice.delete(`${users}carol`);
    expect((await alice.get(`${users}carol/transitive`)).body).toEqual({ permissions: [{ role: "read" }] });

    expect((await alice.delete(`${teams}readers`)).status).toBe(204);
    expect(await pulls("carol")).toBe(403);
    expect((await logsOf(api, "app")).at(-1)).toEqual({
      kind: "delete_repo_permission",
      metadata: { repo: "app", namespace: "acme", team: "readers" },
    });
  });

  test("of another organization, of none and without a role are 400", async () => {
    for (const name of ["strangers", "no-such-team"]) {
      const answer = await alice.put(`${teams}${name}`, { role: "read" });
      expect([answer.status, envelopeOf(answer).detail]).toEqual([400, `Team does not exist: acme/${name}`]);
    }
    const answer = await alice.delete(`${teams}readers`);
    expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Team does not have permission for repo."]);
    expect((await alice.get(`${teams}readers`)).status).toBe(400);
    expect((await alice.put("/repository/alice/mine/permissions/team/readers", { role: "read" })).status).toBe(400);
  });
});
