/** Organizations and users that were deleted and come back, with what was theirs; what was given out stays ended. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { takeJob } from "../../src/db/queue.ts";
import { explainKept } from "../../src/domain/gc/explain.ts";
import { purgeRepository } from "../../src/domain/gc/purge-repository.ts";
import { Tally } from "../../src/domain/gc/tally.ts";
import { type ApiClient, envelopeOf } from "../api/harness.ts";
import { password } from "../registry/harness.ts";
import { basicAuthorization, type PushedImage, type RegistryClient } from "../support/registry-client.ts";
import { dayMs, type GcWorld, startGcWorld, windowMs } from "./world.ts";

setDefaultTimeout(60_000);

const minuteMs = 60_000;

let world: GcWorld;
let client: RegistryClient;
let su: ApiClient;
beforeAll(async () => {
  world = await startGcWorld({ FEATURE_QUOTA_MANAGEMENT: true, FEATURE_EDIT_QUOTA: true });
  client = world.api.admin;
  su = await world.api.as("admin");
  for (const name of ["alice", "bob", "carol"]) await world.api.user(name);
}, 120_000);
afterAll(() => world?.stop());

interface Listed {
  uuid: string;
  name: string;
  kind: string;
  repositories: number;
}

async function deleted(): Promise<Listed[]> {
  const answer = await su.get("/superuser/deleted");
  expect(answer.status).toBe(200);
  return answer.body.namespaces;
}

async function latest(name: string): Promise<Listed> {
  const [first] = await deleted();
  if (first?.name !== name) throw new Error(`${name} is not the latest that was deleted`);
  return first;
}

const restore = (uuid: string, body: unknown = {}, who = su) => who.post(`/superuser/deleted/${uuid}/restore`, body);

/** What must work to prepare or to look. */
async function ok(sent: Promise<{ status: number; text: string; body: unknown }>): Promise<Record<string, never>> {
  const answer = await sent;
  if (answer.status >= 300) throw new Error(`${answer.status} ${answer.text}`);
  return answer.body as Record<string, never>;
}

/** How a pull of the image's manifest by these credentials ends. */
async function pullAs(username: string, secret: string, path: string): Promise<number> {
  return (await world.api.client(username, secret).pullManifest(path, "v1")).status;
}

/** The same with a header that was had before. */
async function pullWith(authorization: string, path: string): Promise<number> {
  const response = await fetch(`${client.url}/v2/${path}/manifests/v1`, { headers: { authorization } });
  await response.body?.cancel();
  return response.status;
}

