/** What is asked of an identity server and what is made of its answers; the real ones are in test/storage/swift.test.ts. */

import { afterEach, describe, expect, test } from "bun:test";
import { createRemoteFetch } from "../remote/request.ts";
import { type SwiftAccount, SwiftAuth } from "./auth.ts";

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

let server: ReturnType<typeof Bun.serve> | undefined;
afterEach(() => server?.stop(true));

/** An identity server that answers the same each time; `asked` fills with what it was asked. */
function serve(answer: () => Response): { url: string; asked: Asked[] } {
  const asked: Asked[] = [];
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const text = await request.text();
      asked.push({ method: request.method, path: new URL(request.url).pathname, body: text && JSON.parse(text) });
      return answer();
    },
  });
  return { url: `http://127.0.0.1:${server.port}`, asked };
}

function authOf(account: Partial<SwiftAccount> & { authUrl: string }, clock = { nowMs: () => Date.now() }): SwiftAuth {
  const whole = { authVersion: 3, user: "u", password: "planted-secret", options: {}, ...account };
  return new SwiftAuth(
    whole,
    createRemoteFetch("identity", async () => []),
    clock,
    { triesMax: 1 },
  );
}

const endpoint = (face: string, region: string) => ({ interface: face, region, url: `http://${face}.${region}/v1/A/` });
const issued = "2026-11-23T10:00:00.000000Z";

function grant3(expiresAt = "2026-11-23T11:00:00.000000Z"): Response {
  const catalog = [
    { type: "identity", endpoints: [endpoint("public", "one")] },
    {
      type: "object-store",
      endpoints: [endpoint("internal", "one"), endpoint("public", "one"), endpoint("public", "two")],
    },
  ];
  const token = { issued_at: issued, expires_at: expiresAt, catalog };
  return Response.json({ token }, { status: 201, headers: { "x-subject-token": crypto.randomUUID() } });
}

describe("Keystone v3", () => {
  const bodies: [string, Record<string, string>, object][] = [
    [
      "a project by its id",
      { tenant_id: "p", user_domain_name: "d" },
      { user: { name: "u", domain: { name: "d" } }, scope: { project: { id: "p" } } },
    ],
    [
      "a project by its name, in its own domain",
      { project_name: "p", project_domain_name: "e", user_domain_id: "d" },
      { user: { name: "u", domain: { id: "d" } }, scope: { project: { name: "p", domain: { name: "e" } } } },
    ],
    [
      "a project by its name, in the user's domain",
      { tenant_name: "p", domain_name: "d" },
      { user: { name: "u", domain: { name: "d" } }, scope: { project: { name: "p", domain: { name: "d" } } } },
    ],
    ["a user by id", { user_id: "i", tenant_id: "p" }, { user: { id: "i" }, scope: { project: { id: "p" } } }],
    ["nothing but the name", {}, { user: { name: "u", domain: { id: "default" } } }],
  ];
  test.each(bodies)("%s", async (_name, options, { user, scope }: { user?: object; scope?: object }) => {
    const { url, asked } = serve(() => grant3());
    await authOf({ authUrl: url, options }).session();
    const password = { user: { ...user, password: "planted-secret" } };
    const auth = { identity: { methods: ["password"], password }, ...(scope ? { scope } : {}) };
    expect(asked).toEqual([{ method: "POST", path: "/v3/auth/tokens", body: { auth } }]);
  });

  test.each([
    ["", "/v3/auth/tokens"],
    ["/", "/v3/auth/tokens"],
    ["/v3", "/v3/auth/tokens"],
    ["/identity/v3/", "/identity/v3/auth/tokens"],
    ["/identity", "/identity/v3/auth/tokens"],
  ])("an auth_url that ends in %p is asked at %s", async (end, path) => {
    const { url, asked } = serve(() => grant3());
    await authOf({ authUrl: url + end }).session();
    expect(asked[0]?.path).toBe(path);
  });

  test.each([
    [{}, "http://public.one/v1/A"],
    [{ region_name: "two" }, "http://public.two/v1/A"],
    [{ endpoint_type: "internalURL" }, "http://internal.one/v1/A"],
    [{ endpoint_type: "internal" }, "http://internal.one/v1/A"],
    [{ object_storage_url: "https://elsewhere/v1/B/" }, "https://elsewhere/v1/B"],
  ])("with %j the account is at %s", async (options, storageUrl) => {
    const { url } = serve(() => grant3());
    expect((await authOf({ authUrl: url, options }).session()).storageUrl).toBe(storageUrl);
  });

  test("an endpoint that the catalog does not name is an error that says what would", async () => {
    const { url } = serve(() => grant3());
    const session = authOf({ authUrl: url, options: { region_name: "three", endpoint_type: "adminURL" } }).session();
    await expect(session).rejects.toThrow('names no admin endpoint of type "object-store" in region "three"');
  });
});

