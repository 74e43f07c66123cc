/** The notices in a user's page: whole bodies, pages, and that they are the user's alone. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { deleteUserNotifications, insertUserNotification } from "../../src/domain/notification/user-notification.ts";
import { httpDate } from "../../src/http/api/views.ts";
import { type Api, envelopeOf, startApi } from "./harness.ts";

setDefaultTimeout(30_000);
const BEGIN_MS = Date.UTC(2024, 0, 9, 12);
let api: Api;
beforeAll(async () => {
  api = await startApi();
  for (const name of ["alice", "bob", "carol"]) await api.user(name);
  await (await api.as("bob")).post("/organization/", { name: "acme", email: "acme@example.com" });
}, 60_000);
afterAll(() => api.stop());

async function give(username: string, count: number): Promise<void> {
  const accountId = await api.accountId(username);
  await api.app.db.tx(async (tx) => {
    for (let index = 0; index < count; index++) {
      await insertUserNotification(tx, {
        accountId,
        kind: "test_notification",
        metadata: { index },
        // Two of a second: the order must not depend on it.
        nowMs: BEGIN_MS + Math.floor(index / 2) * 1000,
      });
    }
  });
}

describe("GET /user/notifications", () => {
  test("is empty for a new user", async () => {
    const answer = await (await api.as("carol")).get("/user/notifications");
    expect([answer.status, answer.body]).toEqual([200, { notifications: [], additional: false }]);
  });
  test("lists the newest first, page by page", async () => {
    await give("alice", 12);
    const alice = await api.as("alice");
    const pages = await Promise.all([0, 1, 2, 3].map((page) => alice.get(`/user/notifications?page=${page}`)));
    const indexes = pages.map(({ body }) =>
      body.notifications.map(({ metadata }: { metadata: { index: number } }) => metadata.index),
    );
    expect(indexes).toEqual([[11, 10, 9, 8, 7], [6, 5, 4, 3, 2], [1, 0], []]);
    expect(pages.map(({ body }) => body.additional)).toEqual([true, true, false, false]);
    expect(pages[0]?.body.notifications[0]).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      organization: null,
      kind: "test_notification",
      created: httpDate(BEGIN_MS + 5000),
      metadata: { index: 11 },
      dismissed: false,
    });
    expect((await alice.get("/user/notifications?limit=100")).body.notifications).toHaveLength(12);
    for (const query of ["page=-1", "page=x", "limit=0", "limit=101", "page=101", "page=1e3"]) {
      const answer = await alice.get(`/user/notifications?${query}`);
      expect([answer.status, envelopeOf(answer).type]).toEqual([400, "invalid_request"]);
    }
  });
  test("names the organization, and forgets what is settled", async () => {
    const facts = { accountId: await api.accountId("carol"), organizationId: await api.accountId("acme") };
    await api.app.db.tx((tx) =>
      insertUserNotification(tx, {
        ...facts,
        kind: "quota_warning",
        metadata: { namespace: "acme" },
        subjectKey: "quota:acme",
        nowMs: BEGIN_MS,
      }),
    );
    const carol = await api.as("carol");
    expect((await carol.get("/user/notifications")).body.notifications).toEqual([
      expect.objectContaining({ organization: "acme", kind: "quota_warning", metadata: { namespace: "acme" } }),
    ]);
    await api.app.db.tx((tx) => deleteUserNotifications(tx, "quota:acme"));
    expect((await carol.get("/user/notifications")).body.notifications).toEqual([]);
  });
});

describe("GET and PUT /user/notifications/{uuid}", () => {
  test("show a notice and put it aside", async () => {
    await give("bob", 1);
    const bob = await api.as("bob");
    const [note] = (await bob.get("/user/notifications")).body.notifications;
    const path = `/user/notifications/${note.id}`;
    expect((await bob.get(path)).body).toEqual(note);
    const dismissed = await bob.put(path, { dismissed: true, metadata: { changed: true }, account_id: 1 });
    expect([dismissed.status, dismissed.body]).toEqual([200, { ...note, dismissed: true }]);
    expect((await bob.get("/user/notifications")).body).toEqual({ notifications: [], additional: false });
    expect((await bob.get(path)).body.dismissed).toBe(true);
    expect((await bob.put(path, { dismissed: false })).body).toEqual(note);
  });
  test("are not there for anybody else", async () => {
    const [note] = (await (await api.as("bob")).get("/user/notifications")).body.notifications;
    for (const client of [await api.as("alice"), await api.as("admin")]) {
      expect((await client.get(`/user/notifications/${note.id}`)).status).toBe(404);
      expect((await client.put(`/user/notifications/${note.id}`, { dismissed: true })).status).toBe(404);
    }
    expect((await (await api.as("bob")).get(`/user/notifications/${note.id}`)).body).toEqual(note);
    expect((await (await api.as("bob")).get("/user/notifications/nosuch")).status).toBe(404);
  });
});
