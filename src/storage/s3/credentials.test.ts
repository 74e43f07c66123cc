/** Where access keys come from, against small servers on this machine that stand for STS and the metadata services. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRemoteFetch } from "../remote/request.ts";
import {
  createCredentials,
  defaultProviders,
  type EndingCredentials,
  fromContainer,
  fromEnvironment,
  fromMachine,
  fromWebIdentity,
  type Provider,
  type ProviderContext,
  staticCredentials,
} from "./credentials.ts";

const startMs = Date.UTC(2026, 0, 1);
const minuteMs = 60_000;
const keys = { accessKeyId: "ASIAEXAMPLE", secretAccessKey: "planted-secret", sessionToken: "planted-token" };

let nowMs = startMs;
let server: ReturnType<typeof Bun.serve> | undefined;
let dir: string;
beforeEach(() => {
  nowMs = startMs;
  dir = mkdtempSync(join(tmpdir(), "berth-credentials-"));
});
afterEach(async () => {
  await server?.stop(true);
  server = undefined;
  rmSync(dir, { recursive: true });
});

interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  readonly text: string;
}

/** Starts a server and gives its address and what it was asked. */
function serve(answer: (request: Request) => Response): { origin: string; seen: Asked[] } {
  const seen: Asked[] = [];
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => {
      const { method, url, headers } = request;
      seen.push({ method, url, headers, text: await request.text() });
      return answer(request);
    },
  });
  return { origin: `http://127.0.0.1:${server.port}`, seen };
}

function context(env: Record<string, string>): ProviderContext {
  const fetch = createRemoteFetch("the credentials service", async () => []);
  return { env, fetch, clock: { nowMs: () => nowMs }, region: "us-east-1" };
}

function tokenFile(text: string): string {
  const path = join(dir, "token");
  writeFileSync(path, text);
  return path;
}

const instanceAnswer = {
  Code: "Success",
  AccessKeyId: keys.accessKeyId,
  SecretAccessKey: keys.secretAccessKey,
  Token: keys.sessionToken,
  Expiration: new Date(startMs + 60 * minuteMs).toISOString(),
};
const expected: EndingCredentials = { ...keys, expiresMs: startMs + 60 * minuteMs };

