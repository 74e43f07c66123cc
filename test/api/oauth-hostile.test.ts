/** What an attacker tries on the authorization flows. Sources: RFC 6749, section 10; RFC 6819, section 4. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Application, createApplication } from "../../src/domain/oauth/application.ts";
import { findAccount } from "../../src/domain/user/account.ts";
import { callerOf, giveToken, makeApplication, makeOrganization } from "./credentials-world.ts";
import { type Api, type ApiClient, startApi } from "./harness.ts";

const callback = "https://ci.example/callback";
let api: Api;
let url: string;
let alice: ApiClient;
let bob: ApiClient;
let application: Application;

beforeAll(async () => {
  api = await startApi();
  url = api.berth.url;
  await api.user("alice");
  await api.user("bob");
  alice = await api.as("alice");
  bob = await api.as("bob");
  await makeOrganization(api, "acme", "alice");
  application = await makeApplication(api, "acme", "alice", callback);
}, 60_000);
afterAll(() => api.stop());

function question(overrides: Record<string, string> = {}): Record<string, string> {
  const { clientId } = application;
  const plain = { client_id: clientId, redirect_uri: callback, response_type: "code", scope: "repo:read", state: "s" };
  return { ...plain, ...overrides };
}

function ask(
  client: ApiClient,
  fields: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(`${url}/oauth/authorize?${new URLSearchParams(fields)}`, {
    redirect: "manual",
    headers: { Cookie: client.headers.Cookie ?? "", ...headers },
  });
}

function post(
  path: string,
  fields: Record<string, string>,
  headers: Record<string, string>,
  body: string = new URLSearchParams(fields).toString(),
): Promise<Response> {
  return fetch(url + path, {
    method: "POST",
    redirect: "manual",
    headers: { "Content-Type": "application/x-www-form-urlencoded", ...headers },
    body,
  });
}

/** A decision with everything that belongs to it. */
function decide(client: ApiClient, fields: Record<string, string>, path = "/oauth/authorizeapp"): Promise<Response> {
  const csrf = client.headers["X-CSRF-Token"] ?? "";
  return post(path, { _csrf_token: csrf, ...fields }, { Cookie: client.headers.Cookie ?? "" });
}

function exchange(code: string, overrides: Record<string, string> = {}): Promise<Response> {
  const { clientId, clientSecret } = application;
  const fields = { grant_type: "authorization_code", client_id: clientId, client_secret: clientSecret };
  return post("/oauth/access_token", { ...fields, redirect_uri: callback, code, ...overrides }, {});
}

async function codeOf(client: ApiClient, overrides: Record<string, string> = {}): Promise<string> {
  const response = await decide(client, question(overrides));
  expect(response.status).toBe(303);
  return new URL(response.headers.get("location") ?? "").searchParams.get("code") ?? "";
}

async function tokens(): Promise<number> {
  const [row] = await api.app.db.sql<{ total: number }>`/* test.tokens */ select count(*) as total from oauth_token`;
  return Number(row?.total);
}

describe("an address that the application has not registered", () => {
  const cases = [
    "https://ci.example.evil/callback",
    "https://ci.example@evil.example/callback",
    "https://ci.example:8443/callback",
    "https://evil.example/callback",
    "http://ci.example/callback",
    "https://ci.example/callback/../evil",
    "https://ci.example/callback/%2e%2e/evil",
    "https://ci.example/callbacks",
    "https://ci.example/callback\\@evil.example",
    "https://ci.example\\@evil.example/callback",
    "https://ci.example/callback#x",
    "https://ci.example/callback?code=planted",
    "//ci.example/callback",
    "/callback",
    "javascript:alert(1)",
    "data:text/html,x",
    "https://ci.example/callback\r\nSet-Cookie: a=b",
    " https://ci.example/callback",
    "http://evil.example/oauth/localapp",
    "/oauth/localapp",
    "",
  ];
  test.each(cases)("%j is shown as an error and never visited", async (redirect_uri) => {
    const before = await tokens();
    for (const response of [
      await ask(alice, question({ redirect_uri })),
      await ask(alice, question({ redirect_uri, response_type: "nonsense" })),
      await ask(alice, question({ redirect_uri, scope: "nonsense" })),
      await ask(await api.nobody(), question({ redirect_uri })),
      await decide(alice, question({ redirect_uri })),
      await decide(alice, question({ redirect_uri, response_type: "token" })),
      await decide(alice, question({ redirect_uri }), "/oauth/denyapp"),
    ]) {
      expect(response.status).toBe(400);
      expect(response.headers.get("location")).toBeNull();
      expect(response.headers.get("set-cookie")).toBeNull();
      expect(await response.text()).toContain("redirect_uri");
    }
    expect(await tokens()).toBe(before);
  });

  test("our own page under another name is none of ours", async () => {
    const spoofed = question({ redirect_uri: "http://evil.example/oauth/localapp", response_type: "token" });
    const named = await startApi({ SERVER_HOSTNAME: "registry.example", PREFERRED_URL_SCHEME: "http" });
    try {
      await named.user("alice");
      await makeOrganization(named, "acme", "alice");
      const { clientId } = await makeApplication(named, "acme", "alice", "");
      const client = await named.as("alice");
      const headers = { Cookie: client.headers.Cookie ?? "", Host: "evil.example" };
      const query = new URLSearchParams({ ...spoofed, client_id: clientId });
      const response = await fetch(`${named.berth.url}/oauth/authorize?${query}`, { redirect: "manual", headers });
      expect(response.status).toBe(400);
    } finally {
      await named.stop();
    }
  }, 30_000);

  test("an application that registered none reaches only our own page", async () => {
    const none = await makeApplication(api, "acme", "alice", "");
    const fields = question({ client_id: none.clientId });
    expect((await ask(alice, fields)).status).toBe(400);
    expect((await ask(alice, { ...fields, redirect_uri: `${url}/oauth/localapp` })).status).toBe(200);
  });
});

