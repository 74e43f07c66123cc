/** The action log over /api/v1: whose log is whose, pages, dates, performers and counts. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { LogEntry } from "../../src/logsink/contract.ts";
import { basicOf, eventually } from "../registry/harness.ts";
import { type Api, type ApiAnswer, type ApiClient, envelopeOf, startApi } from "./harness.ts";

const DAY_MS = 24 * 3600 * 1000;

interface ShownLog {
  kind: string;
  metadata: Record<string, unknown>;
  ip: string | null;
  datetime: string;
  performer?: { name: string; is_robot: boolean; avatar: { kind: string } };
  namespace?: { name: string; kind: string };
}

/** The day of a time as these routes take it. */
function day(ms: number): string {
  const [year, month, date] = new Date(ms).toISOString().slice(0, 10).split("-");
  return `${month}/${date}/${year}`;
}

describe("action logs", () => {
  let api: Api;
  let alice: ApiClient;
  let admin: ApiClient;
  let aliceId: number;
  let bobId: number;
  const now = Date.now();

  beforeAll(async () => {
    api = await startApi();
    for (const name of ["alice", "bob", "carol", "dave"]) await api.user(name);
    [aliceId, bobId] = [await api.accountId("alice"), await api.accountId("bob")];
    [alice, admin] = [await api.as("alice"), await api.as("admin")];
  }, 30_000);
  afterAll(() => api.stop());

  /** Entries as they would have been written then. */
  async function write(entries: readonly Partial<LogEntry>[]): Promise<void> {
    const blank = { kind: "create_robot", performerId: undefined, repositoryId: undefined, ip: undefined };
    const rest = { namespaceId: undefined, metadata: "{}", createdMs: now, count: 1 };
    await api.app.logsink.write(entries.map((entry) => ({ ...blank, ...rest, ...entry })));
  }

  /** Every page of a list, one after the other. */
  async function walk(client: ApiClient, path: string): Promise<ShownLog[][]> {
    const pages: ShownLog[][] = [];
    for (let next = ""; pages.length < 200; ) {
      const answer = await client.get(`${path}${path.includes("?") ? "&" : "?"}next_page=${encodeURIComponent(next)}`);
      expect(answer.status).toBe(200);
      pages.push(answer.body.logs);
      next = answer.body.next_page ?? "";
      if (next === "") break;
    }
    return pages;
  }

  const refusal = (answer: ApiAnswer) => [answer.status, envelopeOf(answer).detail];

  test("a pull is listed a second later with who, where from and what", async () => {
    await api.client("alice", "correct-horse-battery").pushImage("alice/app", "v1");
    const headers = { ...basicOf("alice"), "user-agent": 'agent "x" {"kind":"forged"}' };
    const pulled = await fetch(`${api.berth.url}/v2/alice/app/manifests/v1`, { headers });
    expect(pulled.status).toBe(200);
    await eventually(async () => (await alice.get("/repository/alice/app/logs")).text.includes("pull_repo"));
    const { body } = await alice.get("/repository/alice/app/logs");
    const kinds = body.logs.map(({ kind }: ShownLog) => kind);
    expect(kinds).toEqual(["pull_repo", "push_repo", "create_repo"]);
    expect(body.logs[0]).toMatchObject({
      ip: "127.0.0.1",
      metadata: { repo: "app", namespace: "alice", tag: "v1", "user-agent": 'agent "x" {"kind":"forged"}' },
      performer: { kind: "user", name: "alice", is_robot: false, avatar: { name: "alice", kind: "user" } },
    });
    expect(body.logs[0].namespace).toBeUndefined();
    expect((await alice.get("/user/logs")).body.logs).toHaveLength(3);
  }, 20_000);

  test("only admins see a log: of a repository, of an organization, of the registry", async () => {
    const [bob, nobody] = [await api.as("bob"), await api.nobody()];
    expect((await alice.post("/organization/", { name: "logsorg", email: "logsorg@example.com" })).status).toBe(201);
    for (const path of ["/repository/alice/app/logs", "/organization/logsorg/logs", "/superuser/logs"]) {
      for (const asked of [path, path.replace(/logs$/, "aggregatelogs")]) {
        expect((await bob.get(asked)).status).toBe(403);
        expect((await nobody.get(asked)).status).toBe(401);
      }
    }
    expect((await nobody.get("/user/logs")).status).toBe(401);
    expect((await alice.get("/organization/logsorg/logs")).body.logs.map(({ kind }: ShownLog) => kind)).toContain(
      "org_create",
    );
    expect((await alice.get("/superuser/logs")).status).toBe(403);
    const all = (await admin.get("/superuser/logs")).body.logs as ShownLog[];
    expect(all.find(({ kind }) => kind === "org_create")?.namespace).toMatchObject({ kind: "org", name: "logsorg" });
    expect(all.find(({ kind }) => kind === "push_repo")?.namespace).toMatchObject({ kind: "user", name: "alice" });
    expect((await alice.get("/organization/nosuchorg/logs")).status).toBe(404);
  }, 20_000);

  test("pages of 20, newest first, through entries of one millisecond and rows that count many", async () => {
    const id = await api.accountId("carol");
    const carol = await api.as("carol");
    const at = (n: number, createdMs: number, count = 1) => ({
      namespaceId: id,
      metadata: JSON.stringify({ n }),
      createdMs,
      count,
    });
    await write(Array.from({ length: 45 }, (_, n) => at(n, now - 60_000)));
    await write([at(45, now - 50_000, 33), at(46, now - 50_000), at(47, now - 40_000, 20)]);
    const pages = await walk(carol, "/user/logs");
    expect(pages.map((page) => page.length)).toEqual([20, 20, 20, 20, 19]);
    const shown = pages.flat().map(({ metadata }) => metadata.n);
    const expected = [
      ...Array(20).fill(47),
      46,
      ...Array(33).fill(45),
      ...Array.from({ length: 45 }, (_, n) => 44 - n),
    ];
    expect(shown).toEqual(expected);
  }, 20_000);

  test("what is written between two pages shifts nothing, and a page that just fits has no next one", async () => {
    const id = await api.accountId("dave");
    const dave = await api.as("dave");
    await write(Array.from({ length: 40 }, (_, n) => ({ namespaceId: id, metadata: `{"n":${n}}`, createdMs: now })));
    const first = await dave.get("/user/logs");
    await write([{ namespaceId: id, metadata: '{"n":99}', createdMs: now + 1000 }]);
    const second = await dave.get(`/user/logs?next_page=${encodeURIComponent(first.body.next_page)}`);
    const numbers = [...first.body.logs, ...second.body.logs].map(({ metadata }: ShownLog) => metadata.n);
    expect(numbers).toEqual(Array.from({ length: 40 }, (_, n) => 39 - n));
    expect(second.body.next_page).toBeUndefined();
    expect(second.body.start_time).toBe(first.body.start_time);
  });

  test("a token is good for its own list only", async () => {
    const dave = await api.as("dave");
    const { next_page } = (await dave.get("/user/logs")).body;
    for (const token of [next_page.slice(0, -2), "x", "v1.AAAA", `${next_page.slice(0, 40)}xx${next_page.slice(42)}`]) {
      expect((await dave.get(`/user/logs?next_page=${encodeURIComponent(token)}`)).status).toBe(400);
    }
    expect((await alice.get(`/user/logs?next_page=${encodeURIComponent(next_page)}`)).status).toBe(400);
  });

  test("dates are days in UTC and the end is inclusive", async () => {
    const midnight = Date.UTC(2021, 1, 28);
    const at = (createdMs: number) => ({ namespaceId: aliceId, performerId: bobId, createdMs });
    await write([at(midnight - 1), at(midnight), at(midnight + DAY_MS - 1), at(midnight + DAY_MS)]);
    const count = async (query: string) => (await alice.get(`/user/logs?${query}`)).body.logs.length;
    expect(await count("starttime=02/28/2021&endtime=02/28/2021")).toBe(2);
    expect(await count("starttime=2/27/2021&endtime=2/27/2021")).toBe(1);
    expect(await count("starttime=02/27/2021&endtime=03/01/2021")).toBe(4);
    expect(await count("starttime=03/02/2021&endtime=03/01/2021")).toBe(0);
    const { body } = await alice.get("/user/logs?starttime=02/28/2021&endtime=02/28/2021");
    expect([body.start_time, body.end_time]).toEqual([
      "Sun, 28 Feb 2021 00:00:00 -0000",
      "Mon, 01 Mar 2021 00:00:00 -0000",
    ]);
    expect(body.logs[0].datetime).toBe("Sun, 28 Feb 2021 23:59:59 -0000");
    const defaults = (await alice.get("/user/logs")).body;
    expect(Date.parse(defaults.end_time) - Date.parse(defaults.start_time)).toBe(2 * DAY_MS);
  });

  test.each([
    "starttime=03/03/2021&endtime=03/01/2021",
    "starttime=02/30/2021",
    "starttime=2021-02-28",
    "endtime=13/01/2021",
    "endtime=02/28/21",
    "starttime=%00",
    "endtime=02/28/2021%0d%0ax",
  ])("%s is refused", async (query) => {
    for (const path of ["/user/logs", "/user/aggregatelogs", "/repository/alice/app/logs"]) {
      expect((await alice.get(`${path}?${query}`)).status).toBe(400);
    }
  });

  test("the performer filters; one that does not exist did nothing", async () => {
    const range = "starttime=02/27/2021&endtime=03/01/2021";
    const names = async (performer: string) =>
      (await alice.get(`/user/logs?${range}&performer=${encodeURIComponent(performer)}`)).body.logs.map(
        (log: ShownLog) => log.performer?.name,
      );
    expect(await names("bob")).toEqual(["bob", "bob", "bob", "bob"]);
    expect(await names("alice")).toEqual([]);
    expect(await names("nobody-of-this-name")).toEqual([]);
    expect(await names("'; drop table action_log; --")).toEqual([]);
    const counted = await alice.get(`/user/aggregatelogs?${range}&performer=bob`);
    expect(counted.body.aggregated.map(({ count }: { count: number }) => count)).toEqual([1, 2, 1]);
  });

  test("entries of accounts that are gone are shown without a name", async () => {
    const gone = 987_654_321;
    const createdMs = Date.UTC(2021, 5, 5);
    await write([{ namespaceId: aliceId, performerId: gone, createdMs, metadata: "no json" }]);
    await write([{ namespaceId: gone, performerId: gone, createdMs, metadata: "[1]" }]);
    const range = "starttime=06/05/2021&endtime=06/05/2021";
    const [own] = (await alice.get(`/user/logs?${range}`)).body.logs;
    expect(own.performer).toBeUndefined();
    expect(own.metadata).toEqual({ __raw: "no json" });
    const all = (await admin.get(`/superuser/logs?${range}`)).body.logs;
    expect(all).toHaveLength(2);
    expect(all[0].namespace).toBeUndefined();
  });

  test("service keys are for superusers' eyes", async () => {
    const createdMs = Date.UTC(2021, 6, 6);
    await write([
      { kind: "service_key_create", namespaceId: aliceId, createdMs },
      { kind: "service_key_rotate", namespaceId: aliceId, createdMs },
      { kind: "create_robot", namespaceId: aliceId, createdMs },
    ]);
    const range = "starttime=07/06/2021&endtime=07/06/2021";
    expect((await alice.get(`/user/logs?${range}`)).body.logs).toHaveLength(1);
    expect((await alice.get(`/user/aggregatelogs?${range}`)).body.aggregated).toHaveLength(1);
    expect((await admin.get(`/superuser/logs?${range}`)).body.logs).toHaveLength(3);
    expect((await admin.get(`/superuser/aggregatelogs?${range}`)).body.aggregated).toHaveLength(3);
  });

  test("counts by kind and day, of rows that count many too, up to a month", async () => {
    const first = Date.UTC(2022, 0, 31, 23, 59, 59, 999);
    await write([
      { kind: "pull_repo", namespaceId: aliceId, createdMs: first, count: 1_000 },
      { kind: "pull_repo", namespaceId: aliceId, createdMs: first + 1, count: 5 },
      { kind: "push_repo", namespaceId: aliceId, createdMs: first + 1 },
      { kind: "pull_repo", namespaceId: aliceId, createdMs: first + DAY_MS },
    ]);
    const { body } = await alice.get("/user/aggregatelogs?starttime=01/05/2022&endtime=02/04/2022");
    expect(body.aggregated).toEqual([
      { kind: "pull_repo", count: 1_000, datetime: "Mon, 31 Jan 2022 00:00:00 -0000" },
      { kind: "pull_repo", count: 6, datetime: "Tue, 01 Feb 2022 00:00:00 -0000" },
      { kind: "push_repo", count: 1, datetime: "Tue, 01 Feb 2022 00:00:00 -0000" },
    ]);
    for (const path of ["/user", "/repository/alice/app", "/organization/logsorg"]) {
      const answer = await alice.get(`${path}/aggregatelogs?starttime=01/05/2022&endtime=02/06/2022`);
      expect(refusal(answer)).toEqual([400, "Invalid date range for logs"]);
    }
    expect(day(first)).toBe("01/31/2022");
  });
});

describe("action logs of a config with bounds", () => {
  let api: Api;
  beforeAll(async () => {
    api = await startApi({ ACTION_LOG_MAX_PAGE: 2, FEATURE_AGGREGATED_LOG_COUNT_RETRIEVAL: false });
    await api.user("alice");
  }, 30_000);
  afterAll(() => api.stop());

  test("ACTION_LOG_MAX_PAGE ends a list, and counting can be off", async () => {
    const alice = await api.as("alice");
    const namespaceId = await api.accountId("alice");
    const entry = { kind: "create_robot", namespaceId, performerId: undefined, repositoryId: undefined, ip: undefined };
    await api.app.logsink.write(
      Array.from({ length: 100 }, (_, n) => ({ ...entry, metadata: `{"n":${n}}`, createdMs: Date.now(), count: 1 })),
    );
    const first = await alice.get("/user/logs");
    const second = await alice.get(`/user/logs?next_page=${encodeURIComponent(first.body.next_page)}`);
    expect(second.body.logs).toHaveLength(20);
    expect(second.body.next_page).toBeUndefined();
    for (const path of ["/user/aggregatelogs", "/superuser/aggregatelogs"]) {
      expect((await alice.get(path)).status).toBe(404);
    }
  });
});