describe("the environment", () => {
  test("gives keys that do not end", async () => {
    const env = { AWS_ACCESS_KEY_ID: "AK", AWS_SECRET_ACCESS_KEY: "SK" };
    expect(await fromEnvironment(context(env))).toEqual({ accessKeyId: "AK", secretAccessKey: "SK" });
    const session = { ...env, AWS_SESSION_TOKEN: "ST" };
    expect(await fromEnvironment(context(session))).toMatchObject({ sessionToken: "ST" });
  });

  test("is no way with half of them", async () => {
    expect(await fromEnvironment(context({ AWS_ACCESS_KEY_ID: "AK" }))).toBeUndefined();
    expect(await fromEnvironment(context({ AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "SK" }))).toBeUndefined();
  });

  test("comes before all others", async () => {
    const { origin, seen } = serve(() => Response.json(instanceAnswer));
    const env = {
      AWS_ACCESS_KEY_ID: "AK",
      AWS_SECRET_ACCESS_KEY: "SK",
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${origin}/keys`,
    };
    expect(await createCredentials(context(env), defaultProviders).get()).toMatchObject({ accessKeyId: "AK" });
    expect(seen).toEqual([]);
  });
});

describe("a web identity", () => {
  const answer = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
    <AssumeRoleWithWebIdentityResult><Credentials>
      <AccessKeyId>${keys.accessKeyId}</AccessKeyId><SecretAccessKey>${keys.secretAccessKey}</SecretAccessKey>
      <SessionToken>${keys.sessionToken}</SessionToken><Expiration>2026-01-01T01:00:00Z</Expiration>
    </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;

  test("is exchanged for a role's keys, with the file's token of that moment", async () => {
    const { origin, seen } = serve(() => new Response(answer));
    const path = tokenFile("first token\n");
    const env = {
      AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/berth+x",
      AWS_WEB_IDENTITY_TOKEN_FILE: path,
      AWS_ENDPOINT_URL_STS: origin,
    };
    expect(await fromWebIdentity(context(env))).toEqual(expected);
    writeFileSync(path, "second/token==");
    await fromWebIdentity(context({ ...env, AWS_ROLE_SESSION_NAME: "site-a" }));
    const forms = seen.map(({ text }) => new URLSearchParams(text));
    expect(Object.fromEntries(forms[0] ?? [])).toEqual({
      Action: "AssumeRoleWithWebIdentity",
      Version: "2011-06-15",
      RoleArn: "arn:aws:iam::123456789012:role/berth+x",
      RoleSessionName: "berth",
      WebIdentityToken: "first token",
    });
    expect(forms[1]?.get("WebIdentityToken")).toBe("second/token==");
    expect(forms[1]?.get("RoleSessionName")).toBe("site-a");
    expect(seen.map(({ method }) => method)).toEqual(["POST", "POST"]);
  });

  test("that STS refuses is a failure that holds no token", async () => {
    const { origin } = serve(() => new Response(`<Error>${keys.sessionToken}</Error>`, { status: 403 }));
    const AWS_WEB_IDENTITY_TOKEN_FILE = tokenFile("planted-token");
    const env = { AWS_ROLE_ARN: "arn", AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ENDPOINT_URL_STS: origin };
    const failure = await failureOf(createCredentials(context(env), [fromWebIdentity]).get());
    expect(failure).toMatchObject({ code: "unavailable" });
    expect(String(failure)).toContain("AssumeRoleWithWebIdentity answered 403");
    expect(String(failure)).not.toContain("planted");
  });

  test("whose file is missing says which", async () => {
    const env = { AWS_ROLE_ARN: "arn", AWS_WEB_IDENTITY_TOKEN_FILE: join(dir, "missing") };
    const failure = await failureOf(createCredentials(context(env), [fromWebIdentity]).get());
    expect(failure).toMatchObject({ code: "unavailable" });
    expect(String(failure)).toContain(join(dir, "missing"));
  });
});

describe("a container", () => {
  test("is asked with its token, from the environment or from a file", async () => {
    const { origin, seen } = serve(() => Response.json(instanceAnswer));
    const env = { AWS_CONTAINER_CREDENTIALS_FULL_URI: `${origin}/v1/keys` };
    expect(await fromContainer(context({ ...env, AWS_CONTAINER_AUTHORIZATION_TOKEN: "Bearer a" }))).toEqual(expected);
    const AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = tokenFile("Bearer b\n");
    expect(await fromContainer(context({ ...env, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE }))).toEqual(expected);
    expect(await fromContainer(context(env))).toEqual(expected);
    expect(seen.map(({ headers }) => headers.get("authorization"))).toEqual(["Bearer a", "Bearer b", null]);
    expect(new URL(seen[0]?.url ?? "").pathname).toBe("/v1/keys");
  });

  test("that answers something else fails without a word of it", async () => {
    for (const body of ["planted-secret is no JSON", '{"AccessKeyId":"planted-secret"}', "[]", "null"]) {
      const { origin } = serve(() => new Response(body));
      const env = { AWS_CONTAINER_CREDENTIALS_FULL_URI: origin };
      const failure = await failureOf(createCredentials(context(env), [fromContainer]).get());
      expect(failure).toMatchObject({ code: "unavailable" });
      expect(`${failure} ${failure instanceof Error ? failure.cause : ""}`).not.toContain("planted");
      await server?.stop(true);
    }
  });

  test("that is busy is asked again", async () => {
    let asked = 0;
    const { origin } = serve(() => (++asked < 3 ? new Response("", { status: 503 }) : Response.json(instanceAnswer)));
    expect(await fromContainer(context({ AWS_CONTAINER_CREDENTIALS_FULL_URI: origin }))).toEqual(expected);
    expect(asked).toBe(3);
  });
});

describe("a machine", () => {
  test("gives the keys of its role, for a session's token only", async () => {
    const { origin, seen } = serve((request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/latest/api/token") {
        const ttl = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds");
        return request.method === "PUT" && ttl ? new Response("session") : new Response("", { status: 400 });
      }
      if (request.headers.get("x-aws-ec2-metadata-token") !== "session") return new Response("", { status: 401 });
      const roles = "/latest/meta-data/iam/security-credentials/";
      if (pathname === roles) return new Response("berth role\n");
      if (pathname === `${roles}berth%20role`) return Response.json(instanceAnswer);
      return new Response("", { status: 404 });
    });
    expect(await fromMachine(context({ AWS_EC2_METADATA_SERVICE_ENDPOINT: `${origin}/` }))).toEqual(expected);
    expect(seen).toHaveLength(3);
  });

  test("without such a service is no way, and without a role neither", async () => {
    const { origin } = serve(({ method }) => new Response(method === "PUT" ? "session" : ""));
    const env = { AWS_EC2_METADATA_SERVICE_ENDPOINT: origin };
    expect(await fromMachine(context(env))).toBeUndefined();
    await server?.stop(true);
    expect(await fromMachine(context(env))).toBeUndefined();
    expect(await fromMachine(context({ AWS_EC2_METADATA_DISABLED: "True" }))).toBeUndefined();
  });
});

test("nobody who has keys is a failure that says where they could come from", async () => {
  const credentials = createCredentials(context({ AWS_EC2_METADATA_DISABLED: "true" }));
  const failure = await failureOf(credentials.get());
  expect(failure).toMatchObject({ code: "unavailable" });
  expect(String(failure)).toContain("give s3_access_key and s3_secret_key");
});

test("keys of the config are what they are", async () => {
  const credentials = staticCredentials(keys);
  credentials.refused(keys.accessKeyId);
  expect(await credentials.get()).toEqual(keys);
});

describe("keys that end", () => {
  let given = 0;
  let failing = false;
  let gate: PromiseWithResolvers<void> | undefined;
  beforeEach(() => {
    given = 0;
    failing = false;
    gate = undefined;
  });

  /** Keys number 1, 2, 3 …, each good for an hour from now. */
  const numbered: Provider = async () => {
    const number = ++given;
    await gate?.promise;
    if (failing) throw new Error("the service is away");
    return { ...keys, accessKeyId: `key ${number}`, expiresMs: nowMs + 60 * minuteMs };
  };
  const source = () => createCredentials(context({}), [numbered]);
  const idOf = async (credentials: ReturnType<typeof source>) => (await credentials.get()).accessKeyId;

  test("are fetched once for all who wait", async () => {
    gate = Promise.withResolvers();
    const credentials = source();
    const waiting = Array.from({ length: 50 }, () => idOf(credentials));
    gate.resolve();
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(["key 1"]));
    expect(given).toBe(1);
  });

  test("are renewed five minutes before, while the old ones are used", async () => {
    const credentials = source();
    await idOf(credentials);
    nowMs += 54 * minuteMs;
    expect(await idOf(credentials)).toBe("key 1");
    expect(given).toBe(1);
    nowMs += 2 * minuteMs;
    gate = Promise.withResolvers();
    // Nobody waits for the new ones.
    expect(await Promise.all(Array.from({ length: 20 }, () => idOf(credentials)))).toEqual(Array(20).fill("key 1"));
    expect(given).toBe(2);
    gate.resolve();
    await until(async () => (await idOf(credentials)) === "key 2");
    expect(given).toBe(2);
  });

  test("are used to their end while the service is away, which is asked twice a minute", async () => {
    const credentials = source();
    await idOf(credentials);
    failing = true;
    for (nowMs += 56 * minuteMs; nowMs < startMs + 58 * minuteMs; nowMs += 1000) {
      expect(await idOf(credentials)).toBe("key 1");
      await Bun.sleep(0);
    }
    expect(given).toBeGreaterThanOrEqual(4);
    expect(given).toBeLessThanOrEqual(6);
    nowMs = startMs + 60 * minuteMs;
    expect(await failureOf(credentials.get())).toMatchObject({ code: "unavailable" });
    failing = false;
    expect(await idOf(credentials)).toStartWith("key ");
  });

  test("that the store refuses are replaced, once for all that were refused", async () => {
    const credentials = source();
    await idOf(credentials);
    credentials.refused("key 1");
    credentials.refused("key 1");
    expect(await idOf(credentials)).toBe("key 2");
    // The answer to a request that was signed before.
    credentials.refused("key 1");
    expect(await idOf(credentials)).toBe("key 2");
    expect(given).toBe(2);
  });

  test("of a short life are renewed when a fifth of it is left", async () => {
    const short: Provider = async () => ({ ...keys, accessKeyId: `key ${++given}`, expiresMs: nowMs + 10 * minuteMs });
    const credentials = createCredentials(context({}), [short]);
    await credentials.get();
    nowMs += 7.9 * minuteMs;
    await credentials.get();
    expect(given).toBe(1);
    nowMs += 0.2 * minuteMs;
    await credentials.get();
    expect(given).toBe(2);
  });

  test("a failed fetch is tried again by the next who asks", async () => {
    failing = true;
    const credentials = source();
    expect(await failureOf(credentials.get())).toMatchObject({ code: "unavailable" });
    failing = false;
    expect(await idOf(credentials)).toBe("key 2");
  });
});

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

async function until(probe: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error("still not so after 5 s");
    await Bun.sleep(1);
  }
}