describe("a request that makes no sense", () => {
  test("of an application that is not there goes nowhere", async () => {
    for (const client_id of ["", "nothing", "A".repeat(20), "\u0000", "' or 1=1 --"]) {
      const response = await ask(alice, question({ client_id }));
      expect([response.status, response.headers.get("location")]).toEqual([400, null]);
      await response.body?.cancel();
    }
  });

  test("in what may be told to the application is told there", async () => {
    const type = await ask(alice, question({ response_type: "id_token" }));
    expect(type.headers.get("location")).toBe(`${callback}?error=unsupported_response_type&state=s`);
    for (const scope of ["", "repo:everything", "repo:read root"]) {
      const location = (await ask(alice, question({ scope, response_type: "token" }))).headers.get("location");
      expect(location).toBe(`${callback}#error=invalid_scope&state=s`);
    }
  });

  test("cannot split the header that it is answered with", async () => {
    const state = 'x\r\nSet-Cookie: owned=1\r\n\r\n<script>&"#code=1';
    const response = await decide(alice, question({ state }), "/oauth/denyapp");
    expect(response.headers.get("set-cookie")).toBeNull();
    const location = new URL(response.headers.get("location") ?? "");
    expect([...location.searchParams.keys()]).toEqual(["error", "state"]);
    expect(location.searchParams.get("state")).toBe(state);
  });

  test("with two of a field is read the same way at every step", async () => {
    const twice = `${new URLSearchParams(question())}&redirect_uri=https%3A%2F%2Fevil.example%2F`;
    const response = await post(
      "/oauth/authorizeapp",
      {},
      { Cookie: alice.headers.Cookie ?? "" },
      `_csrf_token=${alice.headers["X-CSRF-Token"]}&${twice}`,
    );
    expect(response.headers.get("location")).toStartWith(`${callback}?code=`);
  });

  test("in another form than a form is refused", async () => {
    const cookie = { Cookie: alice.headers.Cookie ?? "" };
    const fields = { ...question(), _csrf_token: alice.headers["X-CSRF-Token"] ?? "" };
    const plain = await post("/oauth/authorizeapp", fields, { ...cookie, "Content-Type": "text/plain" });
    const jsonish = await post("/oauth/authorizeapp", fields, { ...cookie, "Content-Type": "application/json" });
    const large = await post("/oauth/authorizeapp", { ...fields, state: "x".repeat(70_000) }, cookie);
    expect([plain.status, jsonish.status, large.status]).toEqual([400, 400, 413]);
    const state = await decide(alice, question({ state: "x".repeat(2001) }));
    expect([state.status, state.headers.get("location")]).toEqual([400, null]);
  });
});

