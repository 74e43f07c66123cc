/** What the config makes of repositories: features that are off, restricted users, superusers, a registry that only reads. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { giveToken, makeApplication, makeOrganization } from "./credentials-world.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { create, pathsOf } from "./repository-world.ts";

const fresh = (repository: string, namespace?: string) => ({
  repository,
  visibility: "private",
  description: "",
  ...(namespace === undefined ? {} : { namespace }),
});

describe("with features off and users restricted", () => {
  let api: Api;
  let alice: ApiClient;
  let root: ApiClient;
  let free: ApiClient;
  beforeAll(async () => {
    api = await startApi({
      FEATURE_RESTRICTED_USERS: true,
      RESTRICTED_USERS_WHITELIST: ["free-user"],
      FEATURE_SUPERUSERS_FULL_ACCESS: true,
      SUPER_USERS: ["root-user"],
      GLOBAL_READONLY_SUPER_USERS: ["auditor"],
      FEATURE_EXTENDED_REPOSITORY_NAMES: false,
      FEATURE_MAILING: false,
      DISABLE_PUSHES: true,
    });
    for (const name of ["alice", "free-user", "root-user", "auditor"]) await api.user(name);
    alice = await api.as("alice");
    root = await api.as("root-user");
    free = await api.as("free-user");
    await makeOrganization(api, "acme", "root-user");
    await create(free, "free-user/app");
  }, 60_000);
  afterAll(() => api.stop());

  test("a restricted user makes nothing in its own namespace, and may in others that let it", async () => {
    const answer = await alice.post("/repository", fresh("mine"));
    expect([answer.status, envelopeOf(answer)]).toEqual([
      403,
      {
        type: "insufficient_scope",
        detail: "Operation not allowed on restricted user owned namespace",
        decision: "restricted-user",
      },
    ]);
    const { id: teamId } = (
      await api.app.db.sql<{ id: number }>`/* test.team */
      select t.id from team t join account a on a.id = t.organization_id where a.username = 'acme'`
    )[0] ?? { id: 0 };
    const aliceId = await api.accountId("alice");
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.join */ insert into team_member (team_id, account_id) values (${teamId}, ${aliceId})`;
      tx.changed("everything");
    });
    await Bun.sleep(260);
    expect((await alice.post("/repository", fresh("ours", "acme"))).status).toBe(201);
  });

  test("a superuser with full access makes, changes, lists and deletes in any namespace", async () => {
    expect((await root.post("/repository", fresh("by-root", "free-user"))).status).toBe(201);
    expect((await root.put("/repository/free-user/app", { description: "seen" })).status).toBe(200);
    expect(pathsOf(await root.get("/repository?namespace=free-user"))).toEqual(["free-user/app", "free-user/by-root"]);
    expect((await root.put("/repository/free-user/by-root/permissions/user/alice", { role: "read" })).status).toBe(200);
    expect((await root.delete("/repository/free-user/by-root")).status).toBe(204);
  });

  test("a superuser's token does so with super:user alone", async () => {
    const { clientId } = await makeApplication(api, "acme", "root-user", "http://localhost/");
    const withScope = async (...scopes: Parameters<typeof giveToken>[3] & string[]) =>
      api.bearer((await giveToken(api, "root-user", clientId, scopes)).token);
    const plain = await withScope("repo:read", "repo:admin", "repo:create");
    expect(pathsOf(await plain.get("/repository?namespace=free-user"))).toEqual([]);
    expect((await plain.post("/repository", fresh("sly", "free-user"))).status).toBe(403);
    const full = await withScope("repo:read", "repo:create", "super:user");
    expect(pathsOf(await full.get("/repository?namespace=free-user"))).toEqual(["free-user/app"]);
    const reading = await withScope("repo:read", "super:user");
    expect((await reading.post("/repository", fresh("sly", "free-user"))).status).toBe(403);
  });

  test("a global read-only superuser sees all and changes nothing", async () => {
    const auditor = await api.as("auditor");
    expect(pathsOf(await auditor.get("/repository?namespace=free-user"))).toEqual(["free-user/app"]);
    expect((await auditor.get("/repository/free-user/app")).body).toMatchObject({ can_write: false, can_admin: false });
    expect((await auditor.put("/repository/free-user/app", { description: "x" })).status).toBe(403);
    expect((await auditor.post("/repository", fresh("x", "free-user"))).status).toBe(403);
    expect((await auditor.delete("/repository/free-user/app")).status).toBe(403);
  });

  test("routes of features that are off are not there", async () => {
    const path = "/repository/free-user/app";
    expect((await free.put(`${path}/changestate`, { state: "READ_ONLY" })).status).toBe(404);
    expect((await free.post(`${path}/changetrust`, { trust_enabled: true })).status).toBe(404);
    expect((await free.post(`${path}/authorizedemail/a@example.com`)).status).toBe(404);
    expect((await free.get("/repository?namespace=free-user")).body.repositories[0]).not.toHaveProperty("quota_report");
  });

  test("names hold no slash unless they may", async () => {
    const answer = await free.post("/repository", fresh("a/b"));
    expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Invalid repository name"]);
  });
});

describe("in a registry that only reads", () => {
  let api: Api;
  beforeAll(async () => {
    api = await startApi({ REGISTRY_STATE: "readonly" });
    await api.user("alice");
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.repository */
        insert into repository (namespace_id, name, path, visibility, created_ms)
        select id, 'app', 'alice/app', 'private', 1 from account where username = 'alice'`;
    });
  }, 60_000);
  afterAll(() => api.stop());

  test("repositories are shown and not changed", async () => {
    const alice = await api.as("alice");
    expect((await alice.get("/repository/alice/app")).status).toBe(200);
    expect(pathsOf(await alice.get("/repository?namespace=alice"))).toEqual(["alice/app"]);
    for (const answer of [
      await alice.post("/repository", fresh("new")),
      await alice.put("/repository/alice/app", { description: "x" }),
      await alice.delete("/repository/alice/app"),
      await alice.post("/user/starred", { namespace: "alice", repository: "app" }),
    ]) {
      expect([answer.status, answer.body.is_readonly]).toEqual([503, true]);
    }
  });
});

test("with anonymous access off nobody lists or finds what is public", async () => {
  const api = await startApi({ FEATURE_ANONYMOUS_ACCESS: false });
  try {
    for (const name of ["alice", "bob"]) await api.user(name);
    await create(await api.as("alice"), "alice/open", { visibility: "public" });
    const nobody = await api.nobody();
    for (const path of ["/repository?public=true", "/find/repositories?query=open", "/find/all?query=open"]) {
      expect((await nobody.get(path)).status).toBe(401);
    }
    expect((await nobody.get("/repository/alice/open")).status).toBe(401);
    expect(pathsOf(await (await api.as("bob")).get("/find/repositories?query=open"))).toEqual(["alice/open"]);
  } finally {
    await api.stop();
  }
}, 30_000);
