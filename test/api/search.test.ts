/** Search of repositories and of everything: what is found, and that nothing hidden shows. Source: quay-api, section 16. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { makeOrganization } from "./credentials-world.ts";
import { type Api, type ApiAnswer, type ApiClient, startApi } from "./harness.ts";
import { create, makeTeam, pathsOf } from "./repository-world.ts";

let api: Api;
let alice: ApiClient;
let bob: ApiClient;
let nobody: ApiClient;

beforeAll(async () => {
  api = await startApi({ SUPER_USERS: ["root-user"], FEATURE_SUPERUSERS_FULL_ACCESS: true });
  for (const name of ["alice", "bob", "carol", "root-user"]) await api.user(name);
  alice = await api.as("alice");
  bob = await api.as("bob");
  nobody = await api.nobody();
  await makeOrganization(api, "webworks", "alice");
  await makeOrganization(api, "webhidden", "alice");
  await makeTeam(api, "webworks", "webteam", "member", ["bob"]);
  await makeTeam(api, "webworks", "web-others", "member", ["carol"]);
  for (const path of ["webworks/web-api", "webworks/api_server", "webworks/shop/web.ui", "webhidden/secret-web"]) {
    await create(alice, path);
  }
  await create(alice, "webworks/website", { visibility: "public", description: "open to all" });
  await create(alice, "alice/web", { visibility: "public" });
  await create(bob, "bob/my-web");
  await create(alice, "webworks/web-app", { visibility: "public", repo_kind: "application" });
}, 60_000);
afterAll(() => api.stop());

const find = async (client: ApiClient, query: string, more = "") =>
  pathsOf(await client.get(`/find/repositories?query=${encodeURIComponent(query)}${more}`));

describe("repositories", () => {
  test("are found by the beginning of each word of their name, the whole word first", async () => {
    expect(await find(alice, "web")).toEqual([
      "webhidden/secret-web",
      "alice/web",
      "webworks/web-api",
      "webworks/web-app",
      "webworks/shop/web.ui",
      "webworks/website",
    ]);
    expect(await find(alice, "API")).toEqual(["webworks/web-api", "webworks/api_server"]);
    expect(await find(alice, "serv")).toEqual(["webworks/api_server"]);
    expect(await find(alice, "api_s")).toEqual(["webworks/api_server"]);
    expect(await find(alice, "erver")).toEqual([]);
  });

  test("by several words, by a path inside a namespace, and by the namespace before it", async () => {
    expect(await find(alice, "api web")).toEqual(["webworks/web-api"]);
    expect(await find(alice, "web api nothing")).toEqual([]);
    expect(await find(alice, "shop/web")).toEqual(["webworks/shop/web.ui"]);
    expect(await find(alice, "webworks/web")).toEqual(["webworks/web-api", "webworks/web-app", "webworks/website"]);
    expect(await find(alice, "webworks/")).toHaveLength(5);
  });

  test("only those that one may see; what is hidden is in no count", async () => {
    expect(await find(nobody, "web")).toEqual(["alice/web", "webworks/web-app", "webworks/website"]);
    expect(await find(nobody, "webhidden/")).toEqual([]);
    expect(await find(nobody, "secret")).toEqual([]);
    expect(await find(bob, "web")).toEqual(["alice/web", "bob/my-web", "webworks/web-app", "webworks/website"]);
    await api.grant("bob", "webhidden/secret-web", "read");
    await alice.put("/repository/webworks/api_server/permissions/team/webteam", { role: "read" });
    expect(await find(bob, "secret")).toEqual(["webhidden/secret-web"]);
    expect(await find(bob, "server")).toEqual(["webworks/api_server"]);
    await api.grant("bob", "webhidden/secret-web", "none");
    await alice.delete("/repository/webworks/api_server/permissions/team/webteam");
    expect(await find(bob, "secret")).toEqual([]);
    expect(await find(bob, "server")).toEqual([]);
    expect(await find(await api.as("root-user"), "web")).toHaveLength(7);
  });

  test("an answer is the reference's", async () => {
    const plain = await nobody.get("/find/repositories?query=website");
    const result = {
      kind: "repository",
      title: "repo",
      namespace: {
        kind: "organization",
        title: "org",
        name: "webworks",
        avatar: expect.objectContaining({ kind: "org", name: "webworks" }),
        score: 1,
        href: "/organization/webworks",
      },
      name: "website",
      description: "open to all",
      is_public: true,
      score: 4,
      href: "/repository/webworks/website",
    };
    const page = { has_additional: false, page: 1, page_size: 10, start_index: 0 };
    expect(plain.body).toEqual({ ...page, results: [result] });
    const usage = await nobody.get("/find/repositories?query=website&includeUsage=true");
    expect(usage.body.results).toEqual([{ ...result, last_modified: null, stars: 0, popularity: 0 }]);
  });

  test("pages follow one another and end at the tenth", async () => {
    await api.user("dave");
    const dave = await api.as("dave");
    const names = Array.from({ length: 23 }, (_, index) => `dave/page-me-${String(index).padStart(2, "0")}`);
    for (const path of names) await create(dave, path);
    const seen: string[] = [];
    for (const [page, more] of [
      [1, true],
      [2, true],
      [3, false],
    ] as const) {
      const answer = await dave.get(`/find/repositories?query=page&page=${page}`);
      expect(answer.body).toMatchObject({ page, has_additional: more, start_index: (page - 1) * 10 });
      seen.push(...pathsOf(answer));
    }
    expect(seen).toEqual(names);
    expect((await dave.get("/find/repositories?query=page&page=99")).body).toMatchObject({ page: 10, results: [] });
    expect((await dave.get("/find/repositories?query=page&page=-3")).body.page).toBe(1);
    expect((await dave.get("/find/repositories?query=page&page=x")).status).toBe(400);
    // Everything that may be seen, for an empty query.
    expect((await dave.get("/find/repositories?query=")).body).toMatchObject({ has_additional: true });
  }, 20_000);

  test("what no name can hold finds nothing, and is no error", async () => {
    for (const query of ["%", "we%", "web' or '1'='1", "ü", "web\n-- x", "x".repeat(5000), "*", "___", "...", "{}[]"]) {
      const answer = await nobody.get(`/find/repositories?query=${encodeURIComponent(query)}`);
      expect([query.slice(0, 20), answer.status]).toEqual([query.slice(0, 20), 200]);
    }
    expect(await find(nobody, "we%")).toEqual([]);
    expect((await nobody.get("/find/repositories?query=a%00b")).status).toBe(400);
  });
});

/** `kind name` of each hit, in order. */
const hits = (answer: ApiAnswer): string[] =>
  answer.body.results.map(({ kind, name }: { kind: string; name: string }) => `${kind} ${name}`);

