/** The registry's notices to everybody. Source: quay-api reference, section 16. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

let api: Api;
let su: ApiClient;
beforeAll(async () => {
  api = await startApi();
  await api.user("alice");
  su = await api.as("admin");
}, 60_000);
afterAll(() => api.stop());

const notice = { content: "Back *soon* <script>", media_type: "text/markdown", severity: "warning" };

test("a superuser's notice is shown to everybody as it was written, until it is removed", async () => {
  const made = await su.post("/messages", { message: notice });
  expect([made.status, made.text]).toEqual([201, ""]);
  for (const client of [su, await api.as("alice"), await api.nobody()]) {
    expect((await client.get("/messages")).body).toEqual({ messages: [{ uuid: expect.any(String), ...notice }] });
  }
  const { uuid } = (await su.get("/messages")).body.messages[0];
  expect((await su.delete(`/message/${uuid}`)).status).toBe(204);
  expect((await su.delete(`/message/${uuid}`)).status).toBe(204);
  expect((await su.delete("/message/%00")).status).toBe(404);
  expect((await su.get("/messages")).body).toEqual({ messages: [] });
});

test("others can neither add nor remove one", async () => {
  const alice = await api.as("alice");
  for (const answer of [await alice.post("/messages", { message: notice }), await alice.delete("/message/x")]) {
    expect([answer.status, envelopeOf(answer).decision]).toEqual([403, "not-superuser"]);
  }
  const nobody = await api.nobody();
  for (const answer of [await nobody.post("/messages", { message: notice }), await nobody.delete("/message/x")]) {
    expect([answer.status, envelopeOf(answer).decision]).toEqual([401, "anonymous"]);
  }
});

describe("a notice that is none is refused", () => {
  const wrong: [string, unknown][] = [
    ["empty", { message: { ...notice, content: "" } }],
    ["too long", { message: { ...notice, content: "x".repeat(10_001) } }],
    ["with a NUL", { message: { ...notice, content: "a\u0000b" } }],
    ["of another type", { message: { ...notice, media_type: "text/html" } }],
    ["of another severity", { message: { ...notice, severity: "fatal" } }],
    ["not in an object", notice],
    ["nothing", undefined],
  ];
  for (const [name, body] of wrong) {
    test(name, async () => {
      const answer = await su.post("/messages", body);
      expect([answer.status, envelopeOf(answer).type]).toEqual([400, "invalid_request"]);
    });
  }
});

test("there are never more than fit on a page, however many are added at once", async () => {
  const answers = await Promise.all(Array.from({ length: 104 }, () => su.post("/messages", { message: notice })));
  const counts = (status: number) => answers.filter((answer) => answer.status === status).length;
  expect([counts(201), counts(409)]).toEqual([100, 4]);
  expect((await su.get("/messages")).body.messages).toHaveLength(100);
}, 60_000);