describe("an organization", () => {
  let image: PushedImage;
  let robotToken: string;
  let bearer: string;
  let oauthToken: string;
  let before: Record<string, unknown>;
  let uuid: string;

  async function everything(name: string): Promise<Record<string, unknown>> {
    const paths = [
      "",
      "/team/owners/members",
      "/team/devs/members",
      "/team/devs/permissions",
      "/prototypes",
      "/applications",
      "/autoprunepolicy/",
      "/immutabilitypolicy/",
      "/robots?permissions=true",
      "/quota",
    ];
    const entries = await Promise.all(
      paths.map(async (path) => [path, await ok(su.get(`/organization/${name}${path}`))] as const),
    );
    return Object.fromEntries(entries);
  }

  beforeAll(async () => {
    await ok(su.post("/organization/", { name: "acme", email: "acme@example.com" }));
    image = await client.pushImage("acme/one", "v1");
    await client.pushImage("acme/two", "v1");
    await client.pushImage("acme/earlier", "v1");
    robotToken = (await ok(su.put("/organization/acme/robots/ci", {}))).token ?? "";
    await ok(su.put("/organization/acme/team/devs", { role: "creator" }));
    for (const member of ["alice", "bob", "acme+ci"])
      await ok(su.put(`/organization/acme/team/devs/members/${member}`));
    await ok(su.put("/repository/acme/one/permissions/team/devs", { role: "write" }));
    await ok(su.put("/repository/acme/one/permissions/user/carol", { role: "read" }));
    await ok(su.put("/repository/acme/one/permissions/user/acme+ci", { role: "write" }));
    const delegate = { kind: "team", name: "devs" };
    await ok(su.post("/organization/acme/prototypes", { role: "read", delegate }));
    await ok(su.post("/organization/acme/autoprunepolicy/", { method: "number_of_tags", value: 100 }));
    await ok(su.post("/organization/acme/immutabilitypolicy/", { tagPattern: "^release-" }));
    await ok(su.post("/organization/acme/quota", { limit_bytes: 1_000_000_000 }));
    const { client_id } = await ok(su.post("/organization/acme/applications", { name: "tool" }));
    const made = await ok(
      su.post(`/organization/acme/applications/${client_id}/tokens`, { title: "t", scope: "org:admin repo:read" }),
    );
    oauthToken = (made.token as unknown as { access_token: string }).access_token;
    bearer = (await world.api.client("acme+ci", robotToken).authorize("repository:acme/one:pull,push")) ?? "";
    expect(await pullWith(bearer, "acme/one")).toBe(200);
    await ok(su.delete("/repository/acme/earlier"));
    before = await everything("acme");
    expect((await world.api.bearer(oauthToken).get("/organization/acme/members")).status).toBe(200);
  });

  test("is nowhere once it was deleted, and its name is free", async () => {
    await ok(su.delete("/organization/acme"));
    const listed = await latest("acme");
    expect(listed).toMatchObject({ kind: "organization", repositories: 2 });
    uuid = listed.uuid;
    expect((await su.get("/organization/acme")).status).toBe(404);
    for (const [path, why] of [
      ["acme/one", "it was deleted with its namespace and can be restored"],
      ["acme/earlier", "it was deleted and can be restored"],
    ] as const) {
      expect(await explainKept(world.api.app, path)).toMatchObject({ state: "waits", reasons: [{ sentence: why }] });
    }
    const { reasons } = await explainKept(world.api.app, image.layers[0]?.digest ?? "");
    expect(reasons.map(({ name }) => name)).toContain("acme/one (deleted)");
    for (const path of ["acme/one", "acme/earlier"]) {
      const statuses = [
        await pullAs("acme+ci", robotToken, path),
        await pullWith(bearer, path),
        (await client.pullManifest(path, "v1")).status,
        (await world.api.client("alice", password).pullManifest(path, "v1")).status,
      ];
      expect(statuses.every((status) => status === 401 || status === 403 || status === 404)).toBe(true);
    }
    const alice = await world.api.as("alice");
    for (const [who, path] of [
      [alice, "/user/"],
      [alice, "/find/all?query=acme"],
      [alice, "/find/all?query=devs"],
      [alice, "/entities/acme?includeTeams=true"],
      [su, "/superuser/organizations/"],
      [su, "/find/all?query=acme"],
      [su, "/find/all?query=ci"],
      [su, "/repository?public=true"],
      [await world.api.as("carol"), "/repository?public=true"],
    ] as const) {
      const answer = await who.get(path);
      expect([path, answer.status, answer.text.includes("acme"), answer.text.includes(uuid)]).toEqual([
        path,
        200,
        false,
        false,
      ]);
    }
    const { client_id } = (before["/applications"] as { applications: { client_id: string }[] }).applications[0] ?? {};
    expect((await su.get(`/app/${client_id}`)).status).toBe(404);
    const authorize = await fetch(
      `${client.url}/oauth/authorize?response_type=token&client_id=${client_id}&scope=repo:read&redirect_uri=http://localhost:8000/o`,
      { redirect: "manual", headers: su.headers },
    );
    expect([authorize.status === 200, (await authorize.text()).includes("tool")]).toEqual([false, false]);
  });

  test("is for superusers alone to bring back", async () => {
    const alice = await world.api.as("alice");
    expect((await alice.get("/superuser/deleted")).status).toBe(403);
    expect((await restore(uuid, {}, alice)).status).toBe(403);
    expect((await alice.delete(`/superuser/deleted/${uuid}`)).status).toBe(403);
  });

  test("comes back with all that was its own", async () => {
    await world.pass(windowMs - dayMs);
    expect((await world.collect()).namespaces).toBe(0);
    expect((await restore(uuid)).body).toEqual({ name: "acme", kind: "organization" });
    expect(await deleted()).toEqual([]);
    const now = await everything("acme");
    for (const path of Object.keys(before)) expect([path, now[path]]).toEqual([path, before[path]]);
    expect((await client.pullManifest("acme/one", "v1")).headers.get("docker-content-digest")).toBe(
      image.descriptor.digest,
    );
    for (const name of ["alice", "bob", "carol"]) expect(await pullAs(name, password, "acme/one")).toBe(200);
    expect((await su.get("/find/repositories?query=two")).text).toContain('"two"');
    const { organizations } = (await (await world.api.as("alice")).get("/user/")).body;
    expect(organizations.map(({ name }: { name: string }) => name)).toEqual(["acme"]);
  });

  test("has its robots log in with their tokens again, and what was given out stays ended", async () => {
    expect(await pullAs("acme+ci", robotToken, "acme/one")).toBe(200);
    expect(await pullWith(bearer, "acme/one")).toBe(401);
    expect((await world.api.bearer(oauthToken).get("/organization/acme/members")).status).toBe(401);
    const fresh = await world.api.client("acme+ci", robotToken).authorize("repository:acme/one:pull");
    expect(await pullWith(fresh ?? "", "acme/one")).toBe(200);
    expect(await pullWith(basicAuthorization("acme+ci", robotToken), "acme/one")).toBe(200);
    const pushed = await world.api.client("acme+ci", robotToken).pushImage("acme/one", "v2");
    expect(pushed.response.status).toBe(201);
  });

  test("leaves deleted what was deleted before it, as long as that can be restored", async () => {
    expect((await client.pullManifest("acme/earlier", "v1")).status).toBe(404);
    const { repositories } = await ok(su.get("/organization/acme/deleted"));
    const [earlier] = repositories as unknown as { uuid: string; name: string }[];
    expect(earlier?.name).toBe("earlier");
    await ok(su.post(`/organization/acme/deleted/${earlier?.uuid}/restore`, {}));
    expect((await client.pullManifest("acme/earlier", "v1")).status).toBe(200);
  });

  test("comes back under another name when its own was taken, with its robots and repositories", async () => {
    await ok(su.delete("/organization/acme"));
    const listed = await latest("acme");
    await ok(su.post("/organization/", { name: "acme", email: "acme@example.com" }));
    const refused = await restore(listed.uuid);
    expect([refused.status, envelopeOf(refused).detail]).toEqual([
      400,
      'The name "acme" has been taken since: restore under another name, given as "name"',
    ]);
    for (const name of ["Upper", "a", "with space", "alice"]) {
      expect((await restore(listed.uuid, { name })).status).toBe(400);
    }
    expect((await restore(listed.uuid, { name: "acme-old" })).body).toEqual({ name: "acme-old", kind: "organization" });
    expect(await pullAs("acme-old+ci", robotToken, "acme-old/one")).toBe(200);
    expect((await client.pullManifest("acme/one", "v1")).status).toBe(404);
    expect((await su.get("/organization/acme")).body.email).toBe("acme@example.com");
    // Its address is another's by now.
    expect((await su.get("/organization/acme-old")).body.email).toBe("");
    const { logs } = (await su.get("/organization/acme-old/logs")).body;
    const [entry] = logs.filter(({ kind }: { kind: string }) => kind === "org_restore");
    expect(entry.metadata).toEqual({ namespace: "acme-old", old_name: "acme", superuser: "admin" });
    await ok(su.delete("/organization/acme"));
    await ok(su.delete("/organization/acme-old"));
  });

  test("can be given up before its time, and leaves no row", async () => {
    const all = await deleted();
    expect(all.map(({ name }) => name)).toEqual(["acme-old", "acme"]);
    for (const one of all) expect((await su.delete(`/superuser/deleted/${one.uuid}`)).status).toBe(204);
    expect(await deleted()).toEqual([]);
    expect((await restore(all[0]?.uuid ?? "")).status).toBe(404);
    const tally = await world.collect();
    expect([tally.namespaces, tally.repositories]).toEqual([2, 3]);
    await world.pass(2 * minuteMs);
    await world.collect();
    expect(await world.stored()).toEqual([]);
    for (const table of ["repository", "manifest", "team", "retired_member", "retired_role", "namespace_quota"]) {
      expect([table, await world.count(table)]).toEqual([table, 0]);
    }
    expect(await world.count("account")).toBe(4);
  });
});

