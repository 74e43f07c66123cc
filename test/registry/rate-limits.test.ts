/** FEATURE_RATE_LIMITS and trusted proxies on the real server. Source: quay-behaviour reference, section 19. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { image, publish } from "../support/content.ts";
import { parseChallenge } from "../support/registry-client.ts";
import { basicOf, errorOf, eventually, type Registry, startRegistry } from "./harness.ts";

/** An address of its own for each test, so that none finds the bucket of another in use. */
let nextAddress = 0;
const anAddress = () => `198.51.100.${++nextAddress}`;

describe("with FEATURE_RATE_LIMITS", () => {
  let registry: Registry;
  let url: string;

  beforeAll(async () => {
    registry = await startRegistry(
      {
        FEATURE_RATE_LIMITS: true,
        NON_RATE_LIMITED_NAMESPACES: ["alice"],
        TRUSTED_PROXY_CIDR: ["127.0.0.0/8"],
      },
      { alone: "each instance counts the requests that it gets" },
    );
    url = registry.berth.url;
    for (const name of ["alice", "bob"]) {
      await publish(await registry.user(name), `${name}/repo`, image("limits"), "v1");
      await registry.visibility(`${name}/repo`, "public");
    }
  }, 60_000);
  afterAll(() => registry.stop());

  async function flood(count: number, path: string, headers: Record<string, string>): Promise<Response[]> {
    return Promise.all(Array.from({ length: count }, () => fetch(url + path, { headers })));
  }
  const refused = (responses: Response[]) => responses.filter(({ status }) => status === 429);

  test("a /v2 client that asks too often gets 429 in OCI form, with the time to wait", async () => {
    const from = { "x-forwarded-for": anAddress() };
    const responses = await flood(60, "/v2/bob/repo/tags/list", from);
    const [first, ...more] = refused(responses);
    expect(more.length).toBeGreaterThan(20);
    expect(responses.length - more.length - 1).toBeGreaterThanOrEqual(3);
    if (!first) throw new Error("nothing was refused");
    expect(Number(first.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    expect(first.headers.get("www-authenticate")).toBeNull();
    expect(await errorOf(first)).toMatchObject({
      code: "TOOMANYREQUESTS",
      message: expect.stringContaining("too many"),
    });
    // The others go on, and so does this one when it has waited.
    expect(refused(await flood(1, "/v2/bob/repo/tags/list", { "x-forwarded-for": anAddress() }))).toEqual([]);
    await Bun.sleep(1000);
    expect(refused(await flood(1, "/v2/bob/repo/tags/list", from))).toEqual([]);
  }, 20_000);

  test("the token service is limited before a password is looked at", async () => {
    const from = { "x-forwarded-for": anAddress() };
    const startedMs = performance.now();
    const responses = await Promise.all(
      Array.from({ length: 300 }, (_, i) =>
        fetch(`${url}/v2/auth`, { headers: { ...from, ...basicOf("bob", `wrong-${i}`) } }),
      ),
    );
    const passedMax = 3 + 30 * ((performance.now() - startedMs) / 1000) + 1;
    expect(responses.length - refused(responses).length).toBeLessThanOrEqual(passedMax);
    expect(refused(responses).length).toBeGreaterThan(0);
  }, 20_000);

  test("the API answers 429 with a message, also to a page of another origin", async () => {
    const from = { "x-forwarded-for": anAddress(), "x-requested-with": "XMLHttpRequest", origin: "https://ui.example" };
    const responses = await flood(80, "/api/v1/discovery", from);
    const [first] = refused(responses);
    if (!first) throw new Error("nothing was refused");
    expect(refused(responses).length).toBeGreaterThan(30);
    expect(first.headers.get("retry-after")).toBe("1");
    expect(first.headers.get("access-control-allow-origin")).toBe("https://ui.example");
    expect(await first.json()).toEqual({ message: "too many requests, try again in 1 s" });
  });

  test("an exempt namespace, health and metrics are never limited", async () => {
    const from = { "x-forwarded-for": anAddress() };
    expect(refused(await flood(100, "/v2/alice/repo/tags/list", from))).toEqual([]);
    expect(refused(await flood(100, "/health/instance", from))).toEqual([]);
    const metrics = await Promise.all(Array.from({ length: 60 }, () => fetch(`${registry.berth.metricsUrl}/metrics`)));
    expect(refused(metrics)).toEqual([]);
  }, 20_000);
});

describe("without FEATURE_RATE_LIMITS and trusted proxies", () => {
  let registry: Registry;
  beforeAll(async () => {
    registry = await startRegistry({ LOGGING_LEVEL: "DEBUG" });
  }, 60_000);
  afterAll(() => registry.stop());

  test("nobody is limited, and nobody is believed", async () => {
    const headers = { "x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https" };
    const responses = await Promise.all(
      Array.from({ length: 200 }, () => fetch(`${registry.berth.url}/v2/`, { headers })),
    );
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([401]));
    const challenge = parseChallenge(responses[0]?.headers.get("www-authenticate") ?? "");
    expect(challenge.realm).toStartWith("http://127.0.0.1:");
    await eventually(async () => registry.berth.logs().includes('"path":"/v2/"'));
    expect(registry.berth.logs()).toContain('"ip":"127.0.0.1"');
    expect(registry.berth.logs()).not.toContain("203.0.113.9");
  });
});

describe("behind a trusted proxy", () => {
  let registry: Registry;
  beforeAll(async () => {
    registry = await startRegistry({ TRUSTED_PROXY_CIDR: "127.0.0.1", PROXY_COUNT: 1, LOGGING_LEVEL: "DEBUG" });
  }, 60_000);
  afterAll(() => registry.stop());

  test("access log and action log have the client's address, not what the client says it is", async () => {
    const client = await registry.user("carol");
    await publish(client, "carol/repo", image("forwarded"), "v1");
    const path = "/v2/carol/repo/manifests/v1";
    const response = await fetch(registry.berth.url + path, {
      headers: { ...basicOf("carol"), "x-forwarded-for": "10.1.1.1, 2001:DB8::9", "x-request-id": "forwarded-1" },
    });
    expect(response.status).toBe(200);
    await eventually(async () => registry.berth.logs().includes("forwarded-1"));
    const line = registry.berth
      .logs()
      .split("\n")
      .find((each) => each.includes("forwarded-1"));
    expect(JSON.parse(line ?? "{}")).toMatchObject({ path, ip: "2001:db8::9", user: "carol" });
    const ips = async () =>
      (
        await registry.app.db.sql<{ ip: string | null }>`/* test.ips */
        select distinct ip from action_log where repository_id = ${(await registry.repository("carol/repo")).id}`
      ).map(({ ip }) => ip);
    const put = await fetch(`${registry.berth.url}/v2/carol/repo/manifests/v2`, {
      method: "PUT",
      body: await response.text(),
      headers: {
        ...basicOf("carol"),
        "content-type": response.headers.get("content-type") ?? "",
        "x-forwarded-for": "2001:DB8::9",
      },
    });
    expect(put.status).toBe(201);
    expect(await ips()).toContain("2001:db8::9");
    expect(await ips()).not.toContain("10.1.1.1");
  }, 20_000);

  test("the scheme that the proxy names is that of the token service", async () => {
    const response = await fetch(`${registry.berth.url}/v2/`, { headers: { "x-forwarded-proto": "https" } });
    const { realm } = parseChallenge(response.headers.get("www-authenticate") ?? "");
    expect(realm).toBe(`https://${registry.berth.host}/v2/auth`);
  });
});
