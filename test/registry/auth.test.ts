/** The token service, challenges, accounts, the first user, health and metrics. Sources: quay-api reference, 17 to 19. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { image, publish } from "../support/content.ts";
import { parseChallenge, pushScope } from "../support/registry-client.ts";
import { basicOf, errorOf, password, type Registry, startRegistry } from "./harness.ts";

const repository = "alice/repo";
let registry: Registry;
let url: string;

beforeAll(async () => {
  registry = await startRegistry();
  url = registry.berth.url;
  await publish(await registry.user("alice"), repository, image("auth"), "v1");
  await publish(registry.client("alice", password), "alice/public", image("auth"), "v1");
  await registry.visibility("alice/public", "public");
  await registry.user("bob");
}, 60_000);
afterAll(() => registry.stop());

function getToken(query: string, headers: Record<string, string> = {}, method = "GET"): Promise<Response> {
  return fetch(`${url}/v2/auth${query}`, { method, headers });
}

function postToken(form: Record<string, string> | string): Promise<Response> {
  const body = typeof form === "string" ? form : new URLSearchParams(form).toString();
  return fetch(`${url}/v2/auth`, {
    method: "POST",
    body,
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
}

interface Granted {
  readonly access: { type: string; name: string; actions: string[] }[];
  readonly claims: ReturnType<typeof decodeJwt>;
  readonly token: string;
}

async function granted(answer: Promise<Response>): Promise<Granted> {
  const response = await answer;
  expect(response.status).toBe(200);
  expect(response.headers.get("cache-control")).toBe("no-store");
  const body = (await response.json()) as {
    token: string;
    access_token: string;
    expires_in: number;
    issued_at: string;
  };
  expect(body.access_token).toBe(body.token);
  expect(body.expires_in).toBe(3600);
  expect(Math.abs(Date.parse(body.issued_at) - Date.now())).toBeLessThan(60_000);
  const claims = decodeJwt(body.token);
  return { access: claims.access as Granted["access"], claims, token: body.token };
}

describe("challenges", () => {
  test("/v2/ asks for a token, names realm and service, and lets a token or Basic in", async () => {
    for (const path of ["/v2/", "/v2"]) {
      const response = await fetch(url + path);
      expect(response.status).toBe(401);
      expect(response.headers.get("docker-distribution-api-version")).toBe("registry/2.0");
      expect(response.headers.get("www-authenticate")).toBe(`Bearer realm="${url}/v2/auth",service="berth"`);
      expect((await errorOf(response)).code).toBe("UNAUTHORIZED");
    }
    const { token } = await granted(getToken("", basicOf("alice")));
    for (const authorization of [`Bearer ${token}`, basicOf("alice").authorization ?? ""]) {
      const response = await fetch(`${url}/v2/`, { headers: { authorization } });
      expect(response.status).toBe(200);
      expect(await response.text()).toBe("true");
    }
  });

  test("name the scope that the request needs", async () => {
    for (const [method, rest, actions] of [
      ["GET", "manifests/v1", "pull"],
      ["HEAD", "tags/list", "pull"],
      ["PUT", "manifests/v1", "pull,push"],
      ["POST", "blobs/uploads/", "pull,push"],
      ["PATCH", `blobs/uploads/${crypto.randomUUID()}`, "pull,push"],
      ["DELETE", "manifests/v1", "pull,push,delete"],
    ] as const) {
      const response = await fetch(`${url}/v2/${repository}/${rest}`, { method });
      expect(response.status).toBe(401);
      const fields = parseChallenge(response.headers.get("www-authenticate") ?? "");
      expect(fields).toEqual({
        realm: `${url}/v2/auth`,
        service: "berth",
        scope: `repository:${repository}:${actions}`,
      });
      await response.body?.cancel();
    }
  });

  test("follow the name by which the client calls us, or SERVER_HOSTNAME", async () => {
    const response = await fetch(`${url}/v2/`, { headers: { host: "registry.example:5000" } });
    expect(response.headers.get("www-authenticate")).toStartWith('Bearer realm="http://registry.example:5000/v2/auth"');
    const named = await startRegistry({
      SERVER_HOSTNAME: "registry.example",
      PREFERRED_URL_SCHEME: "https",
      EXTERNAL_TLS_TERMINATION: true,
    });
    try {
      const answer = await fetch(`${named.berth.url}/v2/`);
      expect(answer.headers.get("www-authenticate")).toBe(
        'Bearer realm="https://registry.example/v2/auth",service="registry.example"',
      );
      const headers = basicOf("admin", named.berth.adminPassword);
      const scopes = "scope=repository:registry.example/admin/x:pull,push&scope=repository:admin/y:pull";
      const issued = await fetch(`${named.berth.url}/v2/auth?${scopes}`, { headers });
      const { token } = (await issued.json()) as { token: string };
      expect(decodeJwt(token)).toMatchObject({
        aud: "registry.example",
        access: [
          { name: "registry.example/admin/x", actions: ["pull", "push"] },
          { name: "admin/y", actions: ["pull"] },
        ],
      });
      const begun = await fetch(`${named.berth.url}/v2/admin/x/blobs/uploads/`, {
        method: "POST",
        headers: { authorization: `Bearer ${token}` },
      });
      expect(begun.status).toBe(202);
    } finally {
      await named.stop();
    }
  }, 30_000);

  test("a name that could break out of its quotes is not repeated", async () => {
    const response = await fetch(`${url}/v2/al%22ice/repo/tags/list`);
    expect(response.headers.get("www-authenticate") ?? "").not.toContain("al");
    await response.body?.cancel();
  });
});

describe("tokens by GET", () => {
  test("grant what the account may do and leave out what it may not", async () => {
    const scope = "scope=repository:alice/repo:pull,push,delete";
    expect((await granted(getToken(`?${scope}`, basicOf("alice")))).access).toEqual([
      { type: "repository", name: repository, actions: ["pull", "push", "delete"] },
    ]);
    expect((await granted(getToken(`?${scope}`, basicOf("bob")))).access).toEqual([
      { type: "repository", name: repository, actions: [] },
    ]);
    await registry.grant("bob", repository, "read");
    expect((await granted(getToken(`?${scope}`, basicOf("bob")))).access[0]?.actions).toEqual(["pull"]);
    await registry.grant("bob", repository, "none");
  });

  test("several scopes, in several parameters or one, each on its own line of the token", async () => {
    const expected = [
      { type: "repository", name: repository, actions: ["pull"] },
      { type: "repository", name: "alice/new", actions: ["pull", "push"] },
      { type: "repository", name: "bob/other", actions: [] },
    ];
    const scopes = [`repository:${repository}:pull`, "repository:alice/new:pull,push", "repository:bob/other:push"];
    const several = new URLSearchParams(scopes.map((scope) => ["scope", scope]));
    expect((await granted(getToken(`?${several}`, basicOf("alice")))).access).toEqual(expected);
    const single = new URLSearchParams({ scope: scopes.join(" ") });
    expect((await granted(getToken(`?${single}`, basicOf("alice")))).access).toEqual(expected);
  });

  test("claims are Quay's, and kid names a key that the instance publishes", async () => {
    const { claims, token } = await granted(
      getToken(`?scope=repository:${repository}:pull&service=other&account=x`, basicOf("alice")),
    );
    expect(claims).toMatchObject({ iss: "quay", aud: "berth", sub: "alice", context: { kind: "user", user: "alice" } });
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBe(3600);
    const { kid, alg, typ } = decodeProtectedHeader(token);
    expect({ alg, typ }).toEqual({ alg: "ES256", typ: "JWT" });
    const published = (await (await fetch(`${url}/keys/services/quay/keys`)).json()) as { keys: { kid: string }[] };
    expect(published.keys.map((key) => key.kid)).toContain(kid ?? "");
    expect(JSON.stringify(published)).not.toContain('"d"');
  });

  test("an anonymous token grants pulls of public repositories and nothing else", async () => {
    const { access, claims } = await granted(
      getToken("?scope=repository:alice/public:pull,push&scope=repository:alice/repo:pull&scope=repository:x1/y:pull"),
    );
    expect(claims.sub).toBe("(anonymous)");
    expect(access.map((entry) => entry.actions)).toEqual([["pull"], [], []]);
  });

  test("no credentials and no scope is 401, without a challenge that would loop", async () => {
    for (const query of ["", "?scope=", "?service=berth", "?scope=registry:catalog:*"]) {
      const response = await getToken(query);
      expect(response.status, query).toBe(401);
      expect((await errorOf(response)).code).toBe("UNAUTHORIZED");
      expect(response.headers.get("www-authenticate")).toBeNull();
    }
  });

  test("scopes that are none are refused with Quay's text", async () => {
    for (const scope of [
      "repository",
      "repository:alice/repo",
      "repo:alice/repo:pull",
      "repository:a b:pull",
      "x",
      "repository:alice/repo:PULL",
      "repository::pull",
      "repository:alice/repo:pull,",
    ]) {
      const response = await getToken(`?${new URLSearchParams({ scope: scope.replace(" ", "+") })}`, basicOf("alice"));
      expect(response.status, scope).toBe(400);
      const { code, message } = await errorOf(response);
      expect(code).toBe("INVALID_REQUEST");
      expect(message).toStartWith("Unable to decode repository and actions: ");
    }
    for (const name of ["alice/-x", "alice//x", "../x", "alice/../bob", "ALICE/x", `alice/${"a".repeat(256)}`]) {
      const response = await getToken(`?scope=repository:${name}:pull`, basicOf("alice"));
      expect(response.status, name).toBe(400);
      expect((await errorOf(response)).code).toBe("NAME_INVALID");
    }
    const many = Array.from({ length: 51 }, () => `scope=repository:${repository}:pull`).join("&");
    expect((await getToken(`?${many}`, basicOf("alice"))).status).toBe(400);
  });

  test("unknown actions are left out, * asks for all", async () => {
    const actionsOf = async (actions: string) =>
      (await granted(getToken(`?scope=repository:${repository}:${actions}`, basicOf("alice")))).access[0]?.actions;
    expect(await actionsOf("pull,fly")).toEqual(["pull"]);
    expect(await actionsOf("")).toEqual([]);
    expect(await actionsOf("*")).toEqual(["pull", "push", "delete", "*"]);
  });

  test("a name without namespace is library's", async () => {
    const { access } = await granted(getToken("?scope=repository:busybox:pull", basicOf("alice")));
    expect(access).toEqual([{ type: "repository", name: "busybox", actions: [] }]);
    await registry.user("library");
    await publish(registry.client("library", password), "library/busybox", image("busybox"), "latest");
    await registry.visibility("library/busybox", "public");
    expect((await registry.anonymous.pullManifest("busybox", "latest")).status).toBe(200);
    expect((await registry.anonymous.pullManifest("library/busybox", "latest")).status).toBe(200);
  });

  test("a namespace called undefined or null is a namespace like any other", async () => {
    for (const name of ["undefined", "null", "constructor"]) {
      const client = await registry.user(name);
      await publish(client, `${name}/repo`, image(name), "v1");
      expect((await client.pullManifest(`${name}/repo`, "v1")).status, name).toBe(200);
    }
  });

  test("HEAD gives the headers alone, other methods are 405", async () => {
    const head = await getToken(`?scope=repository:${repository}:pull`, basicOf("alice"), "HEAD");
    expect(head.status).toBe(200);
    expect(await head.text()).toBe("");
  });
});

describe("tokens by POST", () => {
  const form = { grant_type: "password", username: "alice", password, service: "berth", client_id: "test" };

  test("the OAuth2 form gives the same token and repeats the scope", async () => {
    const response = await postToken({ ...form, scope: pushScope(repository) });
    expect(response.status).toBe(200);
    const body = (await response.json()) as { access_token: string; scope: string };
    expect(body.scope).toBe(pushScope(repository));
    expect(decodeJwt(body.access_token).access).toEqual([
      { type: "repository", name: repository, actions: ["pull", "push"] },
    ]);
  });

  test("another grant_type is UNSUPPORTED, so that clients go on with GET", async () => {
    for (const change of [{ grant_type: "refresh_token" }, { grant_type: "" }]) {
      const response = await postToken({ ...form, ...change });
      expect(response.status).toBe(405);
      expect((await errorOf(response)).code).toBe("UNSUPPORTED");
    }
    const empty = await postToken("");
    expect(empty.status).toBe(405);
    await empty.body?.cancel();
  });

  test("wrong credentials are 401", async () => {
    for (const change of [{ password: "wrong-password" }, { username: "nobody-here" }, { username: "" }]) {
      const response = await postToken({ ...form, ...change });
      expect(response.status).toBe(401);
      expect((await errorOf(response)).message).toBe("Invalid Username or Password");
    }
    // Clears the count of failures, so that later log-ins need not wait.
    await Bun.sleep(600);
    expect((await postToken(form)).status).toBe(200);
  });

  test("a form that is too large is 413 and says what it is", async () => {
    const response = await postToken(`grant_type=password&username=${"a".repeat(70_000)}`);
    expect(response.status).toBe(413);
    expect((await errorOf(response)).message).not.toContain("manifest");
  });
});

describe("accounts", () => {
  test("a robot logs in with its token and does what it was given", async () => {
    const robot = await registry.robot("alice", "puller");
    expect((await robot.client.pullManifest(repository, "v1")).status).toBe(401);
    await registry.grant(robot.name, repository, "read");
    robot.client.forgetTokens();
    expect((await robot.client.pullManifest(repository, "v1")).status).toBe(200);
    expect((await robot.client.pushBlob(repository, new Uint8Array(3))).status).toBe(401);
    const { claims } = await granted(getToken("", basicOf(robot.name, robot.token)));
    expect(claims).toMatchObject({ sub: "alice+puller", context: { kind: "robot" } });
    await registry.enabled("alice+puller", false);
    const response = await getToken("", basicOf(robot.name, robot.token));
    expect(response.status).toBe(401);
    expect((await errorOf(response)).message).toBe("This user has been disabled. Please contact your administrator.");
  });

  test("wrong log-ins answer with Quay's texts", async () => {
    for (const [name, secret, message] of [
      ["nobody-here", "x", "Invalid Username or Password"],
      ["alice+none", "x", "Could not find robot with username: alice+none and supplied password."],
      ["alice+puller", "x", "Could not find robot with username: alice+puller and supplied password."],
      ["Alice+puller", "x", "Alice+puller is an invalid robot name"],
      ["al\u0000ice", "x", "Invalid Username or Password"],
      ["al\u0000ice@example.com", "x", "Invalid Username or Password"],
      ["alice\u0000+puller", "x", "alice\u0000+puller is an invalid robot name"],
      ["a".repeat(10_000), "x", "Invalid Username or Password"],
      ["", "", "Invalid Username or Password"],
    ] as const) {
      const response = await getToken("", basicOf(name, secret));
      expect(response.status, name.slice(0, 30)).toBe(401);
      expect((await errorOf(response)).message).toBe(message);
    }
  });

  test("Authorization headers of other kinds are 401, not guesses", async () => {
    for (const authorization of [
      "Digest x",
      "Basic",
      "Basic !!!",
      `Basic ${btoa("nocolon")}`,
      "Bearer",
      "Bearer ",
      "alice",
      "Basic  ",
    ]) {
      const response = await fetch(`${url}/v2/`, { headers: { authorization } });
      expect(response.status, authorization).toBe(401);
      expect(response.headers.get("www-authenticate")).toStartWith("Bearer realm=");
      await response.body?.cancel();
    }
  });

  test("a disabled user is refused with password and token, at once", async () => {
    const user = await registry.user("switched");
    await publish(user, "switched/repo", image("switched"), "v1");
    expect((await user.pullManifest("switched/repo", "v1")).status).toBe(200);
    await registry.enabled("switched", false);
    expect((await user.pullManifest("switched/repo", "v1")).status).toBe(401);
    const response = await getToken("", basicOf("switched"));
    expect(response.status).toBe(401);
    expect((await errorOf(response)).message).toBe("This user has been disabled. Please contact your administrator.");
    await registry.enabled("switched", true);
    expect((await user.pullManifest("switched/repo", "v1")).status).toBe(200);
  });

  test("a disabled namespace refuses pulls and tokens of those who could pull, with Quay's text", async () => {
    const user = await registry.user("closing");
    await publish(user, "closing/repo", image("closing"), "v1");
    await registry.grant("bob", "closing/repo", "read");
    await registry.enabled("closing", false);
    const scope = "/v2/auth?service=berth&scope=repository:closing/repo:pull";
    for (const path of ["/v2/closing/repo/manifests/v1", scope]) {
      const response = await fetch(`${url}${path}`, { headers: basicOf("bob") });
      expect(response.status).toBe(405);
      expect(await errorOf(response)).toMatchObject({
        code: "DENIED",
        message: "Namespace closing has been disabled. Please contact a system administrator.",
      });
    }
    // Who may not know the repository gets a token that is good for nothing, as for any other name.
    expect((await granted(fetch(`${url}${scope}`, { headers: basicOf("alice") }))).access[0]?.actions).toEqual([]);
  });
});

describe("the first user", () => {
  let fresh: Registry;
  beforeAll(async () => {
    fresh = await startRegistry({ FEATURE_USER_INITIALIZE: true });
    // The embedded default has made its admin: the table must be empty for this.
    await fresh.app.db.tx(async (tx) => {
      await tx.sql`delete from account`;
    });
  }, 60_000);
  afterAll(() => fresh.stop());

  const initialize = async (body: unknown) => {
    const response = await fetch(`${fresh.berth.url}/api/v1/user/initialize`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  const valid = {
    username: "quayadmin",
    password: "quaypass12345",
    email: "quayadmin@example.com",
    access_token: true,
  };

  test("wrong bodies are 400 with a message, and make nobody", async () => {
    for (const [change, message] of [
      [{ username: "A!" }, /^Failed to initialize user: Invalid namespace A!: Namespace must match expression/],
      [{ username: "a" }, /^Failed to initialize user: Invalid namespace a: Namespace must be between 2 and 255/],
      [{ username: "qu\u0000ay" }, /^Failed to initialize user: /],
      [
        { password: "short" },
        /^Failed to initialize user: Invalid password, password must be at least 8 characters and contain no whitespace\.$/,
      ],
      [{ password: "with white space" }, /^Failed to initialize user: Invalid password/],
      [{ email: "nobody" }, /^Failed to initialize user: Invalid email address: nobody$/],
      [{ email: "a\u0000b@example.com" }, /^Failed to initialize user: Invalid email address/],
      [{ username: 7 }, /username/],
      [{ access_token: "yes" }, /access_token/],
    ] as const) {
      const answer = await initialize({ ...valid, ...change });
      expect(answer.status, JSON.stringify(change)).toBe(400);
      expect(answer.body.message).toMatch(message);
    }
    for (const body of ["", "{", "[]", "null", '"x"']) {
      const answer = await initialize(body);
      expect(answer.status, body).toBe(400);
      expect(answer.body.message).toStartWith("Missing JSON body");
    }
  });

  test("two at once: one is made, the other is told that the database is not empty", async () => {
    const answers = await Promise.all([initialize(valid), initialize({ ...valid, username: "second", email: null })]);
    const made = answers.find((answer) => answer.status === 200);
    const refused = answers.find((answer) => answer.status === 400);
    expect(refused?.body).toEqual({ message: "Cannot initialize user in a non-empty database" });
    expect(String(made?.body.encrypted_password)).not.toContain(valid.password);
    expect(made?.body.access_token).toMatch(/^[A-Za-z0-9]{40}$/);
    const username = String(made?.body.username);
    const login = await fetch(`${fresh.berth.url}/v2/`, { headers: basicOf(username, valid.password) });
    expect(login.status).toBe(200);
    expect(await initialize({ ...valid, username: "third" })).toEqual({
      status: 400,
      body: { message: "Cannot initialize user in a non-empty database" },
    });
  });

  test("without the feature there is no such route", async () => {
    const response = await fetch(`${url}/api/v1/user/initialize`, { method: "POST", body: JSON.stringify(valid) });
    expect(response.status).toBe(404);
    await response.body?.cancel();
  });
});
