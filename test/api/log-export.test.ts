/** Exports of the action log from end to end: asked for over /api/v1, made by the worker, told to a real receiver, fetched. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { LogEntry } from "../../src/logsink/contract.ts";
import { eventually } from "../registry/harness.ts";
import { type SmtpServer, startSmtp } from "../support/smtp.ts";
import { type Api, type ApiClient, envelopeOf, startApi } from "./harness.ts";

interface Told {
  export_id: string;
  start_time: string;
  end_time: string;
  namespace: string;
  repository: string | null;
  exported_data_url: string | null;
  status: string;
}

/** Somebody's server that is called back; answers with what `status` says at the time. */
function startReceiver() {
  const told: { path: string; body: Told }[] = [];
  const state = { status: 200, location: "" };
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      told.push({ path: new URL(request.url).pathname, body: (await request.json()) as Told });
      const headers: Record<string, string> = state.location === "" ? {} : { location: state.location };
      return new Response("thank you", { status: state.status, headers });
    },
  });
  return {
    told,
    state,
    url: (path: string) => `http://127.0.0.1:${server.port}${path}`,
    stop: () => server.stop(true),
  };
}

describe("exports of the action log", () => {
  let api: Api;
  let alice: ApiClient;
  let receiver: ReturnType<typeof startReceiver>;
  const day = Date.UTC(2023, 3, 5);
  const query = "starttime=04/05/2023&endtime=04/05/2023";

  beforeAll(async () => {
    receiver = startReceiver();
    api = await startApi({
      EXPORT_ACTION_LOGS_WORKER_POLL_PERIOD: 1,
      EXPORT_ACTION_LOGS_SECONDS: 6,
      SSRF_ALLOWED_HOSTS: ["127.0.0.1"],
    });
    for (const name of ["alice", "bob"]) await api.user(name);
    alice = await api.as("alice");
    const namespaceId = await api.accountId("alice");
    const entry = (n: number, more: Partial<LogEntry> = {}): LogEntry => ({
      kind: "pull_repo",
      namespaceId,
      performerId: namespaceId,
      repositoryId: undefined,
      ip: "192.0.2.9",
      metadata: JSON.stringify({ n, "user-agent": 'line\nbreak "quote" \u0000 ] }' }),
      createdMs: day + n,
      count: 1,
      ...more,
    });
    await api.app.logsink.write([
      ...Array.from({ length: 1200 }, (_, n) => entry(n)),
      entry(1200, { count: 30 }),
      entry(-1),
      entry(0, { createdMs: day + 24 * 3600 * 1000 }),
      entry(0, { kind: "service_key_create" }),
    ]);
  }, 30_000);
  afterAll(async () => {
    await api.stop();
    await receiver.stop();
  });

  /** What was told of an export. */
  async function toldOf(path: string): Promise<Told> {
    await eventually(async () => receiver.told.some((call) => call.path === path), 15_000);
    const call = receiver.told.find((other) => other.path === path);
    if (!call) throw new Error("nobody called");
    return call.body;
  }

  async function rowOf(
    id: string,
  ): Promise<{ state: string; outcome: string | null; reason: string | null } | undefined> {
    const [row] = await api.app.db.sql<{
      state: string;
      outcome: string | null;
      reason: string | null;
    }>`/* test.export */
      select state, outcome, reason from log_export where id = ${id}`;
    return row;
  }

  const files = () => api.berth.store.list("exportedactionlogs/");

  test("a file is made, its link is told, it can be fetched until its time is over, and is gone then", async () => {
    const asked = await alice.post(`/user/exportlogs?${query}`, { callback_url: receiver.url("/first") });
    expect(asked.status).toBe(200);
    const { export_id } = asked.body;
    const told = await toldOf("/first");
    expect(told).toEqual({
      export_id,
      start_time: "04/05/2023",
      end_time: "04/05/2023",
      namespace: "alice",
      repository: null,
      exported_data_url: expect.stringMatching(
        new RegExp(`^${api.berth.url}/exportedlogs/${export_id}-[0-9a-f-]{36}$`),
      ),
      status: "success",
    });
    const url = told.exported_data_url ?? "";
    // Whoever has the link: no session, no token.
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(response.headers.get("content-disposition")).toContain(`logs-${export_id}.json`);
    expect(response.headers.get("cache-control")).toBe("no-store");
    const file = (await response.json()) as {
      export_id: string;
      details: Record<string, unknown>;
      logs: { metadata?: { n: number }; kind?: string; terminator?: boolean; performer?: { name: string } }[];
    };
    expect(file.export_id).toBe(export_id);
    expect(file.details).toEqual({
      start_time: "Wed, 05 Apr 2023 00:00:00 -0000",
      end_time: "Thu, 06 Apr 2023 00:00:00 -0000",
      namespace: "alice",
      repository: null,
    });
    const last = file.logs.pop();
    expect(last).toEqual({ terminator: true });
    const numbers = file.logs.map(({ metadata }) => metadata?.n);
    expect(numbers).toEqual([...Array.from({ length: 1200 }, (_, n) => n), ...Array(30).fill(1200)]);
    expect(file.logs[0]).toMatchObject({ kind: "pull_repo", ip: "192.0.2.9", performer: { name: "alice" } });
    expect((await fetch(url, { method: "HEAD" })).status).toBe(200);
    expect(await files()).toHaveLength(1);

    for (const path of [url.slice(0, -1), `${url}x`, `${api.berth.url}/exportedlogs/${export_id}`]) {
      expect((await fetch(path)).status).toBe(404);
    }
    expect((await fetch(`${api.berth.url}/exportedlogs/..%2f..%2fberth.db`)).status).toBe(404);
    await eventually(async () => (await fetch(url)).status === 404, 15_000);
    await eventually(async () => (await files()).length === 0, 15_000);
    await eventually(async () => (await rowOf(export_id)) === undefined, 5_000);
  }, 60_000);

  test("it is told again until somebody takes it", async () => {
    receiver.state.status = 500;
    const { body } = await alice.post(`/user/exportlogs?${query}`, { callback_url: receiver.url("/again") });
    await toldOf("/again");
    await eventually(async () => (await rowOf(body.export_id))?.reason !== null, 10_000);
    expect((await rowOf(body.export_id))?.reason).toContain("the callback answered 500");
    receiver.state.status = 204;
    await eventually(async () => (await rowOf(body.export_id))?.state === "done", 20_000);
    expect(receiver.told.filter(({ path }) => path === "/again").length).toBeGreaterThanOrEqual(2);
    receiver.state.status = 200;
  }, 60_000);

  test("a redirect is not followed, and an inner address is not called", async () => {
    receiver.state.status = 307;
    receiver.state.location = receiver.url("/elsewhere");
    await alice.post(`/user/exportlogs?${query}`, { callback_url: receiver.url("/redirect") });
    await toldOf("/redirect");
    receiver.state.status = 200;
    receiver.state.location = "";
    for (const host of ["127.0.0.2", "[::1]", "169.254.169.254", "10.0.0.1", "[::ffff:10.0.0.1]"]) {
      const { body } = await alice.post(`/user/exportlogs?${query}`, { callback_url: `http://${host}:9/x` });
      await eventually(async () => (await rowOf(body.export_id))?.state === "failed", 20_000);
      expect((await rowOf(body.export_id))?.reason).toContain("SSRF_ALLOWED_HOSTS");
    }
    expect(receiver.told.filter(({ path }) => path === "/elsewhere")).toEqual([]);
  }, 90_000);

  test("of a repository and of an organization", async () => {
    await api.client("alice", "correct-horse-battery").pushImage("alice/deep/app", "v1");
    await alice.post("/organization/", { name: "exportorg", email: "exportorg@example.com" });
    const callback = (path: string) => ({ callback_url: receiver.url(path) });
    expect((await alice.post("/repository/alice/deep/app/exportlogs", callback("/repository"))).status).toBe(200);
    expect((await alice.post("/organization/exportorg/exportlogs", callback("/organization"))).status).toBe(200);
    const told = await toldOf("/repository");
    expect([told.namespace, told.repository]).toEqual(["alice", "deep/app"]);
    const { logs } = (await (await fetch(told.exported_data_url ?? "")).json()) as { logs: { kind?: string }[] };
    expect(logs.map(({ kind }) => kind)).toContain("push_repo");
    expect((await toldOf("/organization")).namespace).toBe("exportorg");
  }, 60_000);

  const refused: [string, unknown, string][] = [
    ["no callback", {}, "Missing callback"],
    ["an empty callback", { callback_url: "" }, "Missing callback"],
    ["a callback that is no URL", { callback_url: "example.com" }, "Invalid callback URL"],
    ["another scheme", { callback_url: "file:///etc/passwd" }, "Invalid callback URL"],
    ["credentials in the URL", { callback_url: "http://user:secret@example.com/" }, "Invalid callback URL"],
    ["an address without @", { callback_email: "nobody" }, "Invalid callback e-mail"],
    ["mail that is not sent here", { callback_email: "alice@example.com" }, "FEATURE_MAILING"],
    ["a number", { callback_url: 7 }, "callback_url"],
  ];
  test.each(refused)("%s is refused and logged", async (_, body, text) => {
    const answer = await alice.post("/user/exportlogs", body);
    expect(answer.status).toBe(400);
    expect(envelopeOf(answer).detail).toContain(text);
  });

  test("what was refused and what was asked for is in the log", async () => {
    expect((await alice.post("/user/exportlogs?starttime=x", { callback_url: "http://example.com/" })).status).toBe(
      400,
    );
    const logged = async (kind: string) =>
      ((await alice.get("/user/logs")).body.logs as { kind: string; metadata: Record<string, unknown> }[]).find(
        (entry) => entry.kind === kind,
      );
    await eventually(async () => (await logged("export_logs_failure")) !== undefined, 10_000);
    expect((await logged("export_logs_failure"))?.metadata.error).toBeString();
    expect((await logged("export_logs_success"))?.metadata.export_id).toBeString();
  }, 20_000);

  test("only admins export, and not everything at once", async () => {
    const [bob, nobody] = [await api.as("bob"), await api.nobody()];
    const body = { callback_url: "http://example.com/" };
    for (const path of ["/repository/alice/deep/app/exportlogs", "/organization/exportorg/exportlogs"]) {
      expect((await bob.post(path, body)).status).toBe(403);
      expect((await nobody.post(path, body)).status).toBe(401);
    }
    const answers = [];
    for (let at = 0; at < 12; at++) {
      answers.push((await bob.post("/user/exportlogs", { callback_url: "http://192.0.2.1:9/" })).status);
    }
    expect(answers.slice(0, 3)).toEqual([200, 200, 200]);
  }, 20_000);
});

describe("exports that are told by mail", () => {
  let api: Api;
  let smtp: SmtpServer;

  beforeAll(async () => {
    smtp = await startSmtp();
    api = await startApi({ ...smtp.config, EXPORT_ACTION_LOGS_WORKER_POLL_PERIOD: 1 });
    await api.user("alice");
  }, 30_000);
  afterAll(async () => {
    await api.stop();
    await smtp.stop();
  });

  test("the mail has the link", async () => {
    const alice = await api.as("alice");
    const { body } = await alice.post("/user/exportlogs", { callback_email: "alice@example.com" });
    const mail = await smtp.next("alice@example.com", 15_000);
    const link = /https?:\/\/[^\s"]*(\/exportedlogs\/[0-9a-f-]+)/.exec(mail.text)?.[1] ?? "";
    expect(link).toContain(body.export_id);
    // The link names the registry as its config does; here it is asked where it listens.
    const file = (await (await fetch(`${api.berth.url}${link}`)).json()) as { export_id: string };
    expect(file.export_id).toBe(body.export_id);
  }, 30_000);
});
