/** What /v2 leaves in the action log: pulls, pushes, log-ins and refused attempts, from the server's own process. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { BootedApp } from "../../src/boot.ts";
import { basicOf, eventually, password, type Registry, startRegistry } from "./harness.ts";

interface Entry {
  kind: string;
  namespace_id: number | null;
  performer_id: number | null;
  repository_id: number | null;
  ip: string | null;
  metadata: Record<string, unknown>;
  entry_count: number;
}

/** All entries of a kind, oldest first. */
async function entriesOf(app: BootedApp, kind: string): Promise<Entry[]> {
  const rows = await app.db.sql<Omit<Entry, "metadata"> & { metadata: string }>`/* test.entries */
    select kind, namespace_id, performer_id, repository_id, ip, metadata, entry_count from action_log
    where kind = ${kind} order by id`;
  return rows.map((row) => ({
    ...row,
    metadata: JSON.parse(row.metadata) as Record<string, unknown>,
    entry_count: Number(row.entry_count),
    namespace_id: row.namespace_id === null ? null : Number(row.namespace_id),
    performer_id: row.performer_id === null ? null : Number(row.performer_id),
    repository_id: row.repository_id === null ? null : Number(row.repository_id),
  }));
}

function countOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, { entry_count }) => sum + entry_count, 0);
}