describe("Keystone v2", () => {
  const access = {
    token: { id: "t", expires: new Date(Date.now() + 3_600_000).toISOString() },
    serviceCatalog: [
      {
        type: "object-store",
        endpoints: [{ region: "one", publicURL: "http://p/v1/A", internalURL: "http://i/v1/A" }],
      },
    ],
  };
  test.each([
    [{ tenant_name: "n" }, { tenantName: "n" }, "http://p/v1/A"],
    [{ tenant_id: "i", endpoint_type: "internalURL" }, { tenantId: "i" }, "http://i/v1/A"],
  ])("with %j", async (options, tenant, storageUrl) => {
    const { url, asked } = serve(() => Response.json({ access }));
    const session = await authOf({ authUrl: `${url}/v2.0`, authVersion: 2, options }).session();
    const passwordCredentials = { username: "u", password: "planted-secret" };
    expect(asked).toEqual([
      { method: "POST", path: "/v2.0/tokens", body: { auth: { passwordCredentials, ...tenant } } },
    ]);
    expect(session).toMatchObject({ token: "t", storageUrl });
  });
});

describe("a token", () => {
  test("is asked for once by many, and again shortly before it expires by the server's own clock", async () => {
    let nowMs = 0;
    const { url, asked } = serve(() => grant3());
    const auth = authOf({ authUrl: url }, { nowMs: () => nowMs });
    const [first] = await Promise.all(Array.from({ length: 20 }, () => auth.session()));
    expect(asked).toHaveLength(1);
    nowMs = 55 * 60_000 - 1;
    expect((await auth.session()).token).toBe(first?.token ?? "");
    nowMs++;
    expect((await auth.session()).token).not.toBe(first?.token ?? "");
    expect(asked).toHaveLength(2);
  });

  test("that lives for a minute is used for most of it", async () => {
    let nowMs = 0;
    const { url, asked } = serve(() => grant3("2026-11-23T10:01:00.000000Z"));
    const auth = authOf({ authUrl: url }, { nowMs: () => nowMs });
    await auth.session();
    nowMs = 47_999;
    await auth.session();
    expect(asked).toHaveLength(1);
    nowMs = 48_000;
    await auth.session();
    expect(asked).toHaveLength(2);
  });

  test("that was refused is replaced once, however many noticed", async () => {
    const { url, asked } = serve(() => grant3());
    const auth = authOf({ authUrl: url });
    const old = await auth.session();
    auth.refused(old);
    await auth.session();
    auth.refused(old);
    await auth.session();
    expect(asked).toHaveLength(2);
  });

  test("that is not given is an error without the password, and is asked for again later", async () => {
    let status = 401;
    const { url, asked } = serve(() => (status === 201 ? grant3() : new Response("no", { status })));
    const auth = authOf({ authUrl: url });
    const failure = await auth.session().catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: "RegistryError", code: "unavailable" });
    expect(String(failure)).toContain("see auth_url, swift_user, swift_password and os_options");
    expect(Bun.inspect(failure)).not.toContain("planted-secret");
    status = 201;
    await auth.session();
    expect(asked).toHaveLength(2);
  });

  test.each([
    ["no JSON", new Response("<html>", { status: 200 })],
    ["another shape", Response.json({ access: {} })],
    ["no token", Response.json({ token: {} })],
  ])("from a server that answers with %s is an error", async (_name, answer) => {
    const { url } = serve(() => answer.clone());
    await expect(authOf({ authUrl: url }).session()).rejects.toThrow("does not answer as auth_version 3 does");
  });
});