describe("a decision that nobody took", () => {
  test("without the session's own CSRF value gives nothing", async () => {
    const before = await tokens();
    const own = { Cookie: alice.headers.Cookie ?? "" };
    const { token } = await giveToken(api, "alice", application.clientId);
    const visitor = await api.nobody();
    const attempts: [fields: Record<string, string>, headers: Record<string, string>, status: number][] = [
      [{}, own, 403],
      [{ _csrf_token: "" }, own, 403],
      [{ _csrf_token: "x".repeat(43) }, own, 403],
      [{ _csrf_token: bob.headers["X-CSRF-Token"] ?? "" }, own, 403],
      [{ _csrf_token: alice.headers["X-CSRF-Token"] ?? "" }, {}, 403],
      [{}, { Authorization: `Bearer ${token}` }, 403],
      [{ _csrf_token: visitor.headers["X-CSRF-Token"] ?? "" }, { Cookie: visitor.headers.Cookie ?? "" }, 401],
    ];
    for (const path of ["/oauth/authorizeapp", "/oauth/denyapp", "/oauth/authorize/assignuser"]) {
      for (const [fields, headers, status] of attempts) {
        const form = { ...question({ response_type: "token" }), username: "bob", ...fields };
        const response = await post(path, form, headers);
        expect([path, response.status, response.headers.get("location")]).toEqual([path, status, null]);
        await response.body?.cancel();
      }
    }
    expect(await tokens()).toBe(before + 1);
    expect((await bob.get("/user/assignedauthorization")).body.authorizations).toEqual([]);
  });

  test("cannot be taken by following a link", async () => {
    const before = await tokens();
    const fields = { ...question({ response_type: "token" }), _csrf_token: bob.headers["X-CSRF-Token"] ?? "" };
    for (const path of ["/oauth/authorizeapp", "/oauth/denyapp"]) {
      const response = await fetch(`${url}${path}?${new URLSearchParams(fields)}`, {
        redirect: "manual",
        headers: { Cookie: bob.headers.Cookie ?? "" },
      });
      expect(response.status).toBe(404);
      await response.body?.cancel();
    }
    const head = await fetch(`${url}/oauth/authorize?${new URLSearchParams(fields)}`, {
      method: "HEAD",
      redirect: "manual",
      headers: { Cookie: bob.headers.Cookie ?? "" },
    });
    expect(head.status).toBe(404);
    expect((await ask(bob, fields)).status).toBe(200);
    expect(await tokens()).toBe(before);
  });

  test("is asked for again once it was taken back, and what an admin made is no consent", async () => {
    await api.user("carol");
    const carol = await api.as("carol");
    const { uuid } = await giveToken(api, "carol", application.clientId, ["repo:read"]);
    expect((await ask(carol, question())).status).toBe(303);
    await carol.delete(`/user/authorizations/${uuid}`);
    // The authorization above gave a code that nobody has used.
    expect((await ask(carol, question())).status).toBe(200);
    const { clientId } = await makeApplication(api, "acme", "alice", callback);
    const path = `/organization/acme/applications/${clientId}/tokens`;
    expect((await alice.post(path, { title: "cron", scope: "repo:create" })).status).toBe(201);
    expect((await ask(alice, question({ client_id: clientId, scope: "repo:create" }))).status).toBe(200);
  });
});

