/** Users and organizations in the hands of superusers. Source: quay-api reference, section 15. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { password } from "../registry/harness.ts";
import { basicAuthorization } from "../support/registry-client.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

let api: Api;
let su: ApiClient;
beforeAll(async () => {
  api = await startApi();
  for (const name of ["alice", "bob", "carol", "stranger"]) await api.user(name);
  su = await api.as("admin");
}, 60_000);
afterAll(() => api.stop());

/** The newest log entry of a kind: what was noted, and in which namespace. */
async function logged(kind: string) {
  const [row] = await api.app.db.sql<{ metadata: string; namespace_id: number | null; performer: string }>`
    /* test.logged */ select l.metadata, l.namespace_id, a.username as performer
    from action_log l join account a on a.id = l.performer_id where l.kind = ${kind} order by l.id desc limit 1`;
  return row && { ...row, metadata: JSON.parse(row.metadata) };
}

/** What a log-in of a command line client is answered. */
async function loginStatus(name: string, secret: string): Promise<number> {
  const headers = { authorization: basicAuthorization(name, secret) };
  return (await fetch(`${api.berth.url}/v2/`, { headers })).status;
}

const invalid = (detail: string) => ({ type: "invalid_request", detail, decision: undefined });

describe("who may", () => {
  const calls: [method: string, path: string, body?: object][] = [
    ["GET", "/superuser/users/"],
    ["POST", "/superuser/users/", { username: "mallory" }],
    ["GET", "/superuser/users/bob"],
    ["PUT", "/superuser/users/bob", { enabled: false }],
    ["DELETE", "/superuser/users/bob"],
    ["POST", "/superuser/takeownership/bob"],
    ["GET", "/superuser/organizations/"],
    ["PUT", "/superuser/organizations/acme", { name: "other" }],
    ["DELETE", "/superuser/organizations/acme"],
  ];
  for (const [method, path, body] of calls) {
    test(`${method} ${path} is for superusers alone`, async () => {
      const user = await (await api.as("alice")).send(method, path, body);
      expect([user.status, envelopeOf(user)]).toEqual([
        403,
        { type: "insufficient_scope", detail: "Unauthorized", decision: "not-superuser" },
      ]);
      const nobody = await (await api.nobody()).send(method, path, body);
      expect([nobody.status, envelopeOf(nobody).decision]).toEqual([401, "anonymous"]);
    });
  }
});

