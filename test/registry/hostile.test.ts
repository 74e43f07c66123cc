/**
 * Input that means harm: forged tokens, digests and numbers that are none, bodies without end, clients that stall or hang
 * up, guessed passwords. Each has its answer, nothing is lost and nothing is left behind.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { exportJWK, exportSPKI, generateKeyPair, importJWK, type JWTHeaderParameters, SignJWT } from "jose";
import { findAccount } from "../../src/domain/user/account.ts";
import { absentDigest, fixedBytes, image, publish } from "../support/content.ts";
import { head, openRaw, type RawConnection, rawRequest } from "../support/raw-http.ts";
import { digestOf, type RegistryClient, withDigest } from "../support/registry-client.ts";
import { basicOf, errorOf, eventually, password, type Registry, readEnvelope, startRegistry } from "./harness.ts";
import { UploadSteps } from "./upload-steps.ts";

const repository = "victim/repo";
const content = image("victim");
let registry: Registry;
let victim: RegistryClient;
let host: string;
let authorization: string;

beforeAll(async () => {
  registry = await startRegistry({ FEATURE_USER_INITIALIZE: true });
  victim = await registry.user("victim");
  host = registry.berth.host;
  authorization = basicOf("victim").authorization ?? "";
  await publish(victim, repository, content, "v1");
}, 60_000);
afterAll(() => registry.stop());

const isWell = async () => {
  const startedMs = performance.now();
  const response = await victim.pullManifest(repository, "v1");
  expect(response.status).toBe(200);
  await response.body?.cancel();
  return performance.now() - startedMs;
};

describe("forged tokens", () => {
  const claims = async (change: Record<string, unknown> = {}) => {
    const now = Math.floor(Date.now() / 1000);
    return {
      access: [{ type: "repository", name: repository, actions: ["pull", "push", "delete", "*"] }],
      account_id: await registry.accountId("victim"),
      iss: "quay",
      aud: "berth",
      sub: "victim",
      iat: now,
      nbf: now,
      exp: now + 3600,
      ...change,
    };
  };
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const own = () => registry.app.tokenKeys.signingKey();
  const signed = async (change: Record<string, unknown>, header: Partial<JWTHeaderParameters> = {}) => {
    const { kid, privateKey } = await own();
    return new SignJWT(await claims(change))
      .setProtectedHeader({ alg: "ES256", typ: "JWT", kid, ...header })
      .sign(privateKey);
  };
  const publicJwk = async () => {
    const response = await fetch(`${registry.berth.url}/keys/services/${registry.app.tokenKeys.issuer}/keys`);
    const { keys } = (await response.json()) as { keys: { kid: string }[] };
    return keys[0] as { kid: string };
  };
  const hs256 = async (key: string | Buffer, header: object) => {
    const text = `${encode(header)}.${encode(await claims())}`;
    return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
  };
  const foreign = generateKeyPair("ES256", { extractable: true });

  test("one signed as ours are is good: the forgeries below fail for their own reason", async () => {
    const headers = { authorization: `Bearer ${await signed({})}` };
    expect((await fetch(`${registry.berth.url}/v2/${repository}/manifests/v1`, { headers })).status).toBe(200);
  });

  const forgeries: [string, () => Promise<string>][] = [
    ["alg none", async () => `${encode({ alg: "none", typ: "JWT" })}.${encode(await claims())}.`],
    [
      "alg none with our kid",
      async () => `${encode({ alg: "none", ...(await publicJwk()) })}.${encode(await claims())}.`,
    ],
    ["alg nOnE", async () => `${encode({ alg: "nOnE", kid: (await own()).kid })}.${encode(await claims())}.`],
    [
      "HS256 with the public key's PEM as secret",
      async () => {
        const jwk = await publicJwk();
        const pem = await exportSPKI((await importJWK(jwk, "ES256")) as CryptoKey);
        return hs256(pem, { alg: "HS256", typ: "JWT", kid: jwk.kid });
      },
    ],
    [
      "HS256 with the public JWK as secret",
      async () => hs256(JSON.stringify(await publicJwk()), { alg: "HS256", kid: (await publicJwk()).kid }),
    ],
    ["HS256 with an empty secret", async () => hs256("", { alg: "HS256", kid: (await own()).kid })],
    ["a foreign key under a foreign kid", async () => foreignToken({ kid: "foreign" })],
    ["a foreign key under our kid", async () => foreignToken({ kid: (await own()).kid })],
    ["a foreign key without kid", async () => foreignToken({})],
    ["a kid like a path", async () => foreignToken({ kid: "../../../dev/null" })],
    ["a kid like SQL", async () => foreignToken({ kid: "' or '1'='1" })],
    ["a kid with NUL", async () => foreignToken({ kid: "a\u0000b" })],
    ["an embedded key", async () => foreignToken({ jwk: await exportJWK((await foreign).publicKey) })],
    [
      "an embedded key under our kid",
      async () => foreignToken({ kid: (await own()).kid, jwk: await exportJWK((await foreign).publicKey) }),
    ],
    ["a key by URL", async () => foreignToken({ kid: "x", jku: "http://127.0.0.1:1/keys" } as object)],
    ["another audience", () => signed({ aud: "other" })],
    ["no audience", () => signed({ aud: undefined })],
    ["another issuer", () => signed({ iss: "someone" })],
    ["no issuer", () => signed({ iss: undefined })],
    ["no end", () => signed({ exp: undefined })],
    ["an end in a year", () => signed({ exp: Math.floor(Date.now() / 1000) + 365 * 24 * 3600 })],
    ["expired", () => signed({ exp: Math.floor(Date.now() / 1000) - 60, iat: Math.floor(Date.now() / 1000) - 3660 })],
    ["an account that is none", () => signed({ account_id: 999_999_999 })],
    [
      "changed claims under our signature",
      async () => {
        const [header, , signature] = (await signed({ account_id: 1 })).split(".");
        return `${header}.${encode(await claims())}.${signature}`;
      },
    ],
    ["our signature cut off", async () => (await signed({})).slice(0, -10)],
    ["no signature", async () => (await signed({})).replace(/[^.]+$/, "")],
    ["one part", async () => "abc"],
    ["five parts", async () => "a.b.c.d.e"],
    ["no JSON", async () => `${Buffer.from("{").toString("base64url")}.e30.e30`],
    ["an array as header", async () => `${encode([])}.${encode(await claims())}.AA`],
  ];
  for (const [name, forge] of forgeries) {
    test(`${name}: 401 with a challenge, for reads and writes`, async () => {
      const headers = { authorization: `Bearer ${await forge()}` };
      for (const [method, path] of [
        ["GET", `/v2/${repository}/manifests/v1`],
        ["GET", "/v2/"],
        ["POST", `/v2/${repository}/blobs/uploads/`],
        ["DELETE", `/v2/${repository}/manifests/v1`],
      ] as const) {
        const response = await fetch(registry.berth.url + path, { method, headers });
        expect(response.status, path).toBe(401);
        expect(response.headers.get("www-authenticate")).toStartWith("Bearer realm=");
        expect((await errorOf(response)).code).toBe("UNAUTHORIZED");
      }
      await isWell();
    });
  }

  test("a header that no token fills is refused before it is read", async () => {
    const headers = { authorization: `Bearer ${await signed({ padding: "x".repeat(20_000) })}` };
    const response = await fetch(`${registry.berth.url}/v2/`, { headers });
    expect(response.status).toBe(431);
    await response.body?.cancel();
  });

  async function foreignToken(header: Partial<JWTHeaderParameters>): Promise<string> {
    return new SignJWT(await claims()).setProtectedHeader({ alg: "ES256", ...header }).sign((await foreign).privateKey);
  }
});

describe("digests that are none", () => {
  const hex = content.digest.slice("sha256:".length);
  for (const digest of [
    `sha256:${hex.slice(1)}`,
    `sha256:${hex}0`,
    `sha256:${hex.toUpperCase()}`,
    `SHA256:${hex}`,
    `sha512:${hex}`,
    `sha256:${"0".repeat(128)}`,
    `md5:${"0".repeat(32)}`,
    `sha256+b64:${hex}`,
    "sha256:",
    ":",
    `:${hex}`,
    `sha256:${"g".repeat(64)}`,
    `sha256:${hex}%00`,
    `sha256:%2e%2e%2f${hex.slice(9)}`,
    `sha256:${hex}:${hex}`,
    `sha256:${"a".repeat(3000)}`,
  ]) {
    test(`${digest.slice(0, 40)}… of ${digest.length}: refused everywhere`, async () => {
      for (const requestLine of [
        `GET /v2/${repository}/manifests/${digest}`,
        `HEAD /v2/${repository}/blobs/${digest}`,
        `GET /v2/${repository}/blobs/${digest}`,
        `DELETE /v2/${repository}/blobs/${digest}`,
        `DELETE /v2/${repository}/manifests/${digest}`,
        `PUT /v2/${repository}/manifests/${digest}`,
        `GET /v2/${repository}/referrers/${digest}`,
        `POST /v2/${repository}/blobs/uploads/?digest=${digest}`,
      ]) {
        const response = await rawRequest(host, requestLine, { authorization, "content-length": "0" });
        // One with an encoded slash is another path, and there is nothing at it.
        expect(digest.includes("%2f") ? [400, 404, 405] : [400], requestLine).toContain(response.status);
        if (!requestLine.startsWith("HEAD")) readEnvelope(response.body);
      }
      expect(await registry.uploads()).toEqual([]);
    });
  }
});

describe("bodies without end", () => {
  /** Sends chunks until the answer is there. Gives the answer and how much had to be sent for it. */
  async function pour(
    requestLine: string,
    headers: Record<string, string>,
    opening = "",
  ): Promise<[number, string, number]> {
    const connection = await openRaw(host);
    try {
      connection.send(head(host, requestLine, { ...headers, "transfer-encoding": "chunked" }));
      const piece = opening + "x".repeat(64 * 1024 - opening.length);
      const chunk = `${(64 * 1024).toString(16)}\r\n${piece}\r\n`;
      let done = false;
      const answer = connection.response().finally(() => {
        done = true;
      });
      let sent = 0;
      while (!done && sent < 256 * 1024 * 1024 && !connection.isClosed()) {
        connection.send(chunk);
        sent += chunk.length;
        await connection.drained();
        await Bun.sleep(0);
      }
      const { status, body } = await answer;
      return [status, body, sent];
    } finally {
      connection.reset();
    }
  }

  for (const [name, requestLine, opening, maxBytes] of [
    ["a manifest", `PUT /v2/${repository}/manifests/endless`, '{"a":"', 4 * 1024 * 1024],
    ["a log-in form", "POST /v2/auth", "grant_type=password&username=", 64 * 1024],
    ["the first user", "POST /api/v1/user/initialize", '{"username":"', 64 * 1024],
  ] as const) {
    test(`${name}: 413 once the bound is passed, and no memory grows`, async () => {
      const before = registry.berth.memory().rssBytes;
      const headers = { authorization, "content-type": "application/vnd.oci.image.manifest.v1+json" };
      const [status, body, sent] = await pour(requestLine, headers, opening);
      expect(status).toBe(413);
      expect(body).toContain(String(maxBytes));
      // What the kernel's buffers on both ends take in comes on top.
      expect(sent).toBeLessThan(maxBytes + 24 * 1024 * 1024);
      expect(registry.berth.memory().rssBytes - before).toBeLessThan(100 * 1024 * 1024);
      await isWell();
    }, 30_000);

    test(`${name}, announced as huge: 413 before a byte is sent`, async () => {
      const connection = await openRaw(host);
      connection.send(
        head(host, requestLine, {
          authorization,
          "content-type": "application/vnd.oci.image.manifest.v1+json",
          "content-length": String(2 ** 40),
        }),
      );
      // Some servers look at the first byte only.
      connection.send("x");
      const response = await connection.response();
      connection.reset();
      expect(response.status).toBe(413);
    });
  }

  test("a head without end is cut off", async () => {
    const connection = await openRaw(host);
    connection.send(`GET /v2/ HTTP/1.1\r\nhost: ${host}\r\n`);
    for (let sent = 0; sent < 4 * 1024 * 1024 && !connection.isClosed(); sent += 8192) {
      connection.send(`x-${sent}: ${"y".repeat(8000)}\r\n`);
      await connection.drained();
      await Bun.sleep(0);
    }
    const status = await connection.response({ timeoutMs: 3000 }).then(
      (response) => response.status,
      () => "closed" as const,
    );
    connection.reset();
    expect([431, 400, "closed"]).toContain(status);
    await isWell();
  }, 30_000);

  test("what is no HTTP at all is answered or cut off, and harms nobody", async () => {
    for (const bytes of [
      "\r\n\r\n\r\n",
      "GET\r\n\r\n",
      "\u0000".repeat(1000),
      "GET /v2/ HTTP/9.9\r\n\r\n",
      "\x16\x03\x01\x02\x00\x01",
    ]) {
      const connection = await openRaw(host);
      connection.send(bytes);
      await Promise.race([connection.response().catch(() => undefined), Bun.sleep(100)]);
      connection.reset();
    }
    await isWell();
  });

  test("two lengths, or a length beside chunks, are not two requests", async () => {
    for (const headers of [
      "content-length: 5\r\ncontent-length: 50",
      "content-length: 5\r\ntransfer-encoding: chunked",
      "content-length: -1",
      "content-length: 5x",
      "transfer-encoding: xchunked",
    ]) {
      const connection = await openRaw(host);
      connection.send(
        `POST /v2/auth HTTP/1.1\r\nhost: ${host}\r\n${headers}\r\n\r\n0\r\n\r\nGET /v2/smuggled/x/tags/list HTTP/1.1\r\nhost: x\r\n\r\n`,
      );
      const first = await connection.response({ timeoutMs: 2000 }).catch(() => undefined);
      const second = first && (await connection.response({ timeoutMs: 300 }).catch(() => undefined));
      connection.reset();
      // Refused, or one request whose body it was: never an answer to the hidden one.
      expect(second?.headers["www-authenticate"] ?? "", headers).not.toContain("smuggled");
    }
    await isWell();
  }, 30_000);
});

