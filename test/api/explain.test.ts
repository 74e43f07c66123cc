/** GET /explain: what it says is what happens, and it tells nobody more than a refusal would. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Rule } from "../../src/domain/access/access.ts";
import { RULES } from "../../src/domain/explain/rules.ts";
import { password } from "../registry/harness.ts";
import { basicAuthorization } from "../support/registry-client.ts";
import { type Api, type ApiAnswer, type ApiClient, envelopeOf, startApi } from "./harness.ts";

let api: Api;
let su: ApiClient;
let robotToken = "";

beforeAll(async () => {
  api = await startApi({ GLOBAL_READONLY_SUPER_USERS: ["auditor"], ROBOTS_DISALLOW: false });
  const alice = await api.user("alice");
  for (const name of ["bob", "carol", "dave", "auditor", "sleeper", "acme-owner"]) await api.user(name);
  robotToken = (await api.robot("alice", "ci")).token;
  await alice.pushImage("alice/private", "v1");
  await alice.pushImage("alice/public", "v1");
  await alice.pushImage("alice/frozen", "v1");
  await api.visibility("alice/public", "public");
  await api.state("alice/frozen", "READ_ONLY");
  await api.grant("bob", "alice/private", "read");
  await api.grant("alice+ci", "alice/private", "write");
  await api.enabled("sleeper", false);
  await makeOrganization();
  su = await api.as("admin");
}, 90_000);
afterAll(() => api.stop());

/** acme/app: carol writes through a team, acme-owner is in the admin team. */
async function makeOrganization(): Promise<void> {
  await (await api.user("acme")).pushImage("acme/app", "v1");
  const [acme, carol, owner] = await Promise.all(["acme", "carol", "acme-owner"].map(api.accountId));
  const { id: repositoryId } = await api.repository("acme/app");
  await api.app.db.tx(async (tx) => {
    await tx.sql`/* test.convert */ update account set kind = 'organization', password_hash = null where id = ${acme ?? 0}`;
    for (const [name, role, member] of [["writers", "member", carol] as const, ["owners", "admin", owner] as const]) {
      const [team] = await tx.sql<{ id: number }>`/* test.team */
        insert into team (organization_id, name, role, created_ms) values (${acme ?? 0}, ${name}, ${role}, 0) returning id`;
      await tx.sql`/* test.member */ insert into team_member (team_id, account_id) values (${team?.id ?? 0}, ${member ?? 0})`;
      if (role === "admin") continue;
      await tx.sql`/* test.role */ insert into repository_permission (repository_id, team_id, role)
        values (${repositoryId}, ${team?.id ?? 0}, 'write')`;
    }
    tx.changed("everything");
  });
  await Bun.sleep(260);
}

function ask(client: ApiClient, repository: string, action: string, account?: string): Promise<ApiAnswer> {
  const query = new URLSearchParams({ repository, action, ...(account === undefined ? {} : { account }) });
  return client.get(`/explain?${query}`);
}

test("a whole answer", async () => {
  const { body } = await ask(su, "acme/app", "push", "carol");
  expect(body).toEqual({
    repository: "acme/app",
    account: "carol",
    action: "push",
    allowed: true,
    decision: "role",
    explanation: RULES.role,
    facts: {
      repository: { visibility: "private", state: "NORMAL", namespace_enabled: true },
      roles: [{ role: "write", source: "team", team: "writers" }],
      namespace_owner: false,
      superuser: false,
      global_readonly: false,
      restricted: false,
      scopes: null,
    },
  });
});