describe("users", () => {
  test("are listed page by page, with and without the disabled ones", async () => {
    await api.enabled("carol", false);
    const first = await su.get("/superuser/users/?limit=2");
    expect(first.body.users.map((user: { name: string }) => user.name)).toEqual(["admin", "alice"]);
    const second = await su.get(`/superuser/users/?limit=100&next_page=${encodeURIComponent(first.body.next_page)}`);
    expect(second.body.users.map((user: { name: string }) => user.name)).toEqual(["bob", "carol", "stranger"]);
    expect(second.body.next_page).toBeUndefined();
    const enabled = await su.get("/superuser/users/?disabled=false");
    expect(enabled.body.users.map((user: { name: string }) => user.name)).not.toContain("carol");
    await api.enabled("carol", true);
    expect(envelopeOf(await su.get("/superuser/users/?limit=101"))).toEqual(invalid("Page limit cannot be above 100"));
    expect((await su.get("/superuser/users/?limit=0")).status).toBe(400);
    expect((await su.get("/superuser/users/?next_page=forged")).status).toBe(400);
  });

  test("one of them is a whole body", async () => {
    const { body } = await su.get("/superuser/users/admin");
    expect(body).toEqual({
      kind: "user",
      name: "admin",
      username: "admin",
      email: null,
      verified: true,
      avatar: { name: "admin", hash: expect.any(String), color: expect.any(String), kind: "user" },
      super_user: true,
      enabled: true,
    });
    for (const name of ["nobody-at-all", "%00", "a%2Fb"]) {
      expect((await su.get(`/superuser/users/${name}`)).status).toBe(404);
    }
  });

  test("are made with a random password that works, plain and encrypted", async () => {
    const answer = await su.post("/superuser/users/", { username: "dave", email: "dave@example.com" });
    expect(answer.body).toMatchObject({ username: "dave", email: "dave@example.com" });
    for (const secret of [answer.body.password, answer.body.encrypted_password]) {
      expect(await loginStatus("dave", secret)).toBe(200);
    }
    expect(await logged("user_create")).toMatchObject({
      performer: "admin",
      metadata: { username: "dave", email: "dave@example.com", superuser: "admin" },
    });
    const again = await su.post("/superuser/users/", { username: "dave" });
    expect([again.status, envelopeOf(again).type]).toEqual([400, "invalid_request"]);
    const email = await su.post("/superuser/users/", { username: "eve", email: "dave@example.com" });
    expect(envelopeOf(email).detail).toBe("E-mail address already used");
    for (const username of ["", "x", "UPPER", "a b", "x\u0000y", "ro+bot", "ü".repeat(300)]) {
      expect((await su.post("/superuser/users/", { username })).status).toBe(400);
    }
    expect((await su.post("/superuser/users/", { email: "x@example.com" })).status).toBe(400);
  }, 30_000);

  test("get another password, and their sessions end", async () => {
    const before = await api.as("alice");
    const answer = await su.put("/superuser/users/alice", { password: "another-password", username: "root", id: 1 });
    expect(answer.body).toMatchObject({ name: "alice", encrypted_password: expect.any(String) });
    expect((await before.get("/superuser/users/")).status).toBe(401);
    expect(await loginStatus("alice", "another-password")).toBe(200);
    expect(await loginStatus("alice", password)).toBe(401);
    expect((await logged("user_change_password"))?.metadata).toEqual({ username: "alice", superuser: "admin" });
    expect((await su.put("/superuser/users/alice", { password: "short" })).status).toBe(400);
  }, 30_000);

  test("get another address, are disabled and enabled again, each with its entry", async () => {
    const changed = await su.put("/superuser/users/bob", { email: "bob@example.com", enabled: false });
    expect(changed.body).toMatchObject({ email: "bob@example.com", enabled: false });
    expect((await logged("user_change_email"))?.metadata).toEqual({
      username: "bob",
      email: "bob@example.com",
      old_email: null,
      superuser: "admin",
    });
    expect((await logged("user_disable"))?.metadata).toEqual({ username: "bob", superuser: "admin" });
    expect(await loginStatus("bob", password)).toBe(401);
    expect((await su.put("/superuser/users/bob", { enabled: true })).body.enabled).toBe(true);
    expect(await loginStatus("bob", password)).toBe(200);
    expect(envelopeOf(await su.put("/superuser/users/carol", { email: "bob@example.com" })).detail).toBe(
      "E-mail address already used",
    );
    for (const email of ["no-address", "a@b.c\r\nBcc: x@y.z", "a\u0000@b.cd", ""]) {
      expect((await su.put("/superuser/users/carol", { email })).status).toBe(400);
    }
    expect((await su.put("/superuser/users/carol", { enabled: "yes" })).status).toBe(400);
  }, 30_000);

  test("become superusers and stop being ones; nothing else of a superuser is another's to change", async () => {
    expect((await su.put("/superuser/users/carol", { superuser: true })).body.super_user).toBe(true);
    expect((await logged("user_change_superuser"))?.metadata).toEqual({
      username: "carol",
      granted: true,
      superuser: "admin",
    });
    const carol = await api.as("carol");
    expect((await carol.get("/superuser/users/alice")).status).toBe(200);
    for (const change of [{ email: "x@example.com" }, { enabled: false }, { superuser: false, enabled: false }]) {
      expect(envelopeOf(await su.put("/superuser/users/carol", change))).toEqual(invalid("Cannot update a superuser"));
    }
    for (const change of [{ superuser: false }, { password: "another-password" }]) {
      expect(envelopeOf(await carol.put("/superuser/users/admin", change))).toEqual(
        invalid("Cannot update a superuser"),
      );
    }
    expect(envelopeOf(await carol.delete("/superuser/users/admin"))).toEqual(invalid("Cannot delete a superuser"));
    expect(envelopeOf(await carol.post("/superuser/takeownership/admin"))).toEqual(
      invalid("Cannot take ownership of a superuser"),
    );
    expect((await su.put("/superuser/users/carol", { superuser: false })).body.super_user).toBe(false);
    expect((await carol.get("/superuser/users/alice")).status).toBe(403);
  }, 30_000);

  test("are deleted once, however many ask at once", async () => {
    await api.user("leaver");
    const answers = await Promise.all(Array.from({ length: 4 }, () => su.delete("/superuser/users/leaver")));
    expect(answers.map(({ status }) => status).sort()).toEqual([204, 404, 404, 404]);
    expect((await su.get("/superuser/users/leaver")).status).toBe(404);
    expect((await logged("user_delete"))?.metadata).toEqual({ username: "leaver", superuser: "admin" });
    expect((await su.get("/superuser/users/")).text).not.toContain("leaver");
  }, 30_000);

  test("hand their namespace over, and become an organization by it", async () => {
    await api.user("founder");
    expect((await su.post("/superuser/takeownership/founder")).body).toEqual({ namespace: "founder" });
    expect(await logged("take_ownership")).toMatchObject({
      performer: "admin",
      metadata: { namespace: "founder", was_user: true, superuser: "admin" },
    });
    expect((await su.get("/superuser/users/founder")).status).toBe(404);
    expect((await su.get("/superuser/organizations/")).text).toContain('"founder"');
    expect((await su.post("/superuser/takeownership/nobody-at-all")).status).toBe(404);
  }, 30_000);

  test("get no recovery mail while mail is off", async () => {
    expect((await su.post("/superusers/users/alice/sendrecovery")).status).toBe(404);
  });
});

