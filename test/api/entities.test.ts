/** Whom one can give a role. Source: quay-api reference, section 16. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { makeOrganization } from "./credentials-world.ts";
import { type Api, type ApiAnswer, type ApiClient, startApi } from "./harness.ts";
import { makeTeam } from "./repository-world.ts";

let api: Api;
let alice: ApiClient;
let bob: ApiClient;

beforeAll(async () => {
  api = await startApi();
  for (const name of ["alice", "bob", "devon", "devorah", "dana"]) await api.user(name);
  alice = await api.as("alice");
  bob = await api.as("bob");
  await makeOrganization(api, "devs", "alice");
  await makeTeam(api, "devs", "developers", "member", ["bob", "devon"]);
  await api.robot("devs", "deploy");
  await api.robot("bob", "deploy");
}, 60_000);
afterAll(() => api.stop());

const names = (answer: ApiAnswer): string[] =>
  answer.body.results.map(({ kind, name }: { kind: string; name: string }) => `${kind} ${name}`);

describe("entities", () => {
  test("are users by the beginning of their name", async () => {
    const { body } = await bob.get("/entities/dev");
    const avatar = expect.objectContaining({ kind: "user" });
    expect(body).toEqual({
      results: [
        { name: "devon", kind: "user", is_robot: false, avatar },
        { name: "devorah", kind: "user", is_robot: false, avatar },
      ],
    });
    expect(names(await bob.get("/entities/DEVO"))).toEqual(["user devon", "user devorah"]);
  });

  test("of an organization also its teams and robots, to members; its own name to admins", async () => {
    const query = "namespace=devs&includeTeams=true&includeOrgs=true";
    const member = await bob.get(`/entities/de?${query}`);
    expect(names(member)).toEqual(["team developers", "user devon", "user devorah", "user devs+deploy"]);
    const [team, devon, devorah, robot] = member.body.results;
    expect([team.is_org_member, devon.is_org_member, devorah.is_org_member]).toEqual([true, true, false]);
    expect(robot).toMatchObject({ is_robot: true, is_org_member: true });
    expect(names(await alice.get(`/entities/de?${query}`))).toEqual([...names(member), "org devs"]);
    const stranger = await (await api.as("dana")).get(`/entities/de?${query}`);
    expect(names(stranger)).toEqual(["user devon", "user devorah"]);
    expect(names(await alice.get("/entities/de?namespace=devs"))).not.toContain("team developers");
    expect(names(await alice.get("/entities/devs+dep?namespace=devs"))).toEqual(["user devs+deploy"]);
  });

  test("of oneself the own robots, of another user none", async () => {
    expect(names(await bob.get("/entities/dep?namespace=bob"))).toEqual(["user bob+deploy"]);
    expect(names(await alice.get("/entities/dep?namespace=bob"))).toEqual([]);
    expect((await bob.get("/entities/dep?namespace=bob")).body.results[0]).not.toHaveProperty("is_org_member");
  });

  test("are not told to nobody, nor by address", async () => {
    expect((await (await api.nobody()).get("/entities/dev?namespace=devs&includeTeams=true")).body.results).toEqual([]);
    const [row] = await api.app.db.sql`/* test.email */
      update account set email = 'devon@example.com' where username = 'devon' returning id`;
    expect(row).toBeDefined();
    expect((await bob.get("/entities/devon@example.com")).body.results).toEqual([]);
    const before = (await bob.get("/entities/devon")).body.results;
    expect(JSON.stringify(before)).not.toContain("example.com");
    // The picture is made of the name: one of the address would let a guess be checked.
    expect(before[0].avatar.hash).toBe(new Bun.CryptoHasher("sha256").update("devon").digest("hex"));
  });

  test("what no name can hold finds nothing", async () => {
    for (const prefix of ["%25", "_", "a'%20or%201=1--", "%C3%BC", "+", "x".repeat(600)]) {
      const answer = await bob.get(`/entities/${prefix}`);
      expect([prefix, answer.status, answer.body]).toEqual([prefix, 200, { results: [] }]);
    }
    expect((await bob.get("/entities/a%00b")).status).toBe(404);
  });

  test("cannot be linked: there is no other directory", async () => {
    expect((await bob.post("/entities/link/devon")).status).toBe(404);
  });

  test("with FEATURE_PARTIAL_USER_AUTOCOMPLETE off, users are found by their whole name alone", async () => {
    const closed = await startApi({ FEATURE_PARTIAL_USER_AUTOCOMPLETE: false });
    try {
      for (const name of ["erin", "erina"]) await closed.user(name);
      await closed.robot("erin", "runner");
      const erin = await closed.as("erin");
      expect(names(await erin.get("/entities/eri"))).toEqual([]);
      expect(names(await erin.get("/entities/erin"))).toEqual(["user erin"]);
      expect(names(await erin.get("/entities/run?namespace=erin"))).toEqual(["user erin+runner"]);
    } finally {
      await closed.stop();
    }
  }, 30_000);
});