describe("what it says is what /v2 does", () => {
  const cases: [account: string, repository: string, action: "pull" | "push" | "delete", rule: Rule][] = [
    ["alice", "alice/private", "push", "namespace-owner"],
    ["alice", "alice/frozen", "push", "repository-state"],
    ["alice", "alice/frozen", "pull", "namespace-owner"],
    ["alice", "alice/new", "push", "may-create"],
    ["alice", "alice/nowhere", "pull", "absent"],
    ["alice+ci", "alice/private", "push", "role"],
    ["alice+ci", "alice/public", "push", "no-role"],
    ["bob", "alice/private", "pull", "role"],
    ["bob", "alice/private", "push", "no-role"],
    ["bob", "alice/public", "pull", "public"],
    ["bob", "alice/new", "push", "no-role"],
    ["carol", "acme/app", "push", "role"],
    ["carol", "acme/other", "push", "no-role"],
    ["acme-owner", "acme/app", "push", "role"],
    ["acme-owner", "acme/other", "push", "may-create"],
    ["dave", "alice/private", "pull", "no-role"],
    ["dave", "alice/public", "delete", "no-role"],
    ["auditor", "acme/app", "pull", "global-readonly"],
    ["auditor", "acme/app", "push", "no-role"],
    ["sleeper", "alice/public", "pull", "credentials"],
    ["(anonymous)", "alice/public", "pull", "public"],
    ["(anonymous)", "alice/public", "push", "anonymous"],
    ["(anonymous)", "alice/private", "pull", "anonymous"],
    ["admin", "alice/private", "pull", "no-role"],
  ];
  const ALLOWING: ReadonlySet<Rule> = new Set(["namespace-owner", "may-create", "role", "public", "global-readonly"]);

  function secretOf(account: string): string {
    if (account === "admin") return api.berth.adminPassword;
    return account === "alice+ci" ? robotToken : password;
  }

  async function attempt(account: string, repository: string, action: "pull" | "push" | "delete") {
    const root = `${api.berth.url}/v2/${repository}`;
    const authorization = basicAuthorization(account, secretOf(account));
    const headers = account === "(anonymous)" ? {} : { authorization };
    if (action === "pull") return fetch(`${root}/manifests/v1`, { headers });
    if (action === "push") return fetch(`${root}/blobs/uploads/`, { method: "POST", headers });
    return fetch(`${root}/manifests/no-such-tag`, { method: "DELETE", headers });
  }

  for (const [account, repository, action, rule] of cases) {
    test(`${account}: ${action} ${repository} is decided by ${rule}`, async () => {
      const { body } = await ask(su, repository, action, account);
      expect(body).toMatchObject({ account, decision: rule, allowed: ALLOWING.has(rule), explanation: RULES[rule] });
      const response = await attempt(account, repository, action);
      if (body.allowed) {
        expect(response.status).toBeLessThan(300);
        return;
      }
      expect(response.status).toBeGreaterThanOrEqual(400);
      if (rule === "absent") return;
      const { errors } = (await response.json()) as { errors: { detail: { decision?: string } }[] };
      expect(errors[0]?.detail.decision).toBe(rule);
    });
  }

  test("admin is asked about as well", async () => {
    expect((await ask(su, "acme/app", "admin", "acme-owner")).body).toMatchObject({
      allowed: true,
      facts: { roles: [{ role: "admin", source: "organization-admin", team: "owners" }] },
    });
    expect((await ask(su, "acme/app", "admin", "carol")).body).toMatchObject({ allowed: false, decision: "no-role" });
  });
});

describe("who may ask", () => {
  test("everybody about himself, superusers about everybody", async () => {
    const bob = await api.as("bob");
    expect((await ask(bob, "alice/private", "pull")).body).toMatchObject({ account: "bob", allowed: true });
    expect((await ask(bob, "alice/private", "pull", "bob")).body).toMatchObject({ account: "bob", allowed: true });
    for (const account of ["alice", "alice+ci", "nobody-at-all", "acme"]) {
      const answer = await ask(bob, "alice/public", "pull", account);
      expect([answer.status, envelopeOf(answer).decision]).toEqual([403, "not-superuser"]);
    }
    expect((await ask(await api.nobody(), "alice/public", "pull")).status).toBe(401);
    for (const account of ["nobody-at-all", "acme"]) {
      expect((await ask(su, "alice/public", "pull", account)).status).toBe(404);
    }
  });

  test("hidden and absent repositories look the same to those who ask about themselves", async () => {
    const dave = await api.as("dave");
    for (const action of ["pull", "push", "delete", "admin"]) {
      const hidden = (await ask(dave, "alice/private", action)).body;
      const absent = (await ask(dave, "alice/absent", action)).body;
      const nowhere = (await ask(dave, "nowhere-at-all/absent", action)).body;
      expect({ ...hidden, repository: "" }).toEqual({ ...absent, repository: "" });
      expect({ ...hidden, repository: "" }).toEqual({ ...nowhere, repository: "" });
      expect(hidden).toMatchObject({ allowed: false, decision: "no-role", facts: { repository: null, roles: [] } });
    }
    expect((await ask(su, "alice/absent", "pull", "dave")).body).toMatchObject({ decision: "absent" });
    expect((await ask(su, "alice/private", "pull", "dave")).body.facts.repository).toMatchObject({ state: "NORMAL" });
  });

  test("an OAuth token's scopes are part of the answer", async () => {
    const token = "A".repeat(20) + "B".repeat(20);
    const hash = new Bun.CryptoHasher("sha256").update(token.slice(20)).digest("hex");
    const id = await api.accountId("alice");
    await api.app.db.tx(async (tx) => {
      const [application] = await tx.sql<{ id: number }>`/* test.application */
        insert into oauth_application (client_id, organization_id, name, created_ms)
        values ('EXPLAIN', ${id}, 'explain', 0) returning id`;
      await tx.sql`/* test.token */
        insert into oauth_token (uuid, application_id, account_id, token_name, token_hash, scope, created_ms, expires_ms)
        values ('explain', ${application?.id ?? 0}, ${id}, ${token.slice(0, 20)}, ${hash}, 'repo:read', 0,
                ${Date.now() + 60_000})`;
    });
    const alice = api.bearer(token);
    expect((await ask(alice, "alice/private", "pull")).body).toMatchObject({
      allowed: true,
      decision: "namespace-owner",
      facts: { scopes: ["repo:read"] },
    });
    expect((await ask(alice, "alice/private", "push")).body).toMatchObject({ allowed: false, decision: "token-scope" });
    expect((await ask(alice, "acme/app", "push")).body).toMatchObject({ allowed: false, decision: "token-scope" });
    expect((await ask(await api.as("alice"), "alice/private", "push")).body).toMatchObject({ allowed: true });
  });

  test("odd questions are refused", async () => {
    for (const query of [
      "",
      "repository=alice/public",
      "repository=alice/public&action=own",
      "repository=alice%00/public&action=pull",
      "repository=ALICE/public&action=pull",
      `repository=${"a/".repeat(600)}b&action=pull`,
    ]) {
      expect((await su.get(`/explain?${query}`)).status).toBe(400);
    }
  });
});