describe("clients that stall", () => {
  test("a hundred of them in heads and bodies leave the others unaffected", async () => {
    const steps = new UploadSteps(victim, repository);
    const stalled: RawConnection[] = [];
    const locations: string[] = [];
    for (let position = 0; position < 100; position++) {
      const connection = await openRaw(host);
      stalled.push(connection);
      if (position % 4 === 0) connection.send(`GET /v2/${repository}/manifests/v1 HTTP/1.1\r\nhost:`);
      else if (position % 4 === 1) {
        connection.send(head(host, `PUT /v2/${repository}/manifests/v9`, { authorization, "content-length": "9999" }));
        connection.send('{"schema');
      } else {
        const location = await steps.start();
        locations.push(location);
        connection.send(
          head(host, `PATCH ${new URL(location).pathname}`, { authorization, "content-length": "500000" }),
        );
        connection.send(fixedBytes(1000, position));
      }
    }
    await Bun.sleep(50);
    for (let round = 0; round < 20; round++) expect(await isWell()).toBeLessThan(1000);
    const bytes = fixedBytes(300_000, 5);
    expect((await victim.pushBlob(repository, bytes)).status).toBe(201);
    for (const connection of stalled) connection.reset();
    // What they held is free again: each session can be cancelled, and nothing stays on the disk.
    await Promise.all(
      locations.map((location) => eventually(async () => (await steps.cancel(location)).status === 204, 10_000)),
    );
    expect(await registry.uploads()).toEqual([]);
  }, 60_000);

  test("one that does not read its pull leaves the others unaffected", async () => {
    const large = fixedBytes(8 * 1024 * 1024, 6);
    await victim.pushBlob(repository, large);
    const lazy: RawConnection[] = [];
    for (let position = 0; position < 20; position++) {
      const connection = await openRaw(host);
      connection.pause();
      connection.send(head(host, `GET /v2/${repository}/blobs/${digestOf(large)}`, { authorization }));
      lazy.push(connection);
    }
    await Bun.sleep(50);
    for (let round = 0; round < 10; round++) expect(await isWell()).toBeLessThan(1000);
    for (const connection of lazy) connection.reset();
    expect(digestOf(await (await victim.pullBlob(repository, digestOf(large))).bytes())).toBe(digestOf(large));
  }, 30_000);
});