describe("organizations", () => {
  async function makeOrganization(name: string): Promise<void> {
    await api.user(name);
    expect((await su.post(`/superuser/takeownership/${name}`)).status).toBe(200);
  }

  test("are listed page by page", async () => {
    for (const name of ["org-a", "org-b", "org-c"]) await makeOrganization(name);
    const first = await su.get("/superuser/organizations/?limit=1");
    expect(first.body.organizations).toHaveLength(1);
    const names: string[] = [first.body.organizations[0].name];
    let next: string | undefined = first.body.next_page;
    while (next !== undefined) {
      const page = await su.get(`/superuser/organizations/?limit=2&next_page=${encodeURIComponent(next)}`);
      names.push(...page.body.organizations.map((each: { name: string }) => each.name));
      next = page.body.next_page;
    }
    expect(names).toEqual([...names].sort());
    expect(names).toEqual(expect.arrayContaining(["org-a", "org-b", "org-c"]));
    const { body } = await su.get("/superuser/organizations/?limit=1");
    expect(Object.keys(body.organizations[0]).sort()).toEqual(["avatar", "email", "name"]);
    expect(envelopeOf(await su.get("/superuser/organizations/?limit=101")).detail).toBe(
      "Page limit cannot be above 100",
    );
    // A position of another list is none of this one.
    const users = await su.get("/superuser/users/?limit=1");
    const wrong = await su.get(`/superuser/organizations/?next_page=${encodeURIComponent(users.body.next_page)}`);
    expect(wrong.status).toBe(400);
  }, 30_000);

  test("are renamed with their repositories and robots, at once for everybody", async () => {
    await makeOrganization("before");
    const robot = await api.robot("before", "ci");
    const owner = api.admin;
    await owner.pushImage("before/app/web", "v1");
    await api.grant(robot.name, "before/app/web", "read");
    const pull = (client: typeof owner, path: string) => client.pullManifest(path, "v1");
    expect((await pull(robot.client, "before/app/web")).status).toBe(200);
    const renamed = await su.put("/superuser/organizations/before", { name: "after" });
    expect(renamed.body).toMatchObject({ name: "after", avatar: { name: "after", kind: "org" } });
    expect((await pull(api.client("after+ci", robot.token), "after/app/web")).status).toBe(200);
    expect((await pull(api.client("before+ci", robot.token), "after/app/web")).status).toBe(401);
    expect((await pull(api.admin, "before/app/web")).status).not.toBe(200);
    expect((await logged("org_change_name"))?.metadata).toEqual({
      old_name: "before",
      new_name: "after",
      superuser: "admin",
    });
    for (const name of ["alice", "org-a"]) {
      expect(envelopeOf(await su.put("/superuser/organizations/after", { name })).detail).toBe(
        "A user or organization with this name already exists",
      );
    }
    for (const name of ["", "Upper", "a\u0000b", "a/b", "~x"]) {
      expect((await su.put("/superuser/organizations/after", { name })).status).toBe(400);
    }
    expect((await su.put("/superuser/organizations/after", {})).body.name).toBe("after");
    expect((await su.put("/superuser/organizations/alice", { name: "alice-2" })).status).toBe(404);
  }, 60_000);

  test("two renames at once: one of them finds it gone", async () => {
    await makeOrganization("contested");
    const answers = await Promise.all([
      su.put("/superuser/organizations/contested", { name: "left" }),
      su.put("/superuser/organizations/contested", { name: "right" }),
    ]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 404]);
  }, 30_000);

  test("what is made in one while it is renamed carries its name", async () => {
    await makeOrganization("moving");
    const names = ["moving", "moved", "moving"];
    for (const [round, name] of names.slice(1).entries()) {
      const before = names[round] ?? "";
      const made = Array.from({ length: 6 }, (_, index) => [
        su.post("/repository", {
          namespace: before,
          repository: `r${round}-${index}`,
          visibility: "private",
          description: "",
        }),
        su.put(`/organization/${before}/robots/bot${round}-${index}`, {}),
      ]).flat();
      const [renamed, ...answers] = await Promise.all([
        su.put(`/superuser/organizations/${before}`, { name }),
        ...made,
      ]);
      expect(renamed?.status).toBe(200);
      expect(answers.filter(({ status }) => status >= 500)).toEqual([]);
    }
    const wrong = await api.app.db.sql<{ name: string }>`/* test.misnamed */
      select r.path as name from repository r join account a on a.id = r.namespace_id
      where r.deleted_ms is null and r.path <> a.username || '/' || r.name
      union all
      select r.username as name from account r join account a on a.id = r.owner_id
      where r.deleted_ms is null and r.username not like a.username || '+%'`;
    expect(wrong).toEqual([]);
  }, 60_000);

  test("are deleted", async () => {
    await makeOrganization("leaving");
    expect((await su.delete("/superuser/organizations/leaving")).status).toBe(204);
    expect((await su.delete("/superuser/organizations/leaving")).status).toBe(404);
    expect((await su.delete("/superuser/organizations/alice")).status).toBe(404);
    expect((await logged("org_delete"))?.metadata).toEqual({ namespace: "leaving", superuser: "admin" });
  }, 30_000);
});
