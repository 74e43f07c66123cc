/** Robots that log in with ID tokens of an issuer they trust. Source: quay-api reference, section 20 (3.13). */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { image, publish } from "../support/content.ts";
import { type Issuer, startIssuer } from "../support/oidc-issuer.ts";
import { basicAuthorization } from "../support/registry-client.ts";
import { grantedBy, lastLog, makeOrganization, pullStatus } from "./credentials-world.ts";
import { type Api, type ApiClient, startApi } from "./harness.ts";

const repository = "alice/private";
const route = "/user/robots/builder/federation";
const robot = "alice+builder";
const subject = "repo:acme/app:ref:refs/heads/main";
let api: Api;
let issuer: Issuer;
let alice: ApiClient;

beforeAll(async () => {
  issuer = await startIssuer();
  api = await startApi({ SSRF_ALLOWED_HOSTS: ["127.0.0.1"] });
  await publish(await api.user("alice"), repository, image("federation"), "v1");
  await api.robot("alice", "builder");
  await api.grant(robot, repository, "write");
  alice = await api.as("alice");
  expect((await alice.post(route, [{ issuer: issuer.url, subject }])).status).toBe(200);
}, 60_000);
afterAll(async () => {
  await api.stop();
  await issuer.stop();
});

/** Through the balancer, or at one instance, which hears first what the others have committed. */
function exchange(idToken: string, name = robot, at = api.berth.url): Promise<Response> {
  return fetch(`${at}/oauth2/federation/robot/token`, {
    headers: { authorization: basicAuthorization(name, idToken), "cache-control": "no-cache" },
  });
}

const good = (claims: JWTPayload = {}): JWTPayload => ({ sub: subject, aud: "berth", ...claims });

async function tokenOf(name = robot, at = api.berth.url): Promise<string> {
  const response = await exchange(await issuer.sign(good()), name, at);
  expect(response.status).toBe(200);
  return ((await response.json()) as { token: string }).token;
}

describe("what a robot trusts", () => {
  test("is set, listed and taken away, each with its log entry", async () => {
    await api.robot("alice", "listed");
    const path = "/user/robots/listed/federation";
    expect((await alice.get(path)).body).toEqual([]);
    const trusted = [
      { issuer: "https://a.example", subject: "one" },
      { issuer: "https://b.example/tenant", subject: "two" },
    ];
    expect((await alice.post(path, [...trusted, trusted[0]])).body).toEqual(trusted);
    expect((await lastLog(api, "create_robot_federation")).metadata).toMatchObject({ robot: "listed" });
    expect((await alice.get(path)).body).toEqual(trusted);
    expect((await alice.post(path, [trusted[1]])).body).toEqual([trusted[1]]);
    expect((await alice.delete(path)).status).toBe(204);
    expect((await lastLog(api, "delete_robot_federation")).metadata).toEqual({ robot: "listed", config: [trusted[1]] });
    expect((await alice.get(path)).body).toEqual([]);
  });

  test("is an https issuer and a subject", async () => {
    for (const body of [
      [],
      {},
      [{ issuer: "https://a.example" }],
      [{ issuer: "https://a.example", subject: "" }],
      [{ issuer: "http://a.example", subject: "x" }],
      [{ issuer: "a.example", subject: "x" }],
      [{ issuer: "file:///etc/passwd", subject: "x" }],
      [{ issuer: "https://user:pw@a.example", subject: "x" }],
      [{ issuer: "https://a.example?x=1", subject: "x" }],
      [{ issuer: "https://a.example#x", subject: "x" }],
      Array.from({ length: 21 }, (_, index) => ({ issuer: "https://a.example", subject: String(index) })),
    ]) {
      expect((await alice.post(route, body)).status).toBe(400);
    }
    expect((await alice.get(route)).body).toEqual([{ issuer: issuer.url, subject }]);
  });

  test("is for the namespace's owner and admins", async () => {
    await api.user("bob");
    await makeOrganization(api, "acme", "alice");
    await api.robot("acme", "ci");
    const path = "/organization/acme/robots/ci/federation";
    const bob = await api.as("bob");
    expect((await bob.get(path)).status).toBe(403);
    expect((await bob.post(path, [{ issuer: "https://a.example", subject: "x" }])).status).toBe(403);
    expect((await bob.delete(path)).status).toBe(403);
    expect((await alice.post(path, [{ issuer: "https://a.example", subject: "x" }])).status).toBe(200);
    expect((await bob.get(route)).status).toBe(400);
    expect((await alice.get("/organization/acme/robots/builder/federation")).status).toBe(400);
  });
});