describe("clients that hang up", () => {
  const bytes = fixedBytes(400_000, 21);
  const digest = digestOf(bytes);
  const sent = 150_000;

  for (const [framing, ending] of [
    ["a length", "reset"],
    ["a length", "end"],
    ["chunks", "reset"],
    ["chunks", "end"],
  ] as const) {
    for (const method of ["PATCH", "PUT"] as const) {
      test(`${method} with ${framing}, connection ${ending}: the session stays at a true prefix and can be finished`, async () => {
        const steps = new UploadSteps(victim, repository);
        const location = await steps.start();
        const acknowledged = 100_000;
        expect((await steps.patch(location, bytes.slice(0, acknowledged))).status).toBe(202);
        const connection = await openRaw(host);
        const target = new URL(method === "PUT" ? withDigest(location, digest) : location);
        const rest = bytes.slice(acknowledged, acknowledged + sent);
        const length: Record<string, string> =
          framing === "a length"
            ? { "content-length": String(bytes.length - acknowledged) }
            : { "transfer-encoding": "chunked" };
        connection.send(head(host, `${method} ${target.pathname}${target.search}`, { authorization, ...length }));
        if (framing === "chunks") connection.send(`${sent.toString(16)}\r\n`);
        connection.send(rest);
        await connection.drained();
        await Bun.sleep(30);
        connection[ending]();
        // The server may take a moment to notice; until then the session is busy, and says so.
        let stored = -1;
        await eventually(async () => {
          const status = await steps.status(location);
          expect(status.status).toBe(204);
          stored = Number((status.headers.get("range") ?? "").split("-")[1]) + 1;
          return (await steps.patch(location, new Uint8Array())).status === 202;
        }, 10_000);
        expect([acknowledged, acknowledged + sent]).toContain(stored);
        expect((await victim.pullBlob(repository, digest)).status).toBe(404);
        const last = await steps.put(location, digestOf(bytes.slice(0, stored)));
        expect(last.status).toBe(201);
        expect(await registry.uploads()).toEqual([]);
        connection.reset();
      }, 30_000);
    }
  }

  test("a single POST that is cut leaves no session and no bytes", async () => {
    for (const ending of ["reset", "end"] as const) {
      const connection = await openRaw(host);
      connection.send(
        head(host, `POST /v2/${repository}/blobs/uploads/?digest=${digest}`, {
          authorization,
          "content-length": String(bytes.length),
        }),
      );
      connection.send(bytes.slice(0, 100_000));
      await connection.drained();
      const sessions = async () => (await registry.app.db.sql`select id from upload_session`).length;
      // Only what has begun can be given up: a busy machine may take its time until then. A bucket has no part yet.
      const begun = registry.berth.store.isLocal ? 1 : 0;
      const uploads = async () => (await registry.uploads()).length;
      await eventually(async () => (await uploads()) === begun && (await sessions()) === 1, 10_000);
      connection[ending]();
      await eventually(async () => (await uploads()) === 0 && (await sessions()) === 0, 10_000);
      connection.reset();
    }
    expect((await victim.pullBlob(repository, digest)).status).toBe(404);
  }, 30_000);

  test("a manifest that is cut is not stored", async () => {
    const connection = await openRaw(host);
    connection.send(
      head(host, `PUT /v2/${repository}/manifests/cut`, {
        authorization,
        "content-type": content.mediaType,
        "content-length": String(content.manifest.length + 10),
      }),
    );
    connection.send(content.manifest);
    await connection.drained();
    connection.end();
    await Bun.sleep(100);
    connection.reset();
    expect((await victim.pullManifest(repository, "cut")).status).toBe(404);
  });

  test("pulls that are cut leave the server well", async () => {
    const large = fixedBytes(4 * 1024 * 1024, 30);
    await victim.pushBlob(repository, large);
    for (let round = 0; round < 20; round++) {
      const connection = await openRaw(host);
      connection.send(head(host, `GET /v2/${repository}/blobs/${digestOf(large)}`, { authorization }));
      await Bun.sleep(2);
      connection.reset();
    }
    await isWell();
  });
});

