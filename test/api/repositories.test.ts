/** Repositories through the API: made, shown, listed, changed, deleted. Source: quay-api reference, section 7. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { image, publish } from "../support/content.ts";
import { makeOrganization } from "./credentials-world.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { create, logsOf, makeTeam, pathsOf } from "./repository-world.ts";

let api: Api;
let alice: ApiClient;
let bob: ApiClient;
let nobody: ApiClient;

beforeAll(async () => {
  api = await startApi({ FEATURE_REPO_MIRROR: true, FEATURE_SIGNING: true, FEATURE_QUOTA_MANAGEMENT: true });
  for (const name of ["alice", "bob", "carol"]) await api.user(name);
  alice = await api.as("alice");
  bob = await api.as("bob");
  nobody = await api.nobody();
  await makeOrganization(api, "acme", "alice");
  await makeTeam(api, "acme", "makers", "creator", ["carol"]);
}, 60_000);
afterAll(() => api.stop());

const fresh = (repository: string, more: Record<string, unknown> = {}) => ({
  repository,
  visibility: "private",
  description: "",
  ...more,
});

describe("creating", () => {
  test("in the own namespace by default, and it is there at once for the API and for pushes", async () => {
    const answer = await alice.post("/repository", fresh("first", { description: "mine" }));
    expect([answer.status, answer.body]).toEqual([201, { namespace: "alice", name: "first", kind: "image" }]);
    expect((await alice.get("/repository/alice/first")).body.description).toBe("mine");
    await publish(api.client("alice", "correct-horse-battery"), "alice/first", image("first"), "v1");
    expect((await logsOf(api, "first"))[0]).toEqual({
      kind: "create_repo",
      metadata: expect.objectContaining({ repo: "first", namespace: "alice" }),
    });
  });

  test("in an organization by who may create there; the creator is its admin", async () => {
    const carol = await api.as("carol");
    await create(carol, "acme/tools");
    expect((await carol.get("/repository/acme/tools")).body).toMatchObject({ can_admin: true, is_organization: true });
    const { permissions } = (await alice.get("/repository/acme/tools/permissions/user/")).body;
    expect(Object.keys(permissions)).toEqual(["carol"]);
  });

  test("a namespace where one may not, one that is not there and one that cannot be are refused alike", async () => {
    for (const namespace of ["alice", "nowhere", "No/Name", "a\u2028b"]) {
      const answer = await bob.post("/repository", fresh("x", { namespace }));
      expect([answer.status, envelopeOf(answer).type]).toEqual([403, "insufficient_scope"]);
    }
    const anonymous = await nobody.post("/repository", fresh("x", { namespace: "alice" }));
    expect([anonymous.status, envelopeOf(anonymous).type]).toEqual([401, "invalid_token"]);
    const missing = await nobody.post("/repository", fresh("x"));
    expect(envelopeOf(missing).detail).toBe("Must provide a namespace or must be logged in.");
  });

  test("a name that exists, of another kind too, is Quay's 400", async () => {
    const answer = await alice.post("/repository", fresh("first", { repo_kind: "application" }));
    expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Repository already exists"]);
    expect((await logsOf(api, "first")).filter(({ kind }) => kind === "create_repo")).toHaveLength(1);
  });

  for (const name of ["", "UPPER", "-x", "a//b", "a/../b", "ä", "x".repeat(256), "a b", "a\nb", "a/"]) {
    test(`the name ${JSON.stringify(name.slice(0, 12))} is refused`, async () => {
      const answer = await alice.post("/repository", fresh(name));
      expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Invalid repository name"]);
    });
  }

  test("a NUL, a wrong field and a missing one are 400, and make nothing", async () => {
    const before = pathsOf(await alice.get("/repository?namespace=alice"));
    for (const body of [
      fresh("nul\u0000"),
      fresh("d", { description: "a\u0000b" }),
      fresh("d", { visibility: "secret" }),
      fresh("d", { repo_kind: "chart" }),
      fresh("d", { description: 1 }),
      fresh("d", { description: "x".repeat(65_537) }),
      { repository: "d" },
      [],
      null,
    ]) {
      expect((await alice.post("/repository", body)).status).toBe(400);
    }
    expect((await alice.post("/repository")).status).toBe(400);
    expect((await alice.post("/repository", fresh("d", { description: "x".repeat(1_100_000) }))).status).toBe(413);
    expect(pathsOf(await alice.get("/repository?namespace=alice"))).toEqual(before);
  });

  test("fields that are not asked for are not acted on", async () => {
    const sly = { state: "READ_ONLY", namespace_id: 1, trust_enabled: true, path: "bob/stolen", id: 1, deleted_ms: 1 };
    expect((await alice.post("/repository", fresh("sly", sly))).status).toBe(201);
    const view = (await alice.get("/repository/alice/sly")).body;
    expect(view).toMatchObject({ state: "NORMAL", trust_enabled: false, namespace: "alice", name: "sly" });
    await alice.put("/repository/alice/sly", { description: "said", is_public: true, visibility: "public" });
    expect((await alice.get("/repository/alice/sly")).body).toMatchObject({ is_public: false, description: "said" });
  });

  test("many at once of one name: one is made, the others are told", async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => alice.post("/repository", fresh("race"))));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array(7).fill(400)]);
  });

  test("one of kind application is kept and serves no images", async () => {
    await create(alice, "alice/app", { repo_kind: "application", visibility: "public" });
    expect((await alice.get("/repository/alice/app")).body).toMatchObject({ kind: "application" });
    expect(pathsOf(await alice.get("/repository?namespace=alice"))).not.toContain("alice/app");
    expect(pathsOf(await alice.get("/repository?namespace=alice&repo_kind=application"))).toEqual(["alice/app"]);
    for (const path of ["tag/", `manifest/sha256:${"a".repeat(64)}`]) {
      expect((await alice.get(`/repository/alice/app/${path}`)).status).toBe(501);
    }
    expect((await alice.delete("/repository/alice/app/tag/v1")).status).toBe(501);
    const client = api.client("alice", "correct-horse-battery");
    const pushed = await client.pushImage("alice/app", "v1").catch((error: Error) => error.message);
    expect(typeof pushed === "string" ? pushed : String(pushed.response.status)).toContain("405");
  });
});

describe("the view", () => {
  test("is the reference's, with tags and without", async () => {
    const client = api.client("alice", "correct-horse-battery");
    const content = image("view", { layerSizes: [500, 700] });
    await publish(client, "alice/view", content, "v2");
    await publish(client, "alice/view", content, "v1");
    const { body } = await alice.get("/repository/alice/view");
    expect(body).toEqual({
      namespace: "alice",
      name: "view",
      kind: "image",
      description: "",
      is_public: false,
      is_organization: false,
      is_starred: false,
      status_token: expect.stringMatching(/^[0-9a-f]{64}$/),
      trust_enabled: false,
      tag_expiration_s: 14 * 24 * 3600,
      is_free_account: true,
      state: "NORMAL",
      can_write: true,
      can_admin: true,
      tags: {
        v1: expect.objectContaining({ name: "v1", manifest_digest: content.digest, last_modified: expect.any(String) }),
        v2: expect.objectContaining({ name: "v2", manifest_digest: content.digest }),
      },
    });
    expect(body.tags.v1.size).toBe(1200);
    const bare = (await alice.get("/repository/alice/view?includeTags=false&includeStats=true")).body;
    expect(bare.tags).toBeUndefined();
    expect(bare.stats).toHaveLength(92);
    expect(bare.stats.at(-1).date).toBe(new Date().toISOString().slice(0, 10));
  });

  test("a reader sees what it may do; a public one has no token to tell", async () => {
    await create(alice, "alice/shown", { visibility: "public" });
    const { body } = await bob.get("/repository/alice/shown");
    expect(body).toMatchObject({ is_public: true, can_write: false, can_admin: false, status_token: "" });
    expect((await nobody.get("/repository/alice/shown")).status).toBe(200);
  });

  test("a hidden repository answers like one that is not there", async () => {
    await create(alice, "alice/hidden");
    for (const client of [bob, nobody]) {
      for (const [method, path, body] of [
        ["GET", ""],
        ["PUT", "", { description: "x" }],
        ["DELETE", ""],
        ["POST", "/changevisibility", { visibility: "public" }],
        ["PUT", "/changestate", { state: "READ_ONLY" }],
        ["GET", "/permissions/user/"],
      ] as const) {
        const hidden = await client.send(method, `/repository/alice/hidden${path}`, body);
        const absent = await client.send(method, `/repository/alice/absent${path}`, body);
        expect([hidden.status, hidden.text]).toEqual([absent.status, absent.text]);
        expect(hidden.status).toBe(client === bob ? 403 : 401);
      }
    }
    expect((await alice.get("/repository/alice/absent")).status).toBe(404);
    expect((await alice.get("/repository/alice/%00")).status).toBe(404);
  });
});

describe("changing", () => {
  test("the description needs write and is bounded", async () => {
    await create(alice, "alice/said");
    await api.grant("bob", "alice/said", "read");
    expect((await bob.put("/repository/alice/said", { description: "no" })).status).toBe(403);
    await api.grant("bob", "alice/said", "write");
    expect((await bob.put("/repository/alice/said", { description: "ünïcode\n# page" })).body).toEqual({
      success: true,
    });
    expect((await bob.put("/repository/alice/said", { description: "x".repeat(65_537) })).status).toBe(400);
    expect((await bob.put("/repository/alice/said", { description: null })).status).toBe(400);
    expect((await alice.get("/repository/alice/said")).body.description).toBe("ünïcode\n# page");
    expect((await logsOf(api, "said")).at(-1)).toEqual({
      kind: "set_repo_description",
      metadata: { repo: "said", namespace: "alice", description: "ünïcode\n# page" },
    });
  });

  test("visibility holds for the next pull and the next search", async () => {
    const client = api.client("alice", "correct-horse-battery");
    await publish(client, "alice/seen", image("seen"), "v1");
    const pull = async () => (await api.anonymous.request("/v2/alice/seen/manifests/v1")).status;
    const found = async () => pathsOf(await nobody.get("/find/repositories?query=seen"));
    expect([await pull(), await found()]).toEqual([401, []]);
    await alice.post("/repository/alice/seen/changevisibility", { visibility: "public" });
    expect([await pull(), await found()]).toEqual([200, ["alice/seen"]]);
    expect((await alice.post("/repository/alice/seen/changevisibility", { visibility: "open" })).status).toBe(400);
    await alice.post("/repository/alice/seen/changevisibility", { visibility: "private" });
    expect([await pull(), await found()]).toEqual([401, []]);
    expect((await logsOf(api, "seen")).at(-1)).toEqual({
      kind: "change_repo_visibility",
      metadata: { repo: "seen", namespace: "alice", visibility: "private" },
    });
  });

  test("READ_ONLY and MIRROR refuse the next push; reading goes on", async () => {
    const client = api.client("alice", "correct-horse-battery");
    await publish(client, "alice/frozen", image("frozen"), "v1");
    for (const state of ["READ_ONLY", "MIRROR"]) {
      expect((await alice.put("/repository/alice/frozen/changestate", { state })).body).toEqual({ success: true });
      expect((await alice.get("/repository/alice/frozen")).body).toMatchObject({ state, can_write: true });
      expect((await client.request("/v2/alice/frozen/manifests/v1")).status).toBe(200);
      const pushed = await publish(client, "alice/frozen", image(`frozen ${state}`), "v2").catch(() => "refused");
      expect(pushed).toBe("refused");
    }
    for (const state of ["MARKED_FOR_DELETION", "normal", "", null]) {
      expect((await alice.put("/repository/alice/frozen/changestate", { state })).status).toBe(400);
    }
    await alice.put("/repository/alice/frozen/changestate", { state: "NORMAL" });
    await publish(client, "alice/frozen", image("thawed"), "v2");
    const entries = (await logsOf(api, "frozen")).filter(({ kind }) => kind === "change_repo_state");
    expect(entries.map(({ metadata }) => metadata.state_changed)).toEqual(["READ_ONLY", "MIRROR", "NORMAL"]);
  });

  test("trust is kept and shown", async () => {
    await create(alice, "alice/signed");
    expect((await alice.post("/repository/alice/signed/changetrust", { trust_enabled: true })).status).toBe(200);
    expect((await alice.get("/repository/alice/signed")).body.trust_enabled).toBe(true);
    expect((await alice.post("/repository/alice/signed/changetrust", { trust_enabled: "yes" })).status).toBe(400);
    expect((await logsOf(api, "signed")).at(-1)?.metadata).toMatchObject({ trust_enabled: true });
  });

  test("tokens of repositories are gone, and say so to its admins alone", async () => {
    for (const [method, path] of [
      ["GET", "tokens/"],
      ["POST", "tokens/"],
      ["GET", "tokens/abc"],
      ["PUT", "tokens/abc"],
      ["DELETE", "tokens/abc"],
    ] as const) {
      expect((await alice.send(method, `/repository/alice/first/${path}`)).status).toBe(410);
      expect((await bob.send(method, `/repository/alice/first/${path}`)).status).toBe(403);
    }
  });
});

describe("deleting", () => {
  test("takes it out of everything at once and frees its name", async () => {
    const client = api.client("alice", "correct-horse-battery");
    await publish(client, "alice/doomed-thing", image("doomed"), "v1");
    const { id } = await api.repository("alice/doomed-thing");
    await alice.post("/repository/alice/doomed-thing/changevisibility", { visibility: "public" });
    await bob.post("/user/starred", { namespace: "alice", repository: "doomed-thing" });
    await alice.put("/repository/alice/doomed-thing/permissions/user/carol", { role: "write" });
    expect((await api.anonymous.request("/v2/alice/doomed-thing/manifests/v1")).status).toBe(200);

    expect((await bob.delete("/repository/alice/doomed-thing")).status).toBe(403);
    expect((await alice.delete("/repository/alice/doomed-thing")).status).toBe(204);

    expect((await client.request("/v2/alice/doomed-thing/manifests/v1")).status).toBe(404);
    expect((await alice.get("/repository/alice/doomed-thing")).status).toBe(404);
    expect((await alice.delete("/repository/alice/doomed-thing")).status).toBe(404);
    for (const [who, path] of [
      [alice, "/repository?namespace=alice"],
      [alice, "/repository?public=true"],
      [bob, "/repository?starred=true"],
      [bob, "/user/starred"],
      [bob, "/find/repositories?query=doomed"],
      [bob, "/find/repositories?query=thing"],
    ] as const) {
      expect((await who.get(path)).text).not.toContain("doomed");
    }
    const [job] = await api.app.db.sql`/* test.job */
      select queue, payload, attempts_left from job where queue = 'repositorygc' and dedupe_key = ${String(id)}`;
    expect(JSON.parse(String(job?.payload))).toEqual({ repositoryId: Number(id) });
    expect((await logsOf(api, "doomed-thing")).at(-1)).toEqual({
      kind: "delete_repo",
      metadata: { repo: "doomed-thing", namespace: "alice" },
    });

    await create(alice, "alice/doomed-thing");
    const again = (await alice.get("/repository/alice/doomed-thing")).body;
    expect(again).toMatchObject({ is_public: false, tags: {}, description: "" });
    expect((await alice.get("/repository/alice/doomed-thing/permissions/user/")).body.permissions).toEqual({});
    expect((await client.request("/v2/alice/doomed-thing/manifests/v1")).status).toBe(404);
    expect((await bob.get("/user/starred")).body.repositories).toEqual([]);
  });

  test("two deletions at once: one does it", async () => {
    await create(alice, "alice/twice");
    const answers = await Promise.all([1, 2, 3].map(() => alice.delete("/repository/alice/twice")));
    expect(answers.map(({ status }) => status).sort()).toEqual([204, 404, 404]);
  });
});

describe("lists", () => {
  test("want to be told what of", async () => {
    const answer = await alice.get("/repository");
    expect(envelopeOf(answer).detail).toBe("namespace, starred or public are required for this API call");
    expect((await nobody.get("/repository?starred=true")).status).toBe(401);
    expect((await alice.get("/repository?public=true&repo_kind=chart")).status).toBe(400);
    expect((await alice.get("/repository?public=true&next_page=forged")).status).toBe(400);
  });

  test("a row has what was asked for", async () => {
    await create(alice, "alice/row", { visibility: "public", description: "about" });
    const plain = (await alice.get("/repository?namespace=alice")).body.repositories;
    const row = {
      namespace: "alice",
      name: "row",
      description: "about",
      is_public: true,
      kind: "image",
      state: "NORMAL",
      quota_report: { quota_bytes: expect.any(Number), configured_quota: null },
      is_starred: false,
    };
    expect(plain.find(({ name }: { name: string }) => name === "row")).toEqual(row);
    const full = (await alice.get("/repository?namespace=alice&last_modified=true&popularity=true")).body.repositories;
    expect(full.find(({ name }: { name: string }) => name === "row")).toEqual({
      ...row,
      last_modified: null,
      popularity: 0,
    });
    const pushed = full.find(({ name }: { name: string }) => name === "view");
    expect(Math.abs(pushed.last_modified - Date.now() / 1000)).toBeLessThan(120);
    const seen = (await nobody.get("/repository?public=true")).body.repositories;
    expect(seen.find(({ name }: { name: string }) => name === "row").is_starred).toBeUndefined();
  });

  test("each sees its own, what it was given and, when asked, what is public", async () => {
    await api.user("dora");
    await makeTeam(api, "acme", "readers", "member", ["dora"]);
    const dora = await api.as("dora");
    for (const path of ["acme/by-team", "acme/by-name", "acme/closed"]) await create(alice, path);
    await create(alice, "acme/open", { visibility: "public" });
    await create(dora, "dora/own");
    await alice.put("/repository/acme/by-team/permissions/team/readers", { role: "read" });
    await alice.put("/repository/acme/by-name/permissions/user/dora", { role: "read" });
    const listed = async (client: ApiClient, query: string) => pathsOf(await client.get(`/repository?${query}`));
    expect(await listed(dora, "namespace=acme")).toEqual(["acme/by-name", "acme/by-team"]);
    expect(await listed(dora, "namespace=acme&public=true")).toEqual(["acme/by-name", "acme/by-team", "acme/open"]);
    expect(await listed(dora, "namespace=dora")).toEqual(["dora/own"]);
    expect(await listed(nobody, "namespace=acme&public=true")).toEqual(["acme/open"]);
    expect(await listed(nobody, "namespace=acme")).toEqual([]);
    expect(await listed(dora, "namespace=nowhere&public=true")).toEqual([]);
    expect(await listed(dora, "namespace=acm&public=true")).toEqual([]);
    expect(await listed(alice, "namespace=acme")).toEqual(
      expect.arrayContaining(["acme/by-name", "acme/by-team", "acme/closed", "acme/open", "acme/tools"]),
    );
    const all = await listed(dora, "public=true");
    expect(all).toEqual([...all].sort());
    expect(all).toEqual(expect.arrayContaining(["dora/own", "acme/by-team", "acme/open", "alice/row"]));
    expect(all).not.toContain("acme/closed");
  });

  test("go on after a hundred, without gap and without repeating", async () => {
    await api.user("erin");
    const erin = await api.as("erin");
    const names = Array.from({ length: 205 }, (_, index) => `erin/r${String(index).padStart(3, "0")}`);
    for (let at = 0; at < names.length; at += 25) {
      await Promise.all(names.slice(at, at + 25).map((path) => create(erin, path)));
    }
    const seen: string[] = [];
    const lengths: number[] = [];
    let next = "";
    for (let round = 0; round < 5; round++) {
      const page = await erin.get(`/repository?namespace=erin${next && `&next_page=${encodeURIComponent(next)}`}`);
      seen.push(...pathsOf(page));
      lengths.push(pathsOf(page).length);
      next = page.body.next_page ?? "";
      if (next === "") break;
    }
    expect(lengths).toEqual([100, 100, 5]);
    expect(seen).toEqual(names);
  }, 60_000);
});
