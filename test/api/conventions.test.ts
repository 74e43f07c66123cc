/** The conventions of /api/v1 that no resource owns. Source: quay-api reference, section 1. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Api, ApiClient, envelopeOf, startApi } from "./harness.ts";

const BROWSER = { "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36" };

let api: Api;
let closed: Api;
beforeAll(async () => {
  api = await startApi({ CORS_ORIGIN: ["https://page.example.com"] });
  closed = await startApi({ FEATURE_ANONYMOUS_ACCESS: false });
}, 60_000);
afterAll(async () => {
  await api.stop();
  await closed.stop();
});

describe("errors", () => {
  test("an unknown path is Quay's 404 envelope", async () => {
    const answer = await (await api.nobody()).get("/no/such/thing");
    expect(answer.status).toBe(404);
    expect(envelopeOf(answer)).toEqual({ type: "not_found", detail: "Not Found", decision: undefined });
  });
  test("an error's type is explained where it points", async () => {
    const answer = await (await api.nobody()).get("/error/invalid_token");
    expect(answer.body.title).toBe("invalid_token");
    expect((await (await api.nobody()).get("/error/toString")).status).toBe(404);
  });
  test("a wrong method names the right ones", async () => {
    const answer = await (await api.nobody()).send("DELETE", "/error/invalid_token");
    expect([answer.status, answer.headers.get("allow")]).toEqual([405, "HEAD, GET"]);
  });
  test("a broken escape in a path is nobody's path", async () => {
    expect((await (await api.nobody()).get("/error/%E0%A4%A")).status).toBe(404);
  });
  test("a bearer token that nobody gave out is 401, also where nobody needs one", async () => {
    const answer = await api.bearer("A".repeat(40)).get("/error/invalid_token");
    expect([answer.status, envelopeOf(answer).type]).toEqual([401, "invalid_token"]);
    expect((await api.bearer("short").get("/error/invalid_token")).status).toBe(401);
  });
  test("an access_token in the query is read like the header", async () => {
    const answer = await (await api.nobody()).get(`/error/invalid_token?access_token=${"A".repeat(40)}`);
    expect(answer.status).toBe(401);
  });
});

describe("paths", () => {
  test("a slash too many or too few is a redirect that keeps method and query", async () => {
    const answer = await (await api.nobody()).get("/error/invalid_token/?a=b");
    expect([answer.status, answer.headers.get("location")]).toEqual([308, "/api/v1/error/invalid_token?a=b"]);
  });
  test("also where the path without it might be a longer name of a repository, unless one has it", async () => {
    const su = await api.as("admin");
    const [tags, policies] = ["/repository/admin/slashes/tag", "/repository/admin/slashes/autoprunepolicy"];
    const seen = async (path: string, method = "GET") => {
      const answer = await su.send(method, path);
      return [answer.status, answer.headers.get("location")];
    };
    expect(await seen(`${tags}?limit=1`)).toEqual([308, `/api/v1${tags}/?limit=1`]);
    expect(await seen(policies, "POST")).toEqual([308, `/api/v1${policies}/`]);
    expect(await seen(tags, "DELETE")).toEqual([404, null]);
    expect(await seen("/repository/admin/slashes/nothing")).toEqual([404, null]);
    const made = await su.post("/repository", {
      namespace: "admin",
      repository: "slashes/tag",
      visibility: "private",
      description: "",
    });
    expect(made.status).toBe(201);
    expect((await su.get(tags)).body.name).toBe("slashes/tag");
  });
  test("the redirect never leaves for another host", async () => {
    const answer = await (await api.nobody()).get("/error/invalid_token/", { Host: "evil.example.com" });
    expect(answer.headers.get("location")).toBe("/api/v1/error/invalid_token");
    expect((await (await api.nobody()).get("//evil.example.com/")).status).toBe(404);
  });
  test("HEAD is GET without a body", async () => {
    const answer = await (await api.nobody()).send("HEAD", "/error/invalid_token");
    expect([answer.status, answer.text]).toEqual([200, ""]);
  });
});

describe("browsers", () => {
  test("GETs of a browser need X-Requested-With, other clients do not", async () => {
    const visitor = await api.nobody();
    const refused = await visitor.get("/error/invalid_token", BROWSER);
    expect([refused.status, envelopeOf(refused).detail]).toEqual([
      400,
      "API calls must be invoked with an X-Requested-With header if called from a browser",
    ]);
    const asked = await visitor.get("/error/invalid_token", { ...BROWSER, "X-Requested-With": "XMLHttpRequest" });
    expect(asked.status).toBe(200);
    expect((await visitor.get("/error/invalid_token", { "User-Agent": "curl/8.0" })).status).toBe(200);
  });
  test("a listed origin may read answers, another may not, and none gets cookies", async () => {
    const visitor = await api.nobody();
    const listed = await visitor.get("/error/invalid_token", { Origin: "https://page.example.com" });
    expect(listed.headers.get("access-control-allow-origin")).toBe("https://page.example.com");
    expect(listed.headers.get("access-control-allow-credentials")).toBeNull();
    const foreign = await visitor.get("/error/invalid_token", { Origin: "https://evil.example.com" });
    expect(foreign.headers.get("access-control-allow-origin")).toBeNull();
    expect(foreign.headers.get("vary")).toBe("Origin");
  });
  test("preflights name the headers that may be sent", async () => {
    const preflight = { Origin: "https://page.example.com", "Access-Control-Request-Method": "PUT" };
    const answer = await new ApiClient(api.berth.url).send("OPTIONS", "/user/", undefined, preflight);
    expect(answer.status).toBe(204);
    expect(answer.headers.get("access-control-allow-headers")).toBe("Authorization, Content-Type, X-Requested-With");
  });
});

describe("without anonymous access", () => {
  test("only what signing in needs answers nobody", async () => {
    const visitor = await closed.nobody();
    expect((await visitor.get("/error/invalid_token")).status).toBe(200);
    const refused = await visitor.get("/organization/nobody-has-this");
    expect([refused.status, envelopeOf(refused).detail]).toEqual([401, "Anonymous access is not allowed"]);
  });
});