describe("guessed passwords", () => {
  const text = "Too many login attempts. \nPlease reset your Quay password and try again.";
  const logIn = (name: string, secret: string) =>
    fetch(`${registry.berth.url}/v2/auth`, { headers: basicOf(name, secret) });

  test("after a wrong one the next try has to wait: 429 with Quay's text, the right one too", async () => {
    await registry.user("locked");
    const wrong = await logIn("locked", "wrong-guess");
    expect(wrong.status).toBe(401);
    expect((await errorOf(wrong)).message).toBe("Invalid Username or Password");
    for (const secret of ["wrong-guess", password]) {
      for (const path of ["/v2/auth", "/v2/"]) {
        const response = await fetch(registry.berth.url + path, { headers: basicOf("locked", secret) });
        expect(response.status).toBe(429);
        expect(response.headers.get("retry-after")).toBe("1");
        expect(response.headers.get("content-type")).toStartWith("text/plain");
        expect(await response.text()).toBe(text);
      }
    }
    await Bun.sleep(550);
    expect((await logIn("locked", "wrong-guess")).status).toBe(401);
    expect((await logIn("locked", password)).headers.get("retry-after")).toBe("2");
    await Bun.sleep(1550);
    expect((await logIn("locked", password)).status).toBe(200);
    // A success starts the count anew: the next wait is the shortest again.
    expect((await logIn("locked", "wrong-guess")).status).toBe(401);
    expect((await logIn("locked", "other-guess")).headers.get("retry-after")).toBe("1");
  }, 20_000);

  test("guesses sent all at once count one by one: each instance checks one, the rest wait", async () => {
    await registry.user("flooded");
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, position) => logIn("flooded", `guess-${position}-long`)),
    );
    const statuses = answers.map((response) => response.status);
    const checked = statuses.filter((status) => status === 401).length;
    expect(checked).toBeGreaterThanOrEqual(1);
    expect(checked).toBeLessThanOrEqual(registry.berth.instances.length);
    expect(statuses.filter((status) => status === 429)).toHaveLength(20 - checked);
    // Whoever checked them, none is forgotten: the wait grows by each.
    expect((await findAccount(registry.app.db, "flooded"))?.failedLogins).toBe(checked);
    await Promise.all(answers.map((response) => response.text()));
  }, 20_000);

  test("names that do not exist answer as those that do, lock-out included", async () => {
    const first = await logIn("does-not-exist", "wrong-guess");
    expect(first.status).toBe(401);
    expect((await errorOf(first)).message).toBe("Invalid Username or Password");
    for (const secret of ["wrong-guess", password]) {
      const response = await logIn("does-not-exist", secret);
      expect([response.status, response.headers.get("retry-after")]).toEqual([429, "1"]);
      expect(await response.text()).toBe(text);
    }
    await Bun.sleep(550);
    expect((await logIn("does-not-exist", "wrong-guess")).status).toBe(401);
    expect((await logIn("does-not-exist", "wrong-guess")).headers.get("retry-after")).toBe("2");
  }, 20_000);
});

test("after all of it: no fault in the log, no secret in it, nothing on the disk", async () => {
  await isWell();
  const lines = registry.berth
    .logs()
    .split("\n")
    .filter((line) => line.startsWith("{"));
  const faults = lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter((line) => line.level === "error");
  expect(faults).toEqual([]);
  const logs = registry.berth.logs();
  for (const secret of [password, registry.berth.adminPassword, "wrong-guess", authorization.slice(6), "eyJhbGciOi"]) {
    expect(logs).not.toContain(secret);
  }
  expect(await registry.uploads()).toEqual([]);
  expect((await victim.pullBlob(repository, absentDigest)).status).toBe(404);
});