describe("a user", () => {
  let robotToken: string;
  let appToken: string;
  let session: ApiClient;
  let bearer: string;

  beforeAll(async () => {
    await ok(su.post("/organization/", { name: "club", email: "club@example.com" }));
    await client.pushImage("club/app", "v1");
    await ok(su.put("/organization/club/team/crew", { role: "member" }));
    for (const member of ["alice", "bob"]) await ok(su.put(`/organization/club/team/crew/members/${member}`));
    await ok(su.put("/repository/club/app/permissions/team/crew", { role: "read" }));
    await client.pushImage("admin/shared", "v1");
    await ok(su.put("/repository/admin/shared/permissions/user/alice", { role: "read" }));
    await world.api.client("alice", password).pushImage("alice/own", "v1");
    session = await world.api.as("alice");
    robotToken = (await ok(session.put("/user/robots/ci", {}))).token ?? "";
    await ok(session.put("/repository/alice/own/permissions/user/alice+ci", { role: "read" }));
    const { token } = await ok(session.post("/user/apptoken", { title: "laptop" }));
    appToken = (token as unknown as { token_code: string }).token_code;
    expect(await pullAs("$app", appToken, "alice/own")).toBe(200);
    bearer = (await world.api.client("alice", password).authorize("repository:alice/own:pull")) ?? "";
    expect(await pullWith(bearer, "alice/own")).toBe(200);
  });

  test("comes back with repositories, robots, memberships and roles, and has to log in anew", async () => {
    await ok(su.delete("/superuser/users/alice"));
    const listed = await latest("alice");
    expect(listed).toMatchObject({ kind: "user", repositories: 1 });
    expect((await session.get("/user/")).status).toBe(401);
    for (const secret of [password, "wrong"]) expect(await pullAs("alice", secret, "admin/shared")).toBe(401);
    expect(await pullWith(bearer, "alice/own")).toBe(401);
    for (const path of [
      "/organization/club/team/crew/members",
      "/organization/club/members",
      "/repository/admin/shared/permissions/user/",
      "/superuser/users/?disabled=true",
    ]) {
      const answer = await su.get(path);
      expect([path, answer.status, answer.text.includes("alice"), answer.text.includes(listed.uuid)]).toEqual([
        path,
        200,
        false,
        false,
      ]);
    }
    expect((await restore(listed.uuid)).body).toEqual({ name: "alice", kind: "user" });
    for (const path of ["alice/own", "club/app", "admin/shared"]) {
      expect([path, await pullAs("alice", password, path)]).toEqual([path, 200]);
    }
    expect(await pullAs("alice+ci", robotToken, "alice/own")).toBe(200);
    expect((await session.get("/user/")).status).toBe(401);
    expect(await pullAs("$app", appToken, "alice/own")).toBe(401);
    expect(await pullWith(bearer, "alice/own")).toBe(401);
    const again = await world.api.as("alice");
    expect((await again.get("/user/")).body.organizations.map(({ name }: { name: string }) => name)).toEqual(["club"]);
    expect(await world.count("retired_role")).toBe(0);
  });

  test("who is deleted together with an organization is in it again when both are back, whoever came first", async () => {
    const members = async () =>
      (await ok(su.get("/organization/club/team/crew/members"))).members as unknown as { name: string }[];
    for (const order of [
      ["club", "bob"],
      ["bob", "club"],
    ]) {
      await ok(su.delete("/superuser/users/bob"));
      await ok(su.delete("/organization/club"));
      const uuids = new Map((await deleted()).map(({ name, uuid }) => [name, uuid]));
      for (const name of order) expect((await restore(uuids.get(name) ?? "")).status).toBe(200);
      expect((await members()).map(({ name }) => name).sort()).toEqual(["alice", "bob"]);
      expect(await world.count("retired_member")).toBe(0);
    }
    // One that is gone for good is not.
    await ok(su.delete("/superuser/users/bob"));
    await ok(su.delete("/organization/club"));
    const uuids = new Map((await deleted()).map(({ name, uuid }) => [name, uuid]));
    expect((await su.delete(`/superuser/deleted/${uuids.get("bob")}`)).status).toBe(204);
    expect((await world.collect()).namespaces).toBe(1);
    expect((await restore(uuids.get("club") ?? "")).status).toBe(200);
    expect((await members()).map(({ name }) => name)).toEqual(["alice"]);
  });

  test("cannot come back under a name that the config gives rights to", async () => {
    await world.api.user("dave");
    await ok(su.delete("/superuser/users/dave"));
    const { uuid } = await latest("dave");
    expect((await restore(uuid, { name: "admin" })).status).toBe(400);
    expect((await restore(uuid, { name: "davide" })).body).toEqual({ name: "davide", kind: "user" });
    expect((await world.api.client("davide", password).pushImage("davide/x", "v1")).response.status).toBe(201);
  });
});

