/** Stars. Source: quay-api reference, section 2. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";
import { create, pathsOf } from "./repository-world.ts";

let api: Api;
let alice: ApiClient;
let bob: ApiClient;

beforeAll(async () => {
  api = await startApi();
  for (const name of ["alice", "bob"]) await api.user(name);
  alice = await api.as("alice");
  bob = await api.as("bob");
  await create(alice, "alice/open", { visibility: "public", description: "for all" });
  await create(alice, "alice/closed");
  await create(bob, "bob/own");
}, 60_000);
afterAll(() => api.stop());

const star = (client: ApiClient, namespace: string, repository: string) =>
  client.post("/user/starred", { namespace, repository });

describe("starring", () => {
  test("is idempotent, listed, shown where repositories are, and taken back", async () => {
    for (let round = 0; round < 2; round++) {
      const answer = await star(bob, "alice", "open");
      expect([answer.status, answer.body]).toEqual([201, { namespace: "alice", repository: "open" }]);
    }
    await star(bob, "bob", "own");
    expect((await bob.get("/user/starred")).body).toEqual({
      repositories: [
        { namespace: "alice", name: "open", description: "for all", is_public: true },
        { namespace: "bob", name: "own", description: "", is_public: false },
      ],
    });
    expect(pathsOf(await bob.get("/repository?starred=true"))).toEqual(["alice/open", "bob/own"]);
    expect((await bob.get("/repository/alice/open")).body.is_starred).toBe(true);
    expect((await alice.get("/repository/alice/open")).body.is_starred).toBe(false);
    expect((await alice.get("/user/starred")).body).toEqual({ repositories: [] });
    const found = (await bob.get("/find/repositories?query=open&includeUsage=true")).body.results;
    expect(found[0].stars).toBe(1);
    for (let round = 0; round < 2; round++) expect((await bob.delete("/user/starred/alice/open")).status).toBe(204);
    expect(pathsOf(await bob.get("/user/starred"))).toEqual(["bob/own"]);
  });

  test("one that is hidden and one that is not there are refused alike, and cannot be told by taking a star away", async () => {
    const hidden = await star(bob, "alice", "closed");
    const absent = await star(bob, "alice", "nothing");
    expect([hidden.status, hidden.text]).toEqual([absent.status, absent.text]);
    expect(hidden.status).toBe(403);
    for (const name of ["closed", "nothing"]) {
      expect((await bob.delete(`/user/starred/alice/${name}`)).status).toBe(204);
    }
  });

  test("a star on what is no longer to be seen is not shown, and comes back with the right", async () => {
    await api.grant("bob", "alice/closed", "read");
    expect((await star(bob, "alice", "closed")).status).toBe(201);
    expect(pathsOf(await bob.get("/user/starred"))).toContain("alice/closed");
    await api.grant("bob", "alice/closed", "none");
    expect((await bob.get("/user/starred")).text).not.toContain("closed");
    expect((await bob.get("/repository?starred=true")).text).not.toContain("closed");
    await api.grant("bob", "alice/closed", "read");
    expect(pathsOf(await bob.get("/user/starred"))).toContain("alice/closed");
    await api.grant("bob", "alice/closed", "none");
  });

  test("wants a repository's name", async () => {
    for (const body of [{}, { namespace: "alice" }, { namespace: "a/b", repository: "../x" }, { namespace: 1 }]) {
      expect((await bob.post("/user/starred", body)).status).toBe(400);
    }
    expect(envelopeOf(await star(bob, "alice", "Ünsinn")).detail).toStartWith("Invalid repository name");
    expect((await (await api.nobody()).get("/user/starred")).status).toBe(401);
  });

  test("lists go on after a hundred", async () => {
    const names = Array.from({ length: 103 }, (_, index) => `bob/s${String(index).padStart(3, "0")}`);
    for (const path of names) {
      await create(bob, path);
      expect((await star(bob, "bob", path.slice(4))).status).toBe(201);
    }
    const first = await bob.get("/user/starred");
    const second = await bob.get(`/user/starred?next_page=${encodeURIComponent(first.body.next_page)}`);
    expect(second.body.next_page).toBeUndefined();
    expect([...pathsOf(first), ...pathsOf(second)]).toEqual(["bob/own", ...names]);
    // A token is good for the list it came from alone.
    expect((await bob.get(`/repository?starred=true&next_page=${first.body.next_page}`)).status).toBe(400);
  }, 30_000);
});