describe("an exchange", () => {
  test("gives a token that is the robot's password for an hour", async () => {
    const token = await tokenOf();
    expect(await pullStatus(api, basicAuthorization(robot, token), repository)).toBe(200);
    const granted = await grantedBy(api, robot, token, repository);
    expect(granted?.actions).toEqual(["pull", "push", "delete"]);
    expect(await pullStatus(api, `Bearer ${granted?.token}`, repository)).toBe(200);
    expect(granted?.expiresInSeconds).toBeGreaterThan(3500);
    expect(granted?.expiresInSeconds).toBeLessThanOrEqual(3600);
    expect(await lastLog(api, "federated_robot_token_exchange")).toEqual({
      metadata: { robot, issuer: issuer.url, subject },
      performerId: await api.accountId(robot),
      namespaceId: await api.accountId("alice"),
    });
  });

  test("asks the issuer once for many, and for a key that is new not more than once a minute", async () => {
    // Each instance knows what it has asked itself.
    const at = api.berth.instances[0]?.url;
    await tokenOf(robot, at);
    const before = { ...issuer.asked };
    await Promise.all([tokenOf(robot, at), tokenOf(robot, at), tokenOf(robot, at)]);
    expect(issuer.asked).toEqual(before);
    const turning = await startIssuer();
    try {
      await api.robot("alice", "turning");
      await alice.post("/user/robots/turning/federation", [{ issuer: turning.url, subject }]);
      expect((await exchange(await turning.sign(good()), "alice+turning", at)).status).toBe(200);
      await turning.rotate();
      // Not within a minute of the last time: forged key names must not send us there on every request.
      expect((await exchange(await turning.sign(good()), "alice+turning", at)).status).toBe(401);
      expect(turning.asked["/keys"]).toBe(1);
    } finally {
      await turning.stop();
    }
  });

  test("is for the name and the address that the config gives us, not for those a request does", async () => {
    const named = await startApi({ SSRF_ALLOWED_HOSTS: ["127.0.0.1"], SERVER_HOSTNAME: "registry.example" });
    try {
      await named.user("alice");
      await named.robot("alice", "builder");
      await (await named.as("alice")).post(route, [{ issuer: issuer.url, subject }]);
      for (const [aud, status] of [
        ["registry.example", 200],
        ["http://registry.example", 200],
        [["another", "registry.example"], 200],
        ["berth", 401],
        ["another", 401],
        ["http://another.example", 401],
      ] as const) {
        const idToken = await issuer.sign({ sub: subject, aud: typeof aud === "string" ? aud : [...aud] });
        const response = await fetch(`${named.berth.url}/oauth2/federation/robot/token`, {
          headers: { authorization: basicAuthorization(robot, idToken), Host: "another.example" },
        });
        expect([aud, response.status]).toEqual([aud, status]);
        await response.body?.cancel();
      }
    } finally {
      await named.stop();
    }
  }, 30_000);

  test("its token is no other robot's password, no bearer and no API token", async () => {
    const other = await api.robot("alice", "other");
    const token = await tokenOf();
    expect(await pullStatus(api, basicAuthorization(other.name, token), repository)).toBe(401);
    expect(await pullStatus(api, basicAuthorization("alice", token), repository)).toBe(401);
    expect(await pullStatus(api, `Bearer ${token}`, repository)).toBe(401);
    expect((await api.bearer(token).get("/user/robots")).status).toBe(401);
    const granted = await grantedBy(api, robot, token, repository);
    expect(await pullStatus(api, basicAuthorization(robot, granted?.token ?? ""), repository)).toBe(401);
  });

  test("the ID token itself is no password", async () => {
    expect(await pullStatus(api, basicAuthorization(robot, await issuer.sign(good())), repository)).toBe(401);
  });

  test("ends with the trust it rests on", async () => {
    await api.robot("alice", "ended");
    await api.grant("alice+ended", repository, "read");
    const path = "/user/robots/ended/federation";
    await alice.post(path, [{ issuer: issuer.url, subject }]);
    const token = await tokenOf("alice+ended");
    const bearer = `Bearer ${(await grantedBy(api, "alice+ended", token, repository))?.token}`;
    const basic = basicAuthorization("alice+ended", token);
    expect([await pullStatus(api, basic, repository), await pullStatus(api, bearer, repository)]).toEqual([200, 200]);
    await alice.post(path, [{ issuer: issuer.url, subject: "another" }]);
    expect([await pullStatus(api, basic, repository), await pullStatus(api, bearer, repository)]).toEqual([401, 401]);
    expect((await exchange(await issuer.sign(good()), "alice+ended")).status).toBe(401);
  });
});