describe("a code", () => {
  test("is good once: a second use is refused and ends the first one's token", async () => {
    const code = await codeOf(alice);
    const first = (await (await exchange(code)).json()) as { access_token: string };
    const bearer = api.bearer(first.access_token);
    expect((await bearer.get("/error/invalid_token")).status).toBe(200);
    const second = await exchange(code);
    expect([second.status, await second.json()]).toEqual([400, { error: "invalid_grant" }]);
    expect((await bearer.get("/error/invalid_token")).status).toBe(401);
    expect((await exchange(code)).status).toBe(400);
  });

  test("used by many at once gives one token at most, and that one is ended", async () => {
    const code = await codeOf(alice);
    const answers = await Promise.all(Array.from({ length: 8 }, () => exchange(code)));
    const [given, ...more] = answers.filter((answer) => answer.status === 200);
    if (!given || more.length > 0) throw new Error(`${more.length + (given ? 1 : 0)} of 8 were given a token`);
    const { access_token } = (await given.json()) as { access_token: string };
    expect((await api.bearer(access_token).get("/error/invalid_token")).status).toBe(401);
  });

  test("is good for its own application, address and time alone", async () => {
    const other = await makeApplication(api, "acme", "alice", callback);
    const code = await codeOf(alice);
    const wrong: Record<string, string>[] = [
      { client_id: other.clientId, client_secret: other.clientSecret },
      { redirect_uri: `${callback}/deeper` },
      { redirect_uri: "" },
      { code: `${code.slice(0, 20)}${"A".repeat(20)}` },
      { code: code.slice(0, 39) },
      { code: "\u0000".repeat(40) },
    ];
    for (const overrides of wrong) {
      const answer = await exchange(code, overrides);
      expect([answer.status, await answer.json()]).toEqual([400, { error: "invalid_grant" }]);
    }
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.expire */ update oauth_code set expires_ms = ${Date.now() - 1} where code_name = ${code.slice(0, 20)}`;
    });
    expect((await exchange(code)).status).toBe(400);
  });

  test("is worth nothing without the application's secret", async () => {
    const code = await codeOf(alice);
    for (const overrides of [
      { client_secret: "" },
      { client_secret: "A".repeat(40) },
      { client_id: "nothing", client_secret: "" },
      { client_id: "\u0000" },
      { client_id: "$bootstrap", client_secret: "" },
    ]) {
      const answer = await exchange(code, overrides);
      expect([answer.status, await answer.json()]).toEqual([401, { error: "invalid_client" }]);
    }
    expect((await exchange(code)).status).toBe(200);
  });

  test("the old secret is worth nothing after a reset", async () => {
    const made = await makeApplication(api, "acme", "alice", callback);
    const code = await codeOf(alice, { client_id: made.clientId });
    await alice.post(`/organization/acme/applications/${made.clientId}/resetclientsecret`);
    const answer = await exchange(code, { client_id: made.clientId, client_secret: made.clientSecret });
    expect(answer.status).toBe(401);
  });

  test("other grants and half requests are told so", async () => {
    const password = await exchange("x", { grant_type: "password" });
    expect([password.status, await password.json()]).toEqual([400, { error: "unsupported_grant_type" }]);
    const half = await post("/oauth/access_token", { grant_type: "authorization_code" }, {});
    expect([half.status, await half.json()]).toEqual([400, { error: "invalid_request" }]);
    expect((await fetch(`${url}/oauth/access_token?code=x`)).status).toBe(404);
  });
});

describe("the pages", () => {
  test("show foreign texts as texts, and lie in no frame", async () => {
    const attack = `"><script>alert('1')</script>&amp;`;
    const organization = await findAccount(api.app.db, "acme");
    if (!organization) throw new Error("no organization");
    const evil = await createApplication(
      api.app,
      { organization, caller: await callerOf(api, "alice"), request: { ip: undefined, userAgent: undefined } },
      {
        name: attack,
        redirectUri: callback,
        applicationUri: `https://evil.example/'"><script>x</script>`.replaceAll(" ", ""),
        description: attack,
        avatarEmail: undefined,
      },
    );
    const fields = question({ client_id: evil.clientId, state: attack, assignment_uuid: attack });
    const response = await ask(alice, fields);
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).not.toContain("<script");
    expect(text).toContain("&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;");
    expect(response.headers.get("content-security-policy")).toBe(
      `default-src 'none'; ${/style-src '[^']+'/.exec(response.headers.get("content-security-policy") ?? "")?.[0]}; ` +
        "form-action 'self' https://ci.example; frame-ancestors 'none'; base-uri 'none'",
    );
    expect(response.headers.get("x-frame-options")).toBe("DENY");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(response.headers.get("cache-control")).toBe("no-store");

    const wrong = await ask(alice, question({ client_id: attack, redirect_uri: attack }));
    expect(wrong.status).toBe(400);
    expect(await wrong.text()).not.toContain("<script");
  });

  test("send nobody to sign in and then somewhere else", async () => {
    const response = await ask(await api.nobody(), question(), { Host: "evil.example" });
    expect(response.headers.get("location")).toStartWith("/signin?redirect_url=%2Foauth%2Fauthorize%3F");
  });

  test("do nothing while the registry is read-only", async () => {
    const frozen = await startApi({ REGISTRY_STATE: "readonly" });
    try {
      await frozen.user("alice");
      await makeOrganization(frozen, "acme", "alice");
      const made = await makeApplication(frozen, "acme", "alice", callback);
      const client = await frozen.as("alice");
      const form = new URLSearchParams({
        ...question({ client_id: made.clientId }),
        _csrf_token: client.headers["X-CSRF-Token"] ?? "",
      });
      const answer = await fetch(`${frozen.berth.url}/oauth/authorizeapp`, {
        method: "POST",
        redirect: "manual",
        headers: { Cookie: client.headers.Cookie ?? "" },
        body: form,
      });
      expect(answer.status).toBe(503);
    } finally {
      await frozen.stop();
    }
  }, 30_000);
});

test("no token, code or secret is in the log of the server", () => {
  const logs = api.berth.logs();
  expect(logs).not.toContain(application.clientSecret);
  expect(logs).not.toMatch(/access_token=[A-Z0-9]/);
  expect(logs).not.toMatch(/code=[A-Z0-9]{10}/);
});