describe("everything", () => {
  test("finds nothing for an empty query", async () => {
    expect((await alice.get("/find/all?query=")).body).toEqual({ results: [] });
    expect((await alice.get("/find/all")).body).toEqual({ results: [] });
  });

  test("gives an admin teams, robots, repositories and namespaces, the nearest first", async () => {
    await api.robot("webworks", "webbot");
    await api.robot("alice", "webhook");
    const answer = await alice.get("/find/all?query=web");
    const found = hits(answer);
    expect(found).toEqual(
      expect.arrayContaining([
        "team webteam",
        "team web-others",
        "robot webworks+webbot",
        "robot alice+webhook",
        "repository web",
        "organization webworks",
        "organization webhidden",
      ]),
    );
    expect(found[0]).toBe("repository web");
    const scores = answer.body.results.map(({ score }: { score: number }) => score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    const robots = answer.body.results.filter(({ kind }: { kind: string }) => kind === "robot");
    expect(robots.map(({ href }: { href: string }) => href).sort()).toEqual([
      "/organization/webworks?tab=robots&showRobot=webworks%2Bwebbot",
      "/user/alice?tab=robots&showRobot=alice%2Bwebhook",
    ]);
  });

  test("gives others what is theirs and what is public", async () => {
    expect(hits(await bob.get("/find/all?query=web")).sort()).toEqual([
      "application web-app",
      "organization webworks",
      "repository my-web",
      "repository web",
      "repository website",
      "team webteam",
    ]);
    expect(hits(await nobody.get("/find/all?query=web")).sort()).toEqual([
      "application web-app",
      "organization webworks",
      "repository web",
      "repository website",
    ]);
    expect((await nobody.get("/find/all?query=bob")).body.results).toEqual([]);
    expect(hits(await nobody.get("/find/all?query=alice"))).toEqual(["user alice"]);
    expect(hits(await bob.get("/find/all?query=bob"))).toEqual(["user bob"]);
  });

  test("tells no address and no token", async () => {
    const { text } = await alice.get("/find/all?query=web");
    expect(text).not.toContain("@");
    expect(text).not.toContain("token");
  });

  test("shows at most five of a kind", async () => {
    for (let index = 0; index < 7; index++) {
      const name = `manyspaces${index}`;
      await makeOrganization(api, name, "alice");
      await create(alice, `${name}/x`, { visibility: "public" });
    }
    for (const client of [alice, bob, nobody]) {
      expect(hits(await client.get("/find/all?query=manyspaces"))).toEqual(
        [0, 1, 2, 3, 4].map((index) => `organization manyspaces${index}`),
      );
    }
  }, 20_000);
});

test("what was in a namespace that is deleted is found no more", async () => {
  await makeOrganization(api, "fleeting", "alice");
  await create(alice, "fleeting/evanescent", { visibility: "public" });
  expect(await find(nobody, "evanescent")).toEqual(["fleeting/evanescent"]);
  expect((await alice.delete("/organization/fleeting")).status).toBe(204);
  expect(await find(nobody, "evanescent")).toEqual([]);
  expect(await find(alice, "fleeting/")).toEqual([]);
  expect(hits(await alice.get("/find/all?query=fleeting"))).toEqual([]);
  const rows = await api.app.db.sql`/* test.words */ select word from repository_word where word = 'evanescent'`;
  expect(rows).toEqual([]);
});
