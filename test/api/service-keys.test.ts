/** Service keys: by superusers, and as services bring them themselves. Source: quay-api, sections 15 and 17; behaviour, 20. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  type CryptoKey,
  calculateJwkThumbprint,
  exportJWK,
  generateKeyPair,
  importPKCS8,
  type JWK,
  SignJWT,
} from "jose";
import { sweepServiceKeys } from "../../src/domain/service-key/service-key.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

let api: Api;
let su: ApiClient;
beforeAll(async () => {
  api = await startApi();
  await api.user("alice");
  su = await api.as("admin");
}, 60_000);
afterAll(() => api.stop());

async function logged(kind: string) {
  const [row] = await api.app.db.sql<{ metadata: string; performer_id: number | null }>`/* test.logged */
    select metadata, performer_id from action_log where kind = ${kind} order by id desc limit 1`;
  return row && { performer: row.performer_id, metadata: JSON.parse(row.metadata) };
}

interface Pair {
  readonly kid: string;
  readonly jwk: JWK;
  readonly privateKey: CryptoKey;
}

async function makePair(algorithm = "RS256"): Promise<Pair> {
  const pair = await generateKeyPair(algorithm, { extractable: true });
  const jwk = await exportJWK(pair.publicKey);
  return { kid: await calculateJwkThumbprint(jwk), jwk, privateKey: pair.privateKey };
}

interface Claims {
  issuer?: string;
  audience?: string;
  expires?: string | number;
  algorithm?: string;
}

function jwt(signer: Pair, service: string, change: Claims = {}): Promise<string> {
  return new SignJWT({})
    .setProtectedHeader({ alg: change.algorithm ?? "RS256", typ: "JWT", kid: signer.kid })
    .setIssuer(change.issuer ?? service)
    .setAudience(change.audience ?? api.berth.url)
    .setIssuedAt()
    .setExpirationTime(change.expires ?? "5m")
    .sign(signer.privateKey);
}

function keys(method: string, path: string, token?: string, body?: unknown): Promise<Response> {
  return fetch(`${api.berth.url}/keys/services/${path}`, {
    method,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
  });
}

/** Brings a key as its service would. */
async function submit(pair: Pair, service: string, query = ""): Promise<Response> {
  return keys("PUT", `${service}/keys/${pair.kid}${query}`, await jwt(pair, service), pair.jwk);
}

describe("by superusers", () => {
  test("a key is made, shown, changed and deleted, each with its entry", async () => {
    const expiration = Math.floor(Date.now() / 1000) + 3600;
    const made = await su.post("/superuser/keys", {
      service: "mirror",
      expiration,
      name: "Mirror",
      metadata: { team: "edge", created_by: "somebody else" },
      notes: "for the lab",
    });
    expect(made.body).toMatchObject({ service: "mirror", name: "Mirror" });
    expect(made.body.public_key).toStartWith("-----BEGIN PUBLIC KEY-----");
    await importPKCS8(made.body.private_key, "RS256");
    const { kid } = made.body;
    const shown = await su.get(`/superuser/keys/${kid}`);
    expect(shown.body).toEqual({
      name: "Mirror",
      kid,
      service: "mirror",
      jwk: { kty: "RSA", n: expect.any(String), e: "AQAB" },
      metadata: { team: "edge", created_by: "Quay Superuser Panel", creator: "admin", ip: "127.0.0.1" },
      created_date: expect.any(String),
      expiration_date: expect.any(String),
      rotation_duration: null,
      approval: {
        approver: expect.objectContaining({ kind: "user", username: "admin", super_user: true }),
        approval_type: "ServiceKeyApprovalType.SUPERUSER",
        approved_date: expect.any(String),
        notes: "for the lab",
      },
    });
    expect(JSON.stringify(shown.body)).not.toContain("PRIVATE");
    expect((await logged("service_key_create"))?.metadata).toEqual({
      kid,
      service: "mirror",
      name: "Mirror",
      preshared: true,
      auto_approved: true,
      expiration_date: new Date(expiration * 1000).toISOString(),
    });
    const published = await keys("GET", "mirror/keys");
    expect(await published.json()).toEqual({ keys: [{ ...shown.body.jwk, kid }] });

    const changed = await su.put(`/superuser/keys/${kid}`, { name: "Other", metadata: { a: 1 }, expiration: null });
    expect(changed.body).toMatchObject({ name: "Other", metadata: { a: 1 }, expiration_date: null });
    expect((await logged("service_key_extend"))?.metadata).toMatchObject({ kid, expiration_date: null });
    expect((await logged("service_key_modify"))?.metadata).toMatchObject({ kid, name: "Other" });
    expect((await su.delete(`/superuser/keys/${kid}`)).status).toBe(204);
    expect((await su.delete(`/superuser/keys/${kid}`)).status).toBe(404);
    expect((await su.get(`/superuser/keys/${kid}`)).status).toBe(404);
    expect((await logged("service_key_delete"))?.metadata).toMatchObject({ kid, service: "mirror" });
    expect((await keys("GET", `mirror/keys/${kid}`)).status).toBe(404);
  }, 30_000);

  const wrong: [name: string, body: object, detail?: string][] = [
    ["an expiration in the past", { service: "x_1", expiration: 1000 }, "Expiration date cannot be in the past"],
    ["an expiration beyond all dates", { service: "x_1", expiration: 1e18 }, "Invalid expiration date"],
    ["no expiration", { service: "x_1" }],
    ["a service that is no name", { service: "X-1", expiration: null }],
    ["a NUL", { service: "x_1", expiration: null, name: "a\u0000" }],
    ["the registry's own service", { service: "quay", expiration: null }],
    ["a name that is too long", { service: "x_1", expiration: null, name: "x".repeat(255) }],
    ["too much metadata", { service: "x_1", expiration: null, metadata: { a: "x".repeat(20_000) } }],
  ];
  for (const [name, body, detail] of wrong) {
    test(`${name} makes no key`, async () => {
      const answer = await su.post("/superuser/keys", body);
      expect(envelopeOf(answer).type).toBe("invalid_request");
      if (detail !== undefined) expect(envelopeOf(answer).detail).toBe(detail);
    });
  }

  test("are for superusers alone", async () => {
    const alice = await api.as("alice");
    const nobody = await api.nobody();
    for (const [method, path] of [
      ["GET", "/superuser/keys"],
      ["POST", "/superuser/keys"],
      ["GET", "/superuser/keys/x"],
      ["PUT", "/superuser/keys/x"],
      ["DELETE", "/superuser/keys/x"],
      ["POST", "/superuser/approvedkeys/x"],
    ] as const) {
      expect((await alice.send(method, path, method === "GET" ? undefined : {})).status).toBe(403);
      expect((await nobody.send(method, path, method === "GET" ? undefined : {})).status).toBe(401);
    }
  });
});

describe("brought by services", () => {
  test("a key waits for a superuser, who is told of it, and counts when approved", async () => {
    const pair = await makePair();
    expect((await submit(pair, "scanner", "?rotation=60")).status).toBe(202);
    expect((await keys("GET", `scanner/keys/${pair.kid}`)).status).toBe(409);
    expect(await (await keys("GET", "scanner/keys")).json()).toEqual({ keys: [] });
    const [notice] = await api.app.db.sql<{ kind: string; metadata: string }>`/* test.notice */
      select kind, metadata from user_notification where account_id = ${await api.accountId("admin")}`;
    expect(notice?.kind).toBe("service_key_submitted");
    expect(JSON.parse(notice?.metadata ?? "")).toMatchObject({ kid: pair.kid, service: "scanner", name: "" });
    expect(await logged("service_key_create")).toEqual({
      performer: null,
      metadata: expect.objectContaining({ kid: pair.kid, preshared: false, ip: "127.0.0.1" }),
    });

    const approved = await su.post(`/superuser/approvedkeys/${pair.kid}`, { notes: "known" });
    expect([approved.status, approved.text]).toEqual([201, ""]);
    expect((await su.post(`/superuser/approvedkeys/${pair.kid}`, { notes: "again" })).status).toBe(201);
    expect((await su.post("/superuser/approvedkeys/unknown", {})).status).toBe(404);
    const shown = await su.get(`/superuser/keys/${pair.kid}`);
    expect(shown.body).toMatchObject({ rotation_duration: 60, approval: { notes: "known" } });
    const published = await keys("GET", `scanner/keys/${pair.kid}`);
    expect(published.headers.get("cache-control")).toBe("max-age=86400");
    expect(await published.json()).toEqual({ kty: "RSA", n: pair.jwk.n, e: pair.jwk.e, kid: pair.kid });
    const notices = await api.app.db.sql`/* test.notices */ select id from user_notification`;
    expect(notices).toHaveLength(0);
    expect((await keys("GET", `other/keys/${pair.kid}`)).status).toBe(404);
  }, 30_000);

  test("a trusted key brings its successor, once, and counts on for its rotation time alone", async () => {
    const [old, young, third] = await Promise.all([makePair(), makePair("ES256"), makePair()]);
    await submit(old, "rotator");
    const bring = async (signer: Pair, key: Pair, algorithm = "RS256") =>
      keys("PUT", `rotator/keys/${key.kid}`, await jwt(signer, "rotator", { algorithm }), key.jwk);
    expect((await bring(old, young)).status).toBe(403);
    await su.post(`/superuser/approvedkeys/${old.kid}`, {});
    expect((await bring(old, young)).status).toBe(200);
    expect((await su.get(`/superuser/keys/${young.kid}`)).body.approval).toMatchObject({
      approval_type: "ServiceKeyApprovalType.KEY_ROTATION",
    });
    expect((await logged("service_key_rotate"))?.metadata).toMatchObject({ kid: young.kid, signer_kid: old.kid });
    const published = (await (await keys("GET", "rotator/keys")).json()) as { keys: JWK[] };
    expect(published.keys.map(({ kid }) => kid)).toEqual([young.kid]);
    expect((await bring(old, third)).status).toBe(403);
    expect((await keys("GET", `rotator/keys/${old.kid}`)).status).toBe(403);
    const twice = await Promise.all([bring(young, third, "ES256"), bring(young, third, "ES256")]);
    const [taken, refused] = twice.map(({ status }) => status).sort();
    expect(taken).toBe(200);
    // By who signed it, or by the key that is there by now: as the other one got so far.
    expect([403, 409]).toContain(refused ?? 0);
  }, 30_000);

  test("a key is withdrawn by itself or by a trusted one of its service", async () => {
    const [waiting, trusted, other] = await Promise.all([makePair(), makePair(), makePair()]);
    await submit(waiting, "leaver");
    await submit(trusted, "leaver");
    await submit(other, "elsewhere");
    const withdraw = async (signer: Pair, key: Pair, service: string) =>
      keys("DELETE", `${service}/keys/${key.kid}`, await jwt(signer, service));
    expect((await withdraw(waiting, trusted, "leaver")).status).toBe(403);
    expect((await withdraw(other, trusted, "leaver")).status).toBe(403);
    expect((await withdraw(trusted, other, "elsewhere")).status).toBe(403);
    await su.post(`/superuser/approvedkeys/${trusted.kid}`, {});
    expect((await withdraw(trusted, other, "leaver")).status).toBe(404);
    expect((await withdraw(trusted, waiting, "leaver")).status).toBe(204);
    expect((await withdraw(trusted, trusted, "leaver")).status).toBe(204);
    expect((await logged("service_key_delete"))?.metadata).toMatchObject({ kid: trusted.kid, signer_kid: trusted.kid });
    expect((await withdraw(trusted, trusted, "leaver")).status).toBe(403);
  }, 30_000);

  test("what proves nothing is refused and keeps nothing", async () => {
    const pair = await makePair();
    const stranger = await makePair();
    const path = `strict/keys/${pair.kid}`;
    const good = await jwt(pair, "strict");
    const none = `${btoa('{"alg":"none"}')}.${btoa('{"iss":"strict"}')}.`.replaceAll("=", "");
    const cases: [name: string, path: string, token: string | undefined, body: unknown, status: number][] = [
      ["no token", path, undefined, pair.jwk, 400],
      ["no JWT", path, "not-a-jwt", pair.jwk, 400],
      ["an unsigned one", path, none, pair.jwk, 400],
      ["somebody else's signature", path, await jwt({ ...stranger, kid: pair.kid }, "strict"), pair.jwk, 400],
      ["another issuer", path, await jwt(pair, "strict", { issuer: "other" }), pair.jwk, 400],
      ["another audience", path, await jwt(pair, "strict", { audience: "https://example.com" }), pair.jwk, 400],
      ["one that is over", path, await jwt(pair, "strict", { expires: 1000 }), pair.jwk, 400],
      ["an unknown signer", path, await jwt(stranger, "strict"), pair.jwk, 403],
      ["no JSON", path, good, "{", 400],
      ["a private key", path, good, await exportJWK(pair.privateKey), 400],
      ["a symmetric key", path, good, { kty: "oct", k: "AAAA" }, 400],
      ["a service that is no name", `No-Name/keys/${pair.kid}`, good, pair.jwk, 400],
      ["the registry's own service", `quay/keys/${pair.kid}`, await jwt(pair, "quay"), pair.jwk, 400],
      ["a wrong id", "strict/keys/a%20b", good, pair.jwk, 400],
      ["a NUL in the id", "strict/keys/a%00b", good, pair.jwk, 404],
      ["an expiration in the past", `${path}?expiration=1000`, good, pair.jwk, 400],
      ["an expiration that is none", `${path}?expiration=soon`, good, pair.jwk, 400],
      ["a rotation that is none", `${path}?rotation=-1`, good, pair.jwk, 400],
      ["too long a body", path, good, { ...pair.jwk, x5c: "x".repeat(100_000) }, 413],
    ];
    for (const [name, target, token, body, status] of cases) {
      expect([name, (await keys("PUT", target, token, body)).status]).toEqual([name, status]);
    }
    expect((await su.get(`/superuser/keys/${pair.kid}`)).status).toBe(404);
    expect((await keys("PATCH", path)).status).toBe(405);
    expect((await keys("GET", "a/b/c")).status).toBe(404);
    expect((await submit(pair, "strict")).status).toBe(202);
    expect((await submit(pair, "strict")).status).toBe(409);
  }, 30_000);

  test("only so many wait at a time", async () => {
    const pair = await makePair("ES256");
    const statuses: number[] = [];
    for (let index = 0; index < 101; index++) {
      const kid = `${pair.kid}-${index}`;
      const token = await jwt({ ...pair, kid }, "flood", { algorithm: "ES256" });
      statuses.push((await keys("PUT", `flood/keys/${kid}`, token, pair.jwk)).status);
    }
    expect(statuses.at(0)).toBe(202);
    expect(statuses.at(-1)).toBe(429);
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.forget */ delete from service_key where service = 'flood'`;
    });
  }, 60_000);

  test("what nobody approves, and what is long over, is swept", async () => {
    const [waiting, expired, lately] = await Promise.all([makePair(), makePair(), makePair()]);
    for (const pair of [waiting, expired, lately]) await submit(pair, "sweeper");
    for (const pair of [expired, lately]) await su.post(`/superuser/approvedkeys/${pair.kid}`, {});
    const nowMs = Date.now();
    const dayMs = 24 * 3600 * 1000;
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.age */ update service_key set created_ms = ${nowMs - dayMs - 1} where kid = ${waiting.kid}`;
      await tx.sql`/* test.age */ update service_key set expires_ms = ${nowMs - 7 * dayMs - 1} where kid = ${expired.kid}`;
      await tx.sql`/* test.age */ update service_key set expires_ms = ${nowMs - dayMs} where kid = ${lately.kid}`;
    });
    while ((await sweepServiceKeys(api.app, 1)) > 0);
    const left = await su.get("/superuser/keys");
    const kids = left.body.keys.map(({ kid }: { kid: string }) => kid);
    expect([waiting, expired, lately].map(({ kid }) => kids.includes(kid))).toEqual([false, false, true]);
  }, 30_000);
});

describe("the registry's own", () => {
  const own = async () => {
    const { body } = await su.get("/superuser/keys");
    return body.keys.find((key: { service: string }) => key.service === "quay");
  };

  test("are listed, and their life is not for others to change", async () => {
    const key = await own();
    expect(key.approval).toMatchObject({ approver: null, approval_type: "ServiceKeyApprovalType.AUTOMATIC" });
    for (const expiration of [null, Math.floor(Date.now() / 1000) + 10]) {
      expect((await su.put(`/superuser/keys/${key.kid}`, { expiration })).status).toBe(400);
    }
    expect((await su.put(`/superuser/keys/${key.kid}`, { name: "tokens" })).body.name).toBe("tokens");
  });

  test("a deleted one ends the tokens it signed, and a new one is made", async () => {
    const token = async () => {
      const response = await fetch(`${api.berth.url}/v2/auth?scope=repository:admin/x:pull`, {
        headers: { authorization: `Basic ${btoa(`admin:${api.berth.adminPassword}`)}` },
      });
      return ((await response.json()) as { token: string }).token;
    };
    const use = async (bearer: string) =>
      (await fetch(`${api.berth.url}/v2/`, { headers: { authorization: `Bearer ${bearer}` } })).status;
    const before = await token();
    expect(await use(before)).toBe(200);
    const { kid } = await own();
    expect((await su.delete(`/superuser/keys/${kid}`)).status).toBe(204);
    expect(await use(before)).toBe(401);
    expect(await use(await token())).toBe(200);
    expect((await own()).kid).not.toBe(kid);
    // The instance beside the server hears of it too.
    await Bun.sleep(300);
    expect(await api.app.tokenKeys.verifyingKey(kid)).toBeUndefined();
  }, 30_000);

  test("keys of its service that it did not make are not believed", async () => {
    const pair = await makePair("ES256");
    await api.app.db.tx(async (tx) => {
      await tx.sql`/* test.smuggle */
        insert into service_key (kid, service, public_jwk, created_ms, expires_ms, approval_type, approved_ms)
        values (${pair.kid}, 'quay', ${JSON.stringify(pair.jwk)}, ${Date.now()}, ${Date.now() + 60_000}, 'x', 1)`;
    });
    await Bun.sleep(1100);
    expect(await api.app.tokenKeys.verifyingKey(pair.kid)).toBeUndefined();
  }, 30_000);
});
