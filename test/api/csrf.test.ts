/** CSRF: a change that comes with a session's cookie is made only when the session's own value comes too. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Api, ApiClient, envelopeOf, startApi } from "./harness.ts";

setDefaultTimeout(30_000);
let api: Api;
beforeAll(async () => {
  api = await startApi({ FEATURE_USER_METADATA: true });
  for (const name of ["alice", "mallory"]) await api.user(name);
}, 60_000);
afterAll(() => api.stop());

describe("GET /csrf_token", () => {
  test("gives a visitor a cookie and its value, and the same value again", async () => {
    const first = await fetch(`${api.berth.url}/csrf_token`);
    const cookie = first.headers.get("set-cookie") ?? "";
    expect(cookie).toMatch(/^_csrf_token=[\w-]{43}; Path=\/; SameSite=Lax; HttpOnly; /);
    expect(first.headers.get("cache-control")).toBe("no-store");
    const body = (await first.json()) as { csrf_token: string };
    expect(Object.keys(body)).toEqual(["csrf_token"]);
    // The value is not the cookie: whoever reads one has not the other.
    expect(cookie).not.toContain(body.csrf_token);
    const again = await fetch(`${api.berth.url}/csrf_token`, { headers: { Cookie: cookie.split(";")[0] ?? "" } });
    expect(again.headers.get("set-cookie")).toBeNull();
    expect(await again.json()).toEqual(body);
  });
});

describe("a change by a session", () => {
  test.each([
    ["PUT", "/user/", { company: "x" }],
    ["DELETE", "/user/", undefined],
    ["POST", "/signout", undefined],
    ["POST", "/signin", { username: "alice", password: "x" }],
    ["POST", "/signin/verify", { password: "x" }],
    ["POST", "/user/clientkey", { password: "x" }],
    ["POST", "/user/convert", { adminUser: "x", adminPassword: "x" }],
    ["POST", "/user/", { username: "x", password: "x" }],
  ])("%s %s is refused without the right value", async (method, path, body) => {
    const alice = await api.as("alice");
    const mallory = await api.as("mallory");
    const visitor = await api.nobody();
    const { Cookie = "", "X-CSRF-Token": own = "" } = alice.headers;
    const values: (string | undefined)[] = [
      undefined,
      "",
      "nonsense",
      own.slice(0, -1),
      `${own}x`,
      own.toLowerCase(),
      Cookie.split("=")[1],
      mallory.headers["X-CSRF-Token"],
      visitor.headers["X-CSRF-Token"],
    ];
    for (const value of values) {
      const client = new ApiClient(api.berth.url, {
        Cookie,
        ...(value === undefined ? {} : { "X-CSRF-Token": value }),
      });
      const answer = await client.send(method, path, body);
      expect([answer.status, envelopeOf(answer).detail]).toEqual([403, "CSRF token was invalid or missing."]);
    }
    expect((await alice.get("/user/")).body).toMatchObject({ username: "alice", company: null });
  });
  test("is not made by a value in the body, nor by a second one in the query", async () => {
    const { Cookie = "", "X-CSRF-Token": own = "" } = (await api.as("alice")).headers;
    const bare = new ApiClient(api.berth.url, { Cookie });
    expect((await bare.put("/user/", { company: "x", _csrf_token: own })).status).toBe(403);
    const wrong = new ApiClient(api.berth.url, { Cookie, "X-CSRF-Token": "nonsense" });
    expect((await wrong.put(`/user/?_csrf_token=${own}`, { company: "x" })).status).toBe(403);
    expect((await bare.put(`/user/?_csrf_token=${own}`, { company: "by query" })).status).toBe(200);
  });
  test("is not made by a form of another page", async () => {
    const { Cookie = "" } = (await api.as("alice")).headers;
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]) {
      const client = new ApiClient(api.berth.url, { Cookie, Origin: "https://evil.example", "Content-Type": type });
      expect((await client.send("PUT", "/user/", '{"company":"x"}')).status).toBe(403);
    }
  });
  test("is not wanted for reading", async () => {
    const { Cookie = "" } = (await api.as("alice")).headers;
    expect((await new ApiClient(api.berth.url, { Cookie }).get("/user/")).status).toBe(200);
  });
});