test("who restores an organization and what removes it are never both right", async () => {
  for (let round = 0; round < 4; round++) {
    const name = `race${round}`;
    await ok(su.post("/organization/", { name, email: `${name}@example.com` }));
    const image = await client.pushImage(`${name}/app`, "v1");
    await ok(su.delete(`/organization/${name}`));
    const { uuid } = await latest(name);
    await world.pass(windowMs + minuteMs);
    const early = round % 2 === 0 ? restore(uuid) : undefined;
    const removing = world.collect();
    const answer = await (early ?? restore(uuid));
    await removing;
    await world.pass(minuteMs);
    await world.collect();
    const pulled = await client.pullManifest(`${name}/app`, "v1");
    expect([answer.status, pulled.status]).toEqual(answer.status === 200 ? [200, 200] : [404, 401]);
    expect((await world.stored()).includes(image.config.digest)).toBe(answer.status === 200);
  }
});

test("a removal that stood still since its repository came back does not take it when it goes with its organization", async () => {
  const { app } = world.api;
  await ok(su.post("/organization/", { name: "twice", email: "twice@example.com" }));
  const image = await client.pushImage("twice/app", "v1");
  await ok(su.delete("/repository/twice/app"));
  const list = (await ok(su.get("/organization/twice/deleted"))) as unknown as { repositories: { uuid: string }[] };
  await world.pass(windowMs + minuteMs);
  // Taken, and about to begin.
  const job = await takeJob(app.db, "repositorygc", { leaseMs: minuteMs });
  expect(job).toBeDefined();
  await ok(su.post(`/organization/twice/deleted/${list.repositories[0]?.uuid}/restore`, {}));
  await ok(su.delete("/organization/twice"));
  const { signal } = new AbortController();
  expect(await purgeRepository(app, Number(job?.payload.repositoryId), new Tally(), signal)).toBeUndefined();
  expect((await restore((await latest("twice")).uuid)).status).toBe(200);
  expect((await client.pullManifest("twice/app", "v1")).status).toBe(200);
  expect(await world.stored()).toContain(image.config.digest);
});