describe("an ID token that is not right", () => {
  const nowSeconds = () => Math.floor(Date.now() / 1000);
  const cases: readonly (readonly [what: string, make: () => Promise<string>])[] = [
    ["of another subject", () => issuer.sign(good({ sub: "repo:evil/app" }))],
    ["for another service", () => issuer.sign(good({ aud: "another.example" }))],
    ["for nobody", () => issuer.sign({ sub: subject })],
    ["that is over", () => issuer.sign(good({ exp: nowSeconds() - 60 }))],
    ["that is not yet", () => issuer.sign(good({ nbf: nowSeconds() + 600 }))],
    ["without an end", () => issuer.sign(good(), { endless: true })],
    ["of another issuer", () => issuer.sign(good({ iss: "https://another.example" }))],
    ["of the issuer spelled otherwise", () => issuer.sign(good({ iss: `${issuer.url}/` }))],
    ["signed by somebody else", async () => issuer.sign(good(), { pair: await generateKeyPair("RS256") })],
    [
      "signed with a key of the same kind but another name",
      async () => issuer.sign(good(), { pair: await generateKeyPair("RS256"), kid: "another" }),
    ],
    [
      "signed with a shared secret",
      () =>
        new SignJWT({ ...good(), iss: issuer.url, exp: nowSeconds() + 600 })
          .setProtectedHeader({ alg: "HS256" })
          .sign(new TextEncoder().encode("0123456789abcdef0123456789abcdef")),
    ],
    [
      "that is not signed",
      async () => {
        const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
        return `${part({ alg: "none" })}.${part({ ...good(), iss: issuer.url, exp: nowSeconds() + 600 })}.`;
      },
    ],
    ["that is none", async () => "no token at all"],
    ["that is empty", async () => ""],
  ];
  test.each(cases)("%s is refused", async (_, make) => {
    const response = await exchange(await make());
    expect(response.status).toBe(401);
    expect(Object.keys((await response.json()) as object)).toEqual(["message"]);
  });

  test("or a robot that is not, gets one answer, and nobody is asked for keys", async () => {
    const before = { ...issuer.asked };
    const token = await issuer.sign(good());
    await api.robot("alice", "untrusting");
    for (const name of ["alice+untrusting", "alice+absent", "alice", "no robot", "$app"]) {
      const response = await exchange(token, name);
      expect(response.status).toBe(401);
      expect(((await response.json()) as { message: string }).message).toEndWith(
        "that trusts the issuer and subject of this token",
      );
    }
    expect(issuer.asked).toEqual(before);
    const naked = await fetch(`${api.berth.url}/oauth2/federation/robot/token`);
    expect([naked.status, naked.headers.get("www-authenticate")]).toEqual([401, 'Basic realm="robot federation"']);
  });

  test("a disabled owner's robot gets none", async () => {
    await api.user("dave");
    await api.robot("dave", "builder");
    const dave = await api.as("dave");
    await dave.post(route, [{ issuer: issuer.url, subject }]);
    await tokenOf("dave+builder");
    await api.enabled("dave", false);
    expect((await exchange(await issuer.sign(good()), "dave+builder")).status).toBe(401);
  });
});

describe("the issuer's own documents", () => {
  let other: Issuer;
  beforeAll(async () => {
    other = await startIssuer();
  });
  afterAll(() => other.stop());

  async function exchangeWith(issued: Issuer, name: string): Promise<Response> {
    await api.robot("alice", name);
    await alice.post(`/user/robots/${name}/federation`, [{ issuer: issued.url, subject }]);
    return exchange(await issued.sign(good()), `alice+${name}`);
  }

  test("that name another issuer, another host or nothing are not used", async () => {
    const discovery = "/.well-known/openid-configuration";
    const right = other.documents[discovery];
    const wrong: readonly unknown[] = [
      { issuer: "https://another.example", jwks_uri: `${other.url}/keys` },
      { issuer: other.url },
      { issuer: other.url, jwks_uri: "http://10.0.0.1/keys" },
      { issuer: other.url, jwks_uri: "http://localhost:1/keys" },
      { issuer: other.url, jwks_uri: "file:///etc/passwd" },
      { issuer: other.url, jwks_uri: `${other.url}/nothing` },
      [],
      "text",
      undefined,
      new Response(null, { status: 302, headers: { Location: `${issuer.url}${discovery}` } }),
      new Response("x".repeat(600 * 1024)),
    ];
    for (const [index, document] of wrong.entries()) {
      other.documents[discovery] = document;
      const response = await exchangeWith(other, `wrong${index}`);
      expect(response.status).toBe(520);
      await response.body?.cancel();
    }
    other.documents[discovery] = right;
    expect((await exchangeWith(other, "right")).status).toBe(200);
  }, 30_000);

  test("inside the operator's network are not asked for unless the config names the host", async () => {
    const closed = await startApi();
    try {
      await closed.user("alice");
      await closed.robot("alice", "builder");
      const client = await closed.as("alice");
      expect((await client.post(route, [{ issuer: issuer.url, subject }])).status).toBe(400);
      const before = { ...issuer.asked };
      for (const host of ["localhost", "127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.1", "[::ffff:10.0.0.1]"]) {
        const trusted = { issuer: `https://${host}`, subject };
        expect((await client.post(route, [trusted])).status).toBe(200);
        const idToken = await issuer.sign(good({ iss: trusted.issuer, aud: "berth" }));
        const response = await fetch(`${closed.berth.url}/oauth2/federation/robot/token`, {
          headers: { authorization: basicAuthorization(robot, idToken) },
        });
        expect(response.status).toBe(520);
        expect(((await response.json()) as { message: string }).message).toContain("SSRF_ALLOWED_HOSTS");
      }
      expect(issuer.asked).toEqual(before);
    } finally {
      await closed.stop();
    }
  }, 30_000);
});
