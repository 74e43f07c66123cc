/** Robots over HTTP: of users and of organizations, who sees their tokens, and how long a token is good. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { basicOf, eventually, password } from "../registry/harness.ts";
import { image, publish } from "../support/content.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { entriesOf } from "./sign-in.ts";

let api: Api;
let alice: ApiClient;
let bob: ApiClient;
let restricted: ApiClient;

beforeAll(async () => {
  api = await startApi({
    FEATURE_RESTRICTED_USERS: true,
    RESTRICTED_USERS_WHITELIST: ["alice", "bob", "admin"],
    FEATURE_SUPERUSERS_FULL_ACCESS: true,
  });
  for (const name of ["alice", "bob", "limited"]) await api.user(name);
  [alice, bob, restricted] = [await api.as("alice"), await api.as("bob"), await api.as("limited")];
  await alice.post("/organization/", { name: "acme" });
  await alice.put("/organization/acme/team/devs", { role: "member" });
  await alice.put("/organization/acme/team/devs/members/bob");
}, 60_000);
afterAll(() => api.stop());

async function logIn(name: string, secret: string): Promise<number> {
  return (await fetch(`${api.berth.url}/v2/auth`, { headers: basicOf(name, secret) })).status;
}

const bases = [
  ["a user", "/user/robots", "alice"],
  ["an organization", "/organization/acme/robots", "acme"],
] as const;

describe.each(bases)("robots of %s", (_, base, namespace) => {
  test("are made, shown, given a new token and deleted", async () => {
    const metadata = { pipeline: "release", nested: { list: [1, "two", null] } };
    const made = await alice.put(`${base}/ci`, {
      description: "builds",
      unstructured_metadata: metadata,
      token: "mine",
    });
    expect([made.status, made.body]).toMatchObject([
      201,
      { name: `${namespace}+ci`, description: "builds", unstructured_metadata: metadata, last_accessed: null },
    ]);
    const { token } = made.body;
    expect(token).toMatch(/^[A-Z0-9]{64}$/);
    expect(await logIn(`${namespace}+ci`, token)).toBe(200);
    const show = async () => (await alice.get(`${base}/ci`)).body;
    expect(await show()).toMatchObject({ token, unstructured_metadata: metadata });
    // Written beside the answer.
    await eventually(async () => (await show()).last_accessed !== null);
    const entry = { robot: "ci", description: "builds", unstructured_metadata: metadata };
    expect(await entriesOf(api, "create_robot")).toContainEqual(entry);

    const renewed = await alice.post(`${base}/ci/regenerate`);
    expect([renewed.status, renewed.body.token === token]).toEqual([200, false]);
    expect(await logIn(`${namespace}+ci`, token)).toBe(401);
    expect(await logIn(`${namespace}+ci`, renewed.body.token)).toBe(200);
    expect(await entriesOf(api, "regenerate_robot_token")).toContainEqual({ robot: "ci" });

    expect((await alice.delete(`${base}/ci`)).status).toBe(204);
    expect(await logIn(`${namespace}+ci`, renewed.body.token)).toBe(401);
    expect(await entriesOf(api, "delete_robot")).toContainEqual({ robot: "ci" });
    for (const answer of [
      await alice.get(`${base}/ci`),
      await alice.delete(`${base}/ci`),
      await alice.post(`${base}/ci/regenerate`),
      await alice.get(`${base}/ci/permissions`),
    ]) {
      expect([answer.status, envelopeOf(answer).detail]).toEqual([400, "Could not find robot with specified username"]);
    }
    // The name is free, and the new robot is another one.
    expect((await alice.put(`${base}/ci`)).status).toBe(201);
    expect((await alice.get(`${base}/ci`)).body).toMatchObject({ description: "", unstructured_metadata: {} });
    await alice.delete(`${base}/ci`);
  });
  test("one of a name, however many ask at once", async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => alice.put(`${base}/once`)));
    expect(answers.map((answer) => answer.status).sort()).toEqual([201, ...Array(7).fill(400)]);
    const refused = answers.find((answer) => answer.status === 400);
    expect(refused && envelopeOf(refused).detail).toBe(`Existing robot with name: ${namespace}+once`);
    await alice.delete(`${base}/once`);
  });
  test.each([
    ["a name that cannot be", "No%20Good", {}, /^The name for the robot 'No Good' is invalid: /],
    ["another plus", "a%2Bb", {}, /^The name for the robot 'a\+b' is invalid: /],
    ["a slash", "a%2Fb", {}, /is invalid: /],
    ["a short name", "x", {}, /between 2 and 255/],
    ["a long description", "wordy", { description: "x".repeat(256) }, /description/],
    ["metadata that is a list", "listy", { unstructured_metadata: ["x"] }, /unstructured_metadata/],
    ["a body that is no object", "body", ["x"], /./],
  ] as const)("%s is refused", async (_, short, body, text) => {
    const answer = await alice.put(`${base}/${short}`, body);
    expect(answer.status).toBe(400);
    expect(envelopeOf(answer).detail).toMatch(text);
  });
  test("more than a megabyte of metadata is refused", async () => {
    const answer = await alice.put(`${base}/heavy`, { unstructured_metadata: { x: "x".repeat(1024 * 1024) } });
    expect(answer.status).toBe(413);
    expect((await alice.get(`${base}/heavy`)).status).toBe(400);
  });
  test("are listed by name, with tokens and rights when asked for", async () => {
    for (const short of ["zeta", "alpha", "mid"]) await alice.put(`${base}/${short}`);
    await publish(api.client("alice", password), `${namespace}/app`, image(namespace), "v1");
    await api.grant(`${namespace}+mid`, `${namespace}/app`, "write");
    const { robots } = (await alice.get(base)).body;
    expect(robots.map((robot: { name: string }) => robot.name.split("+")[1])).toEqual(["alpha", "mid", "zeta"]);
    expect(Object.keys(robots[0]).sort()).toEqual(["created", "description", "last_accessed", "name", "token"]);
    const full = (await alice.get(`${base}?permissions=true&token=false&limit=2`)).body.robots;
    expect(full).toHaveLength(2);
    expect(full[1]).toMatchObject({ teams: [], repositories: ["app"] });
    expect(full[1].token).toBeUndefined();
    const seen: string[] = [];
    for (let page = (await alice.get(`${base}?limit=2`)).body; ; ) {
      seen.push(...page.robots.map((robot: { name: string }) => robot.name));
      if (!page.next_page) break;
      page = (await alice.get(`${base}?limit=2&next_page=${encodeURIComponent(page.next_page)}`)).body;
    }
    expect(seen).toEqual(["alpha", "mid", "zeta"].map((short) => `${namespace}+${short}`));
    expect((await alice.get(`${base}?next_page=forged`)).status).toBe(400);
    expect((await alice.get(`${base}/mid/permissions`)).body).toEqual({
      permissions: [{ repository: { name: "app", is_public: false }, role: "write" }],
    });
    for (const limit of ["0", "-1", "x", "1e9"]) expect((await alice.get(`${base}?limit=${limit}`)).status).toBe(400);
    for (const short of ["zeta", "alpha", "mid"]) await alice.delete(`${base}/${short}`);
  });
  test("rights end with the robot, and do not come back with its name", async () => {
    const { token } = (await alice.put(`${base}/puller`)).body;
    await publish(api.client("alice", password), `${namespace}/rights`, image(`rights of ${namespace}`), "v1");
    await api.grant(`${namespace}+puller`, `${namespace}/rights`, "read");
    const robot = api.client(`${namespace}+puller`, token);
    expect((await robot.pullManifest(`${namespace}/rights`, "v1")).status).toBe(200);
    await alice.delete(`${base}/puller`);
    expect((await robot.pullManifest(`${namespace}/rights`, "v1")).status).toBe(401);
    const again = (await alice.put(`${base}/puller`)).body;
    const other = api.client(`${namespace}+puller`, again.token);
    expect((await other.pullManifest(`${namespace}/rights`, "v1")).status).toBe(401);
    await alice.delete(`${base}/puller`);
  });
});

describe("who sees and changes what", () => {
  test("members see robots without tokens and rights, strangers nothing", async () => {
    await alice.put("/organization/acme/robots/seen", { description: "for all" });
    const { robots } = (await bob.get("/organization/acme/robots?permissions=true&token=true")).body;
    const [robot] = robots.filter((found: { name: string }) => found.name === "acme+seen");
    expect(Object.keys(robot).sort()).toEqual(["created", "description", "last_accessed", "name"]);
    for (const path of ["/seen", "/seen/permissions"]) {
      expect((await bob.get(`/organization/acme/robots${path}`)).status).toBe(403);
    }
    expect((await bob.put("/organization/acme/robots/mine")).status).toBe(403);
    expect((await bob.delete("/organization/acme/robots/seen")).status).toBe(403);
    expect((await bob.post("/organization/acme/robots/seen/regenerate")).status).toBe(403);
    expect((await restricted.get("/organization/acme/robots")).status).toBe(403);
    expect((await (await api.nobody()).get("/organization/acme/robots")).status).toBe(401);
  });
  test("a superuser with full access sees and makes them", async () => {
    const admin = await api.as("admin");
    expect((await admin.get("/organization/acme/robots/seen")).body.token).toHaveLength(64);
    expect((await admin.put("/organization/acme/robots/by-admin")).status).toBe(201);
  });
  test("robots of others and of other namespaces are not there", async () => {
    await alice.put("/user/robots/private");
    expect((await bob.get("/user/robots/private")).status).toBe(400);
    expect((await bob.delete("/user/robots/private")).status).toBe(400);
    expect((await alice.get("/organization/acme/robots/private")).status).toBe(400);
    expect((await bob.get("/user/robots")).body).toEqual({ robots: [] });
    expect((await alice.get("/organization/bob/robots")).status).toBe(404);
  });
  test("a restricted user reads its robots and changes none", async () => {
    await api.robot("limited", "old");
    expect((await restricted.get("/user/robots/old")).status).toBe(200);
    for (const answer of [
      await restricted.put("/user/robots/new"),
      await restricted.delete("/user/robots/old"),
      await restricted.post("/user/robots/old/regenerate"),
    ]) {
      const { detail } = envelopeOf(answer);
      expect([answer.status, detail]).toEqual([403, "Operation not allowed on restricted user owned namespace"]);
    }
    const made = await restricted.post("/organization/", { name: "limited-org" });
    expect([made.status, envelopeOf(made).detail]).toEqual([403, "Disallowed for restricted users."]);
  });
});

test("a robot of an organization pushes where it may, whoever is restricted", async () => {
  const { name, token } = (await alice.put("/organization/acme/robots/pusher")).body;
  await alice.put("/organization/acme/team/pushers", { role: "creator" });
  expect((await alice.put(`/organization/acme/team/pushers/members/${name}`)).status).toBe(200);
  await publish(api.client(name, token), "acme/by-robot", image("by robot"), "v1");
  expect((await api.client("alice", password).pullManifest("acme/by-robot", "v1")).status).toBe(200);
  const [robot] = (await alice.get("/organization/acme/robots?permissions=true")).body.robots.filter(
    (found: { name: string }) => found.name === name,
  );
  expect(robot).toMatchObject({ teams: [{ name: "pushers" }], repositories: ["by-robot"] });
});

test("ROBOTS_DISALLOW leaves room for those of the whitelist alone", async () => {
  const strict = await startApi({ ROBOTS_DISALLOW: true, ROBOTS_WHITELIST: ["dora+mirror"] });
  try {
    await strict.user("dora");
    const dora = await strict.as("dora");
    expect((await dora.put("/user/robots/mirror")).status).toBe(201);
    const refused = await dora.put("/user/robots/other");
    expect(refused.status).toBe(400);
    expect(envelopeOf(refused).detail).toContain("ROBOTS_DISALLOW");
  } finally {
    await strict.stop();
  }
}, 60_000);
