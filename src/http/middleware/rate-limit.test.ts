import { describe, expect, test } from "bun:test";
import { loadConfig } from "../../config/load.ts";
import { RegistryError } from "../../errors.ts";
import { parseV2Path } from "../../oci/path.ts";
import { splitUrl } from "../context.ts";
import { createRateLimiter } from "./rate-limit.ts";

function limited(config: Record<string, unknown> = {}) {
  const clock = { ms: 1_800_000_000_000, nowMs: () => clock.ms };
  const env = { QUAY_OVERRIDE_CONFIG: JSON.stringify({ FEATURE_RATE_LIMITS: true, ...config }) };
  const limiter = createRateLimiter({ config: loadConfig({ dataDir: ".", env }).config, clock, secretKey: "k" });
  if (!limiter) throw new Error("no limiter");
  /** Undefined, or what the 429 says. */
  const ask = (path: string, headers: Record<string, string> = {}, clientIp: string | undefined = "192.0.2.1") => {
    const request = new Request(`http://registry.example.com${path}`, { headers });
    try {
      if (path.startsWith("/api/")) limiter.requireApi(request, { clientIp });
      else limiter.requireV2(request, { clientIp }, parseV2Path(splitUrl(request.url).path));
      return undefined;
    } catch (error) {
      if (!(error instanceof RegistryError) || error.code !== "too_many_requests") throw error;
      return error.headers["Retry-After"];
    }
  };
  const passed = (
    count: number,
    path: string,
    headersOf: (i: number) => Record<string, string> = () => ({}),
    ip?: string,
  ) =>
    Array.from({ length: count }, (_, i) => ask(path, headersOf(i), ip)).filter((answer) => answer === undefined)
      .length;
  return { ask, passed, clock };
}

const auth = (value: string) => ({ authorization: value });
const digest = `sha256:${"a".repeat(64)}`;

describe("zones", () => {
  const table: [path: string, atOnce: number][] = [
    ["/v2/auth", 3],
    ["/api/v1/repository", 26],
    ["/v2/acme/api/manifests/v1", 11],
    [`/v2/acme/api/blobs/${digest}`, 51],
    ["/v2/acme/api/blobs/uploads/", 51],
    ["/v2/acme/api/tags/list", 3],
    ["/v2/", 21],
    ["/v2/_catalog", 21],
    [`/v2/acme/api/referrers/${digest}`, 21],
    ["/v2/no/such/thing", 21],
  ];
  test.each(table)("%s lets %p through at once", (path, atOnce) => {
    expect(limited().passed(200, path)).toBe(atOnce);
  });

  test("do not share their buckets", () => {
    const { passed, ask } = limited();
    expect(passed(100, "/v2/acme/api/tags/list")).toBe(3);
    expect(ask("/v2/acme/api/manifests/v1")).toBeUndefined();
    expect(ask("/api/v1/repository")).toBeUndefined();
  });

  test("an answer says when to come back, and then it is true", () => {
    const { passed, ask, clock } = limited();
    expect(passed(26, "/api/v1/repository")).toBe(26);
    expect(ask("/api/v1/repository")).toBe("1");
    clock.ms += 1000;
    expect(passed(100, "/api/v1/repository")).toBe(5);
  });
});

describe("who shares a bucket", () => {
  const path = "/v2/acme/api/tags/list";

  test("each credential has its own, and so has whoever sends none", () => {
    const { passed, clock } = limited();
    expect(passed(10, path, () => auth("Bearer a"))).toBe(3);
    expect(passed(10, path, () => auth("Bearer b"))).toBe(3);
    clock.ms += 60_000;
    expect(passed(10, path)).toBe(3);
    expect(passed(10, path, () => auth("Bearer a"))).toBe(3);
  });

  test("made-up credentials give no more than an address has", () => {
    const { passed } = limited();
    expect(passed(100, path, (i) => auth(`Bearer ${i}`))).toBe(3);
    // Who was known before goes on undisturbed.
    expect(passed(100, path, () => auth("Bearer 1"))).toBe(2);
    expect(passed(100, path, (i) => auth(`Bearer ${i}`), "192.0.2.2")).toBeGreaterThan(0);
  });

  test("addresses have their own, and IPv6 clients one for their network", () => {
    const { passed } = limited();
    expect(passed(10, path, undefined, "192.0.2.1")).toBe(3);
    expect(passed(10, path, undefined, "192.0.2.2")).toBe(3);
    expect(passed(10, path, undefined, "::ffff:192.0.2.2")).toBe(0);
    expect(passed(10, path, undefined, "2001:db8:1:2::1")).toBe(3);
    expect(passed(10, path, undefined, "2001:db8:1:2:ffff::1")).toBe(0);
    expect(passed(10, path, undefined, "2001:db8:1:3::1")).toBe(3);
  });

  test("a browser is its session cookie, which no more can be made up", () => {
    const { passed } = limited();
    const cookie = (letter: string) => ({ cookie: `theme=dark; _csrf_token=${letter.repeat(43)}` });
    expect(passed(100, "/api/v1/user/", () => cookie("a"))).toBe(26);
    expect(passed(100, "/api/v1/user/", () => cookie("b"))).toBe(26);
    expect(passed(200, "/api/v1/user/", (i) => ({ cookie: `_csrf_token=${String(i).padStart(43, "0")}` }))).toBe(24);
  });
});

describe("exempt namespaces", () => {
  const config = { NON_RATE_LIMITED_NAMESPACES: ["acme", "library"] };

  test("are not counted on /v2", () => {
    const { passed } = limited(config);
    expect(passed(100, "/v2/acme/api/tags/list")).toBe(100);
    expect(passed(100, "/v2/acme/a/b/c/manifests/v1")).toBe(100);
    expect(passed(100, "/v2/busybox/manifests/latest")).toBe(100);
    expect(passed(100, "/v2/other/api/tags/list")).toBe(3);
  });

  test("are those of the path and of nothing that looks like it", () => {
    const { passed } = limited(config);
    expect(passed(100, "/v2/acme2/api/tags/list")).toBe(3);
    expect(passed(100, "/v2/x/acme/manifests/v1")).toBe(11);
    expect(passed(100, "/v2/auth?scope=repository:acme/api:pull")).toBe(3);
    expect(passed(100, "/api/v1/repository/acme/api")).toBe(26);
  });
});

test("there is no limiter where the feature is off", () => {
  const { config } = loadConfig({ dataDir: ".", env: {} });
  expect(createRateLimiter({ config, clock: { nowMs: () => 0 }, secretKey: "k" })).toBeUndefined();
});