describe("the action log of /v2", () => {
  let registry: Registry;
  const agent = "audit-test/1.0";

  beforeAll(async () => {
    registry = await startRegistry({
      ACTION_LOG_AUDIT_LOGIN_FAILURES: true,
      ACTION_LOG_AUDIT_PULL_FAILURES: true,
      ACTION_LOG_AUDIT_PUSH_FAILURES: true,
      ACTION_LOG_AUDIT_DELETE_FAILURES: true,
      DISABLED_FOR_AUDIT_LOGS: ["hushed"],
      DISABLED_FOR_PULL_LOGS: ["quiet"],
    });
    for (const name of ["alice", "bob", "hushed", "quiet"]) await registry.user(name);
  }, 30_000);
  afterAll(() => registry.stop());

  /** Entries of a kind once there are `count` of them: they come a second late. */
  async function waitFor(kind: string, count: number): Promise<Entry[]> {
    await eventually(async () => countOf(await entriesOf(registry.app, kind)) >= count, 10_000);
    const entries = await entriesOf(registry.app, kind);
    expect(countOf(entries)).toBe(count);
    return entries;
  }

  const get = (path: string, headers: Record<string, string>, method = "GET") =>
    fetch(`${registry.berth.url}${path}`, { method, headers: { "user-agent": agent, ...headers } });

  test("a GET of a manifest is a pull, by tag and by digest; HEAD and 304 are not", async () => {
    const alice = registry.client("alice", password);
    const { descriptor } = await alice.pushImage("alice/app", "v1");
    const { digest } = descriptor;
    const path = "/v2/alice/app/manifests";
    const basic = basicOf("alice");
    expect((await get(`${path}/v1`, basic)).status).toBe(200);
    expect((await get(`${path}/${digest}`, basic)).status).toBe(200);
    expect((await get(`${path}/v1`, basic, "HEAD")).status).toBe(200);
    expect((await get(`${path}/v1`, { ...basic, "if-none-match": `"${digest}"` })).status).toBe(304);
    const pulls = await waitFor("pull_repo", 2);
    const [byTag, byDigest] = pulls;
    const accountId = await registry.accountId("alice");
    const { id } = await registry.repository("alice/app");
    expect(byTag).toMatchObject({ namespace_id: accountId, performer_id: accountId, repository_id: id });
    expect(byTag?.ip).toBe("127.0.0.1");
    const base = { repo: "app", namespace: "alice", "user-agent": agent, username: "alice" };
    expect(byTag?.metadata).toEqual({ ...base, tag: "v1" });
    expect(byDigest?.metadata).toEqual({ ...base, manifest_digest: digest });
    const [push] = await entriesOf(registry.app, "push_repo");
    expect(push?.metadata).toMatchObject({ repo: "app", namespace: "alice", tag: "v1", username: "alice" });
  }, 20_000);

  test("a hundred pulls at once are a hundred entries in few rows, and a robot is named as one", async () => {
    const before = countOf(await entriesOf(registry.app, "pull_repo"));
    const robot = await registry.robot("alice", "ci");
    await registry.grant("alice+ci", "alice/app", "read");
    const headers = basicOf(robot.name, robot.token);
    for (let at = 0; at < 100; at += 20) {
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => get("/v2/alice/app/manifests/v1", headers).then(({ status }) => status)),
      );
      expect(answers).toEqual(Array(20).fill(200));
    }
    const all = await waitFor("pull_repo", before + 100);
    const ours = all.filter(({ metadata }) => metadata.robot === "alice+ci");
    expect(ours.length).toBeLessThan(20);
    expect(ours[0]?.metadata).toMatchObject({ is_robot: true, tag: "v1" });
    expect(ours[0]?.performer_id).toBe(await registry.accountId("alice+ci"));
  }, 30_000);

  test("an anonymous pull is public", async () => {
    await registry.visibility("alice/app", "public");
    const before = countOf(await entriesOf(registry.app, "pull_repo"));
    expect((await registry.anonymous.pullManifest("alice/app", "v1")).status).toBe(200);
    const last = (await waitFor("pull_repo", before + 1)).at(-1);
    expect(last?.performer_id).toBeNull();
    expect(last?.metadata).toMatchObject({ public: true });
    await registry.visibility("alice/app", "private");
  }, 20_000);

  test("namespaces that the config names are not logged", async () => {
    for (const name of ["hushed", "quiet"]) {
      await registry.client(name, password).pushImage(`${name}/app`, "v1");
      expect((await get(`/v2/${name}/app/manifests/v1`, basicOf(name))).status).toBe(200);
      expect((await get("/v2/auth", basicOf(name))).status).toBe(200);
    }
    const marker = countOf(await entriesOf(registry.app, "pull_repo"));
    expect((await get("/v2/alice/app/manifests/v1", basicOf("alice"))).status).toBe(200);
    await waitFor("pull_repo", marker + 1);
    const [hushed, quiet] = [await registry.accountId("hushed"), await registry.accountId("quiet")];
    const rows = await registry.app.db.sql<{ kind: string; namespace_id: number }>`/* test.unlogged */
      select kind, namespace_id from action_log where namespace_id in (${hushed}, ${quiet})`;
    expect(rows.filter(({ namespace_id }) => Number(namespace_id) === hushed)).toEqual([]);
    const kinds = rows.map(({ kind }) => kind);
    expect(kinds).toContain("push_repo");
    expect(kinds).not.toContain("pull_repo");
  }, 20_000);

  test("docker login is a log-in, asking for a token with a scope is not", async () => {
    const before = countOf(await entriesOf(registry.app, "login_success"));
    expect((await get("/v2/auth?service=x", basicOf("bob"))).status).toBe(200);
    expect((await get("/v2/auth?scope=repository:bob/x:pull", basicOf("bob"))).status).toBe(200);
    const last = (await waitFor("login_success", before + 1)).at(-1);
    const id = await registry.accountId("bob");
    expect(last).toMatchObject({ namespace_id: id, performer_id: id });
    expect(last?.metadata).toEqual({ type: "v2auth", useragent: agent, kind: "user", username: "bob" });
  }, 20_000);

  const hostile: [string, string, Record<string, unknown>][] = [
    ["a wrong password", "bob", { kind: "user", username: "bob" }],
    [
      "a line break and JSON",
      'eve","kind","x\r\n{"msg","forged"}',
      { kind: "user", username: 'eve","kind","x {"msg","forged"}' },
    ],
    ["a NUL", "bo\0b", { kind: "user", username: "bo b" }],
    ["a robot that is not there", "alice+nobody", { kind: "robot", robot: "alice+nobody" }],
    ["a robot with a NUL", "alice+no\0body", { kind: "robot", robot: "alice+no body" }],
    ["a name of a thousand characters", "n".repeat(1000), { kind: "user", username: `${"n".repeat(254)}…` }],
    ["an escape sequence and a turned text", "\u001b[2J\u202eroot", { kind: "user", username: " [2J root" }],
  ];
  test.each(hostile)(
    "a log-in with %s fails and is logged on one line",
    async (_, username, expected) => {
      const before = countOf(await entriesOf(registry.app, "login_failure"));
      const authorization = `Basic ${Buffer.from(`${username}:wrong password`).toString("base64")}`;
      expect((await get("/v2/auth", { authorization })).status).toBe(401);
      const last = (await waitFor("login_failure", before + 1)).at(-1);
      expect(last?.metadata).toMatchObject({ type: "v2auth", useragent: agent, ...expected });
      expect(String(last?.metadata.message).length).toBeLessThanOrEqual(512);
      expect(String(last?.metadata.message)).not.toMatch(/\p{Cc}/u);
      expect(JSON.stringify(last?.metadata)).not.toContain("wrong password");
      if (expected.robot === "alice+nobody") expect(last?.namespace_id).toBe(await registry.accountId("alice"));
    },
    20_000,
  );

  test("refused pulls, pushes and deletions are logged with who and why; the first 401 of a client is not", async () => {
    expect((await get("/v2/alice/app/manifests/v1", {})).status).toBe(401);
    expect((await get("/v2/alice/app/manifests/v1", basicOf("bob"))).status).toBe(403);
    const put = await fetch(`${registry.berth.url}/v2/alice/app/manifests/v2`, {
      method: "PUT",
      headers: { ...basicOf("alice"), "content-type": "application/vnd.oci.image.manifest.v1+json" },
      body: "no manifest",
    });
    expect(put.status).toBe(400);
    expect((await get("/v2/alice/app/manifests/none", basicOf("alice"), "DELETE")).status).toBe(404);
    const [pull] = await waitFor("pull_repo_failed", 1);
    expect(pull?.namespace_id).toBe(await registry.accountId("alice"));
    expect(pull?.performer_id).toBe(await registry.accountId("bob"));
    expect(pull?.repository_id).toBe((await registry.repository("alice/app")).id);
    expect(pull?.metadata).toMatchObject({ repo: "app", namespace: "alice", tag: "v1", username: "bob" });
    const [push] = await waitFor("push_repo_failed", 1);
    expect(push?.metadata).toMatchObject({ repo: "app", tag: "v2", username: "alice" });
    expect(push?.metadata.message).toBeString();
    const [deletion] = await waitFor("delete_tag_failed", 1);
    expect(deletion?.metadata).toMatchObject({ repo: "app", tag: "none", username: "alice" });
  }, 20_000);

  test("a pull just before the end is in the log", async () => {
    const before = countOf(await entriesOf(registry.app, "pull_repo"));
    expect((await get("/v2/alice/app/manifests/v1", basicOf("alice"))).status).toBe(200);
    await registry.berth.restart();
    expect(countOf(await entriesOf(registry.app, "pull_repo"))).toBe(before + 1);
  }, 30_000);
});