describe("refusals", () => {
  test("each decision has words", async () => {
    const nobody = await api.nobody();
    for (const [decision, explanation] of Object.entries(RULES)) {
      expect((await nobody.get(`/explain/${decision}`)).body).toEqual({ decision, explanation });
    }
    for (const unknown of ["toString", "__proto__", "nothing"]) {
      expect((await nobody.get(`/explain/${unknown}`)).status).toBe(404);
    }
  });

  test("on /v2 name the same decision for a hidden and an absent repository, however one logs in", async () => {
    const authorization = basicAuthorization("dave", password);
    const root = api.berth.url;
    const scope = "scope=repository:alice/private:pull&scope=repository:alice/absent:pull";
    const issued = await fetch(`${root}/v2/auth?${scope}`, { headers: { authorization } });
    const { token } = (await issued.json()) as { token: string };
    const ways: Record<string, string>[] = [{}, { authorization }, { authorization: `Bearer ${token}` }];
    for (const headers of ways) {
      for (const method of ["GET", "PUT", "DELETE"]) {
        const details = await Promise.all(
          ["alice/private", "alice/absent"].map(async (repository) => {
            const response = await fetch(`${root}/v2/${repository}/manifests/v1`, { method, headers });
            const { errors } = (await response.json()) as { errors: { detail: Record<string, string> }[] };
            return { status: response.status, ...errors[0]?.detail, name: "" };
          }),
        );
        expect(details[0]).toEqual(details[1] as (typeof details)[0]);
        expect((details[0] as Record<string, unknown>).decision).toBeString();
      }
    }
  });

  test("on /api/v1 are the same for a hidden and an absent repository", async () => {
    const clients = [await api.as("dave"), await api.nobody()];
    for (const client of clients) {
      for (const [method, path] of [
        ["GET", ""],
        ["PUT", ""],
        ["DELETE", ""],
        ["GET", "/tag/"],
        ["POST", "/changevisibility"],
      ] as const) {
        const [hidden, absent] = await Promise.all(
          ["alice/private", "alice/absent"].map((repository) =>
            client.send(method, `/repository/${repository}${path}`, method === "GET" ? undefined : {}),
          ),
        );
        expect([hidden?.status, hidden?.body]).toEqual([absent?.status, absent?.body]);
        expect(hidden?.body.decision).toBeString();
      }
    }
  });

  test("on /v2 name the credentials when those were the reason", async () => {
    const response = await fetch(`${api.berth.url}/v2/`, {
      headers: { authorization: basicAuthorization("bob", "wrong") },
    });
    expect(response.status).toBe(401);
    const { errors } = (await response.json()) as { errors: { detail: Record<string, string> }[] };
    expect(errors[0]?.detail).toEqual({ decision: "credentials" });
  });
});
