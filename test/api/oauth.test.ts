/** OAuth applications, the flows that give tokens, and what a token may. Source: quay-api reference, sections 16, 17, 20. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OAUTH_SCOPES, type OauthScope } from "../../src/domain/access/actor.ts";
import type { Application } from "../../src/domain/oauth/application.ts";
import { image, publish } from "../support/content.ts";
import { basicAuthorization } from "../support/registry-client.ts";
import { giveToken, grantedBy, lastLog, makeApplication, makeOrganization, pullStatus } from "./credentials-world.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

const callback = "https://ci.example/callback";
const applications = "/organization/acme/applications";
let api: Api;
let url: string;
let alice: ApiClient;
let bob: ApiClient;
let application: Application;

beforeAll(async () => {
  api = await startApi({ SUPER_USERS: ["admin", "root"], CREATE_NAMESPACE_ON_PUSH: true });
  url = api.berth.url;
  await publish(await api.user("alice"), "alice/private", image("oauth"), "v1");
  await api.user("bob");
  await api.user("root");
  alice = await api.as("alice");
  bob = await api.as("bob");
  await makeOrganization(api, "acme", "alice");
  application = await makeApplication(api, "acme", "alice", callback);
}, 60_000);
afterAll(() => api.stop());

/** A browser's request to a page, without following redirects. */
function page(client: ApiClient, path: string, form?: Record<string, string>): Promise<Response> {
  return fetch(url + path, {
    method: form ? "POST" : "GET",
    redirect: "manual",
    headers: { Cookie: client.headers.Cookie ?? "" },
    ...(form ? { body: new URLSearchParams({ _csrf_token: client.headers["X-CSRF-Token"] ?? "", ...form }) } : {}),
  });
}

function question(overrides: Record<string, string> = {}): Record<string, string> {
  return {
    client_id: application.clientId,
    redirect_uri: callback,
    response_type: "code",
    scope: "repo:read user:read",
    state: "xyz",
    ...overrides,
  };
}

async function locationOf(response: Response): Promise<URL> {
  await response.body?.cancel();
  expect(response.status).toBe(303);
  expect(response.headers.get("cache-control")).toBe("no-store");
  expect(response.headers.get("referrer-policy")).toBe("no-referrer");
  return new URL(response.headers.get("location") ?? "", url);
}

async function codeFor(client: ApiClient, overrides: Record<string, string> = {}): Promise<string> {
  const location = await locationOf(await page(client, "/oauth/authorizeapp", question(overrides)));
  return location.searchParams.get("code") ?? "";
}

