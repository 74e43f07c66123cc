/** The conventions of /api/v1 that no resource owns. Source: quay-api reference, section 1. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Api, envelopeOf, startApi } from "./harness.ts";

let api: Api;
beforeAll(async () => {
  api = await startApi();
}, 60_000);
afterAll(() => api.stop());

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
});