function exchange(form: Record<string, string>, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${url}/oauth/access_token`, { method: "POST", headers, body: new URLSearchParams(form) });
}

function grant(code: string, overrides: Record<string, string> = {}): Record<string, string> {
  return {
    grant_type: "authorization_code",
    client_id: application.clientId,
    client_secret: application.clientSecret,
    redirect_uri: callback,
    code,
    ...overrides,
  };
}

describe("applications of an organization", () => {
  test("are made, listed, shown, changed, given another secret and deleted, each with its log entry", async () => {
    const made = await alice.post(applications, { name: "Robot Butler", redirect_uri: "https://butler.example" });
    expect(made.status).toBe(200);
    expect(made.body).toEqual({
      name: "Robot Butler",
      description: "",
      application_uri: "",
      client_id: expect.stringMatching(/^[A-Z0-9]{20}$/),
      client_secret: expect.stringMatching(/^[A-Z0-9]{40}$/),
      redirect_uri: "https://butler.example",
      avatar_email: null,
    });
    const one = `${applications}/${made.body.client_id}`;
    const metadata = { application_name: "Robot Butler", client_id: made.body.client_id };
    expect((await lastLog(api, "create_application")).metadata).toMatchObject(metadata);
    expect((await alice.get(applications)).body.applications).toContainEqual(made.body);
    expect((await alice.get(one)).body).toEqual(made.body);

    const changes = { name: "Valet", redirect_uri: "", application_uri: "https://valet.example", description: "d" };
    const changed = await alice.put(one, changes);
    expect(changed.body).toEqual({ ...made.body, ...changes });
    expect((await lastLog(api, "update_application")).metadata).toMatchObject({ application_name: "Valet" });

    const reset = await alice.post(`${one}/resetclientsecret`);
    expect(reset.body.client_secret).toMatch(/^[A-Z0-9]{40}$/);
    expect(reset.body.client_secret).not.toBe(made.body.client_secret);
    expect(await lastLog(api, "reset_application_client_secret")).toMatchObject({
      metadata: { application_name: "Valet", client_id: made.body.client_id },
      namespaceId: await api.accountId("acme"),
    });
    expect((await alice.delete(one)).status).toBe(204);
    expect((await lastLog(api, "delete_application")).metadata).toMatchObject({ application_name: "Valet" });
    expect((await alice.get(one)).status).toBe(404);
    expect((await alice.delete(one)).status).toBe(404);
  });

  test("no secret goes into the log", async () => {
    const rows = await api.app.db.sql`/* test.secret */
      select 1 from action_log where metadata like ${`%${application.clientSecret}%`}`;
    expect(rows).toEqual([]);
  });

  test("refuse names and addresses that cannot be", async () => {
    for (const body of [
      {},
      { name: "" },
      { name: "x".repeat(256) },
      { name: "x", redirect_uri: "not an address" },
      { name: "x", redirect_uri: "javascript:alert(1)" },
      { name: "x", application_uri: "javascript:alert(1)" },
    ]) {
      const answer = await alice.post(applications, body);
      expect([answer.status, envelopeOf(answer).type]).toEqual([400, "invalid_request"]);
    }
    const one = `${applications}/${application.clientId}`;
    expect((await alice.put(one, { name: "only a name" })).status).toBe(400);
  });

  test("are for the organization's admins, and another organization's are not found", async () => {
    const one = `${applications}/${application.clientId}`;
    for (const client of [bob, await api.nobody()]) {
      const status = client === bob ? 403 : 401;
      expect((await client.get(applications)).status).toBe(status);
      expect((await client.post(applications, { name: "x" })).status).toBe(status);
      expect((await client.get(one)).status).toBe(status);
      expect((await client.delete(one)).status).toBe(status);
      expect((await client.post(`${one}/resetclientsecret`)).status).toBe(status);
    }
    await makeOrganization(api, "bobs", "bob");
    const foreign = `/organization/bobs/applications/${application.clientId}`;
    expect((await bob.get(foreign)).status).toBe(404);
    expect((await bob.delete(foreign)).status).toBe(404);
    expect((await bob.post(`${foreign}/resetclientsecret`)).status).toBe(404);
    expect((await bob.get(`${foreign}/tokens`)).status).toBe(404);
    expect((await bob.post(`${foreign}/tokens`, { title: "x", scope: "repo:read" })).status).toBe(404);
  });

  test("are shown to anybody without their secrets", async () => {
    const answer = await (await api.nobody()).get(`/app/${application.clientId}`);
    expect(answer.body).toMatchObject({ name: "deployer", organization: { name: "acme", email: "", is_admin: false } });
    expect(answer.text).not.toContain(application.clientSecret);
    expect((await alice.get(`/app/${application.clientId}`)).body.organization.is_admin).toBe(true);
    expect((await alice.get("/app/nothing")).status).toBe(404);
  });
});

describe("the code flow", () => {
  test("asks, and gives a code that becomes a token of exactly what was asked", async () => {
    const asked = await page(alice, `/oauth/authorize?${new URLSearchParams(question())}`);
    expect(asked.status).toBe(200);
    const text = await asked.text();
    expect(text).toContain("deployer");
    expect(text).toContain("acme");
    expect(text).toContain("View all visible repositories");

    const location = await locationOf(await page(alice, "/oauth/authorizeapp", question()));
    expect(location.origin + location.pathname).toBe(callback);
    expect(location.searchParams.get("state")).toBe("xyz");
    const answer = await exchange(grant(location.searchParams.get("code") ?? ""));
    expect(answer.status).toBe(200);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const body = (await answer.json()) as Record<string, unknown> & { access_token: string };
    expect(body).toEqual({
      access_token: expect.stringMatching(/^[A-Z0-9]{40}$/),
      token_type: "Bearer",
      expires_in: 315_576_000,
      refresh_token: null,
    });
    const bearer = api.bearer(body.access_token);
    expect((await bearer.get("/user/authorizations")).status).toBe(403);
    expect(await grantedBy(api, "$oauthtoken", body.access_token, "alice/private")).toMatchObject({
      actions: ["pull"],
    });
  });

  test("takes the client's secret as Basic too", async () => {
    const { client_id, client_secret, ...form } = grant(await codeFor(bob));
    const authorization = basicAuthorization(client_id ?? "", client_secret ?? "");
    expect((await exchange(form, { authorization })).status).toBe(200);
    const wrong = await exchange(form, { authorization: basicAuthorization(client_id ?? "", "x") });
    expect([wrong.status, wrong.headers.get("www-authenticate")]).toEqual([401, 'Basic realm="oauth"']);
    expect(await wrong.json()).toEqual({ error: "invalid_client" });
  });

  test("does not ask again for what was given and is not dangerous", async () => {
    expect((await page(alice, `/oauth/authorize?${new URLSearchParams(question())}`)).status).toBe(303);
    const narrower = new URLSearchParams(question({ scope: "user:read" }));
    expect((await page(alice, `/oauth/authorize?${narrower}`)).status).toBe(303);
    const wider = new URLSearchParams(question({ scope: "repo:write" }));
    expect((await page(alice, `/oauth/authorize?${wider}`)).status).toBe(200);
    await giveToken(api, "alice", application.clientId, ["org:admin"]);
    const dangerous = new URLSearchParams(question({ scope: "org:admin" }));
    expect((await page(alice, `/oauth/authorize?${dangerous}`)).status).toBe(200);
  });

  test("sends nobody in particular to sign in, and back to a path of ours", async () => {
    const response = await page(await api.nobody(), `/oauth/authorize?${new URLSearchParams(question())}`);
    const location = await locationOf(response);
    expect([location.origin, location.pathname]).toEqual([url, "/signin"]);
    expect(location.searchParams.get("redirect_url")).toStartWith("/oauth/authorize?client_id=");
  });

  test("a refusal goes back as access_denied", async () => {
    const refused = await locationOf(await page(alice, "/oauth/denyapp", question()));
    expect(Object.fromEntries(refused.searchParams)).toEqual({ error: "access_denied", state: "xyz" });
    const implicit = await locationOf(await page(alice, "/oauth/denyapp", question({ response_type: "token" })));
    expect(implicit.hash).toBe("#error=access_denied&state=xyz");
  });
});

describe("the implicit flow", () => {
  test("gives the token in the fragment", async () => {
    const form = question({ response_type: "token" });
    const location = await locationOf(await page(alice, "/oauth/authorizeapp", form));
    const fields = new URLSearchParams(location.hash.slice(1));
    expect(location.search).toBe("");
    expect(Object.fromEntries(fields)).toEqual({
      access_token: expect.stringMatching(/^[A-Z0-9]{40}$/),
      token_type: "Bearer",
      expires_in: "315576000",
      state: "xyz",
    });
    expect(await grantedBy(api, "$oauthtoken", fields.get("access_token") ?? "", "alice/private")).toBeDefined();
  });

  test("ends at our own page for tokens of one's own", async () => {
    const local = `${url}/oauth/localapp`;
    const location = await locationOf(
      await page(alice, "/oauth/authorizeapp", question({ response_type: "token", redirect_uri: local })),
    );
    expect(location.origin + location.pathname).toBe(local);
    const shown = await page(alice, "/oauth/localapp");
    expect(shown.status).toBe(200);
    expect(shown.headers.get("content-security-policy")).toMatch(/script-src 'sha256-[^']+'/);
  });
});

describe("what a user has given", () => {
  test("is listed, shown and taken back, at once", async () => {
    await api.user("carol");
    const carol = await api.as("carol");
    const { token, uuid } = await giveToken(api, "carol", application.clientId, ["repo:read", "user:admin"]);
    const listed = await carol.get("/user/authorizations");
    expect(listed.body.authorizations).toHaveLength(1);
    expect(listed.body.authorizations[0]).toMatchObject({
      uuid,
      application: { name: "deployer", url: "", organization: { name: "acme" } },
      scopes: [
        { scope: "repo:read", dangerous: false },
        { scope: "user:admin", dangerous: true },
      ],
    });
    expect((await carol.get(`/user/authorizations/${uuid}`)).body).toEqual(listed.body.authorizations[0]);
    expect((await alice.get(`/user/authorizations/${uuid}`)).status).toBe(404);
    expect((await alice.delete(`/user/authorizations/${uuid}`)).status).toBe(404);
    const bearer = api.bearer(token);
    expect((await bearer.get("/user/authorizations")).status).toBe(200);
    expect((await carol.delete(`/user/authorizations/${uuid}`)).status).toBe(204);
    expect((await bearer.get("/user/authorizations")).status).toBe(401);
    expect((await lastLog(api, "oauth_token_revoked")).metadata).toMatchObject({ oauth_token_id: uuid });
    expect((await carol.get("/user/authorizations")).body.authorizations).toEqual([]);
  });

  test("an expired token says so", async () => {
    const { token } = await giveToken(api, "alice", application.clientId, OAUTH_SCOPES, 1);
    const bearer = api.bearer(token);
    expect((await bearer.get("/user/authorizations")).status).toBe(200);
    await Bun.sleep(1050);
    const answer = await bearer.get("/user/authorizations");
    expect([answer.status, envelopeOf(answer).type]).toEqual([401, "expired_token"]);
    expect(await grantedBy(api, "$oauthtoken", token, "alice/private")).toBeUndefined();
  });

  test("a disabled owner's token is off", async () => {
    await api.user("dave");
    const { token } = await giveToken(api, "dave", application.clientId);
    expect((await api.bearer(token).get("/user/authorizations")).status).toBe(200);
    await api.enabled("dave", false);
    expect((await api.bearer(token).get("/user/authorizations")).status).toBe(401);
  });

  test("goes with its application", async () => {
    const other = await makeApplication(api, "acme", "alice", callback);
    const { token } = await giveToken(api, "alice", other.clientId);
    const granted = await grantedBy(api, "$oauthtoken", token, "alice/private");
    expect(await pullStatus(api, `Bearer ${granted?.token}`, "alice/private")).toBe(200);
    expect((await alice.delete(`${applications}/${other.clientId}`)).status).toBe(204);
    expect(await pullStatus(api, `Bearer ${granted?.token}`, "alice/private")).toBe(401);
    expect((await api.bearer(token).get("/user/authorizations")).status).toBe(401);
  });

  test("a use is noted beside the answer", async () => {
    const { token, uuid } = await giveToken(api, "alice", application.clientId);
    await api.bearer(token).get("/user/authorizations");
    const find = () => api.app.db.sql<{ last_accessed_ms: number | null }>`/* test.used */
      select last_accessed_ms from oauth_token where uuid = ${uuid}`;
    const deadline = Date.now() + 3000;
    while ((await find())[0]?.last_accessed_ms === null && Date.now() < deadline) await Bun.sleep(20);
    expect(Math.abs(Number((await find())[0]?.last_accessed_ms) - Date.now())).toBeLessThan(10_000);
  });
});

describe("scopes on /v2", () => {
  const table: readonly [scopes: readonly OauthScope[], repository: string, actions: readonly string[]][] = [
    [["repo:read"], "alice/private", ["pull"]],
    [["repo:write"], "alice/private", ["pull", "push", "delete"]],
    [["repo:admin"], "alice/private", ["pull", "push", "delete"]],
    [["repo:create"], "alice/private", []],
    [["user:read", "user:admin", "org:admin", "super:user"], "alice/private", []],
    [["repo:read"], "alice/absent", ["pull"]],
    [["repo:write"], "alice/absent", ["pull"]],
    [["repo:create", "repo:write"], "alice/absent", ["pull", "push"]],
    [["repo:create"], "alice/absent", []],
    [["repo:write", "repo:create"], "nobody-yet/thing", []],
    [["repo:write", "repo:create", "org:admin"], "nobody-yet/thing", ["pull", "push"]],
    [OAUTH_SCOPES, "bob/anything", []],
  ];
  test.each(table)("%j grant on %s: %j", async (scopes, repository, actions) => {
    const { token } = await giveToken(api, "alice", application.clientId, scopes);
    expect((await grantedBy(api, "$oauthtoken", token, repository))?.actions).toEqual([...actions]);
  });

  test("cap a Basic log-in and a registry token alike, and create nothing they do not cover", async () => {
    const { token } = await giveToken(api, "alice", application.clientId, ["repo:read"]);
    const basic = basicAuthorization("$oauthtoken", token);
    expect(await pullStatus(api, basic, "alice/private")).toBe(200);
    for (const path of ["alice/private", "alice/created"]) {
      const begun = await fetch(`${url}/v2/${path}/blobs/uploads/`, {
        method: "POST",
        headers: { authorization: basic },
      });
      expect(begun.status).toBe(403);
    }
    const absent = await api.app.db.sql`/* test.absent */ select 1 from repository where path = 'alice/created'`;
    expect(absent).toEqual([]);
  });

  test("a superuser's token is a superuser's only with super:user", async () => {
    const plain = await giveToken(api, "root", application.clientId, ["org:admin", "user:admin", "repo:admin"]);
    const full = await giveToken(api, "root", application.clientId, ["super:user"]);
    expect((await api.bearer(plain.token).get("/superuser/apptokens")).status).toBe(403);
    expect((await api.bearer(full.token).get("/superuser/apptokens")).status).toBe(200);
  });

  test("a repository made by a token names token and application in the log", async () => {
    const { token, uuid } = await giveToken(api, "alice", application.clientId, ["repo:create", "repo:write"]);
    await publish(api.client("$oauthtoken", token), "alice/by-oauth", image("oauth"), "v1");
    expect((await lastLog(api, "create_repo")).metadata).toMatchObject({
      username: "alice",
      oauth_token_id: uuid,
      oauth_token_application_id: application.clientId,
      oauth_token_application: "deployer",
    });
  });
});

describe("tokens without a browser", () => {
  const tokens = () => `${applications}/${application.clientId}/tokens`;

  test("are made by an admin, listed without their text, and revoked", async () => {
    const made = await alice.post(tokens(), { title: "nightly", scope: "repo:read,repo:write", expiration: 3600 });
    expect(made.status).toBe(201);
    const { access_token, ...rest } = made.body.token;
    expect(rest).toMatchObject({ title: "nightly", scope: "repo:read repo:write", username: "alice" });
    expect(Date.parse(rest.expiration) - Date.parse(rest.created)).toBe(3600_000);
    expect((await lastLog(api, "create_oauth_api_token")).metadata).toMatchObject({
      oauth_token_id: rest.uuid,
      client_id: application.clientId,
      title: "nightly",
    });
    const listed = await alice.get(tokens());
    expect(listed.body.tokens).toEqual([rest]);
    expect((await alice.get(`${tokens()}/${rest.uuid}`)).body).toEqual({ token: rest });
    expect((await grantedBy(api, "$oauthtoken", access_token, "alice/private"))?.actions).toContain("push");
    expect((await alice.delete(`${tokens()}/${rest.uuid}`)).status).toBe(204);
    expect(await grantedBy(api, "$oauthtoken", access_token, "alice/private")).toBeUndefined();
    expect((await alice.delete(`${tokens()}/${rest.uuid}`)).status).toBe(404);
  });

  test("those that users consented to are not among them", async () => {
    const { uuid } = await giveToken(api, "bob", application.clientId);
    expect((await alice.get(`${tokens()}/${uuid}`)).status).toBe(404);
    expect((await alice.delete(`${tokens()}/${uuid}`)).status).toBe(404);
  });

  test("are never wider than the token that makes them", async () => {
    const { token } = await giveToken(api, "alice", application.clientId, ["org:admin", "repo:write"]);
    const bearer = api.bearer(token);
    expect((await bearer.post(tokens(), { title: "narrow", scope: "repo:read" })).status).toBe(201);
    for (const scope of ["repo:admin", "super:user", "repo:read user:admin"]) {
      const answer = await bearer.post(tokens(), { title: "wide", scope });
      expect([answer.status, envelopeOf(answer).type]).toEqual([403, "insufficient_scope"]);
    }
  });

  test("need a title and known scopes", async () => {
    for (const body of [
      { title: "", scope: "repo:read" },
      { title: "x", scope: "" },
      { title: "x", scope: "repo:everything" },
      { title: "x", scope: "repo:read", expiration: 1 },
      { title: "x" },
    ]) {
      expect((await alice.post(tokens(), body)).status).toBe(400);
    }
  });
});

describe("assignments", () => {
  test("an admin asks, the user finds it, approves it, and it is settled", async () => {
    await api.user("erin");
    const erin = await api.as("erin");
    const form = question({ response_type: "token", scope: "repo:read" });
    const asked = await page(alice, "/oauth/authorize/assignuser?username=erin", form);
    expect(asked.status).toBe(200);
    expect(await asked.text()).toContain("erin was asked");
    const listed = await erin.get("/user/assignedauthorization");
    expect(listed.body.authorizations).toEqual([
      {
        application: expect.objectContaining({ name: "deployer", clientId: application.clientId }),
        uuid: expect.any(String),
        redirectUri: callback,
        scopes: [expect.objectContaining({ scope: "repo:read" })],
        responseType: "token",
      },
    ]);
    expect((await lastLog(api, "oauth_token_assigned")).metadata).toMatchObject({ assigned_user: "erin" });
    const notices = async () =>
      (await erin.get("/user/notifications")).body.notifications.map(({ kind }: { kind: string }) => kind);
    expect(await notices()).toEqual(["assigned_authorization"]);
    const [{ uuid }] = listed.body.authorizations;
    const consent = await page(erin, `/oauth/authorize?${new URLSearchParams({ ...form, assignment_uuid: uuid })}`);
    expect(await consent.text()).toContain(uuid);
    const given = await locationOf(await page(erin, "/oauth/authorizeapp", { ...form, assignment_uuid: uuid }));
    const token = new URLSearchParams(given.hash.slice(1)).get("access_token") ?? "";
    expect((await erin.get("/user/assignedauthorization")).body.authorizations).toEqual([]);
    expect(await notices()).toEqual([]);
    expect(await grantedBy(api, "$oauthtoken", token, "erin/x", "pull")).toMatchObject({ actions: ["pull"] });
  });

  test("may be refused, by the one who was asked alone", async () => {
    await api.user("frank");
    const frank = await api.as("frank");
    await page(alice, "/oauth/authorize/assignuser", { ...question(), username: "frank" });
    await page(alice, "/oauth/authorize/assignuser", { ...question({ scope: "repo:write" }), username: "frank" });
    const listed = (await frank.get("/user/assignedauthorization")).body.authorizations;
    expect(listed).toHaveLength(1);
    expect(listed[0].scopes[0].scope).toBe("repo:write");
    expect((await bob.delete(`/user/assignedauthorization/${listed[0].uuid}`)).status).toBe(404);
    expect((await frank.delete(`/user/assignedauthorization/${listed[0].uuid}`)).status).toBe(204);
    expect((await frank.get("/user/assignedauthorization")).body.authorizations).toEqual([]);
  });

  test("only admins of the application's organization ask, and only users that are there", async () => {
    const asked = await page(bob, "/oauth/authorize/assignuser?username=alice", question());
    expect(asked.status).toBe(403);
    expect((await alice.get("/user/assignedauthorization")).body.authorizations).toEqual([]);
    for (const username of ["nobody-at-all", "acme", "", "alice+robot"]) {
      const path = `/oauth/authorize/assignuser?username=${encodeURIComponent(username)}`;
      expect((await page(alice, path, question())).status).toBe(400);
    }
  });
});

describe("the bootstrap token", () => {
  test("is in its file at the first start, is a token of its owner, and is renewed by itself alone", async () => {
    const directory = mkdtempSync(join(tmpdir(), "berth-bootstrap-"));
    const path = join(directory, "token");
    const config = {
      FEATURE_PROGRAMMATIC_BOOTSTRAP: true,
      BOOTSTRAP_TOKEN_OWNER: "admin",
      BOOTSTRAP_TOKEN_PATH: path,
      BOOTSTRAP_TOKEN_EXPIRATION: 600,
      BOOTSTRAP_TOKEN_SCOPE: "org:admin repo:create",
      OAUTH_APPLICATION_MAXIMUM_TOKEN_COUNT: 1,
    };
    const booted = await startApi(config);
    try {
      const token = readFileSync(path, "utf8").trim();
      expect(statSync(path).mode & 0o777).toBe(0o600);
      expect(booted.berth.logs()).not.toContain(token);
      const renewed = await booted.bearer(token).post("/bootstrap/renew");
      expect(renewed.body).toEqual({
        access_token: expect.stringMatching(/^[A-Z0-9]{40}$/),
        token_type: "Bearer",
        expires_in: 600,
        scope: "repo:create org:admin",
      });
      expect(readFileSync(path, "utf8").trim()).toBe(renewed.body.access_token);
      expect((await booted.bearer(token).post("/bootstrap/renew")).status).toBe(401);

      await makeOrganization(booted, "acme", "admin");
      const made = await makeApplication(booted, "acme", "admin", callback);
      const own = await giveToken(booted, "admin", made.clientId);
      expect((await booted.bearer(own.token).post("/bootstrap/renew")).status).toBe(403);
      expect((await (await booted.as("admin")).post("/bootstrap/renew")).status).toBe(403);
      const consented = await giveToken(booted, "admin", "$bootstrap");
      expect((await booted.bearer(consented.token).post("/bootstrap/renew")).status).toBe(403);
      expect((await booted.bearer(own.token).get("/app/$bootstrap")).status).toBe(404);

      const path2 = `${applications}/${made.clientId}/tokens`;
      const admin = await booted.as("admin");
      expect((await admin.post(path2, { title: "one", scope: "repo:read" })).status).toBe(201);
      expect((await admin.post(path2, { title: "two", scope: "repo:read" })).status).toBe(400);
    } finally {
      await booted.stop();
      rmSync(directory, { recursive: true });
    }
  }, 60_000);

  test("is not there without the feature", async () => {
    const { token } = await giveToken(api, "alice", application.clientId);
    expect((await api.bearer(token).post("/bootstrap/renew")).status).toBe(404);
  });
});
