import { expect, test } from "bun:test";
import { type TestDatabases, withDatabases } from "../../../test/support/database.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import type { LogSink } from "../../logsink/contract.ts";
import { createMetrics } from "../../observe/metrics.ts";
import type { NamespaceName } from "../../oci/names.ts";
import { parseReference } from "../../oci/reference.ts";
import { ANONYMOUS, type Caller } from "../access/actor.ts";
import { AuditBatch, EXTRAS_MAX, FAILING_MAX_MS, WAITING_MAX } from "./batch.ts";
import { createDatabaseSink } from "./database-sink.ts";
import { createNameResolver } from "./resolve.ts";

const strict = {
  ALLOW_PULLS_WITHOUT_STRICT_LOGGING: false,
  ALLOW_WITHOUT_STRICT_LOGGING: false,
  DISABLED_FOR_AUDIT_LOGS: [],
  DISABLED_FOR_PULL_LOGS: [],
};
const request = { ip: "192.0.2.7", userAgent: "agent" };
const latest = parseReference("latest");
const repositoryOf = (id: number) => ({ id, name: `r${id}`, namespace: "acme" as NamespaceName, namespaceId: 1 });

async function makeBatch(databases: TestDatabases, config: Partial<typeof strict> = {}) {
  const db = await databases.open();
  await migrate(db, migrations);
  const real = createDatabaseSink(db);
  const state = { failing: false, nowMs: 1_700_000_000_000, writes: 0 };
  // The database itself, made to fail as one that is away does.
  const sink: LogSink = {
    ...real,
    write: (entries) => {
      state.writes++;
      return state.failing ? Promise.reject(new Error("away")) : real.write(entries);
    },
  };
  const lines: string[] = [];
  const write = (msg: string) => lines.push(msg);
  const log = { debug: write, info: write, warn: write, error: write, wants: () => true, flush: () => undefined };
  const metrics = createMetrics();
  const clock = { nowMs: () => state.nowMs };
  const newBatch = () =>
    new AuditBatch({ sink, resolve: createNameResolver(db), config: { ...strict, ...config }, clock, log, metrics });
  const count = async () => {
    const [row] = await db.sql<{ rows: number; entries: number }>`/* test.count */
      select cast(count(*) as bigint) as rows, cast(coalesce(sum(entry_count), 0) as bigint) as entries from action_log`;
    return { rows: Number(row?.rows), entries: Number(row?.entries) };
  };
  return { batch: newBatch(), newBatch, state, lines, metrics, count };
}

const pull = (batch: AuditBatch, repositoryId = 1) =>
  batch.pull(ANONYMOUS, repositoryOf(repositoryId), latest, () => request);
const note = (batch: AuditBatch, name: string) =>
  batch.note({ kind: "login_failure", namespace: undefined, request, metadata: { username: name } });

withDatabases("the batch of the action log", (databases) => {
  test("equal pulls of one second are one row that counts them, those of another second are not", async () => {
    const { batch, state, count } = await makeBatch(databases);
    for (let at = 0; at < 10; at++) pull(batch);
    pull(batch, 2);
    state.nowMs += 1000;
    pull(batch);
    expect(await batch.flush()).toBe(true);
    expect(await count()).toEqual({ rows: 3, entries: 12 });
  });

  test("what comes in while it writes waits for the next write: a busy registry does not write all the time", async () => {
    const { batch, state, count } = await makeBatch(databases);
    pull(batch);
    const flushed = batch.flush();
    pull(batch);
    expect(await flushed).toBe(true);
    expect([state.writes, (await count()).entries]).toEqual([1, 1]);
    await batch.close();
    expect([state.writes, (await count()).entries]).toEqual([2, 2]);
  });

  test("pulls by one token of a second are counted without asking where they come from again", async () => {
    const { batch, state, count } = await makeBatch(databases);
    const token = (): Caller => ({ ...ANONYMOUS, authKind: "token", grants: new Map() });
    const [one, two] = [token(), token()];
    let asked = 0;
    const origin = () => ({ ...request, ip: `192.0.2.${++asked}` });
    for (let at = 0; at < 10; at++) batch.pull(one, repositoryOf(1), latest, origin);
    expect(asked).toBe(1);
    batch.pull(two, repositoryOf(1), latest, origin);
    for (let at = 0; at < 30; at++) batch.pull(one, repositoryOf(2 + at), latest, () => request);
    for (let at = 0; at < 30; at++) batch.pull(two, repositoryOf(2 + at), latest, () => request);
    expect(asked).toBe(2);
    const flushed = batch.flush();
    // The rows are on their way: one more must be one of its own.
    batch.pull(one, repositoryOf(1), latest, origin);
    await flushed;
    state.nowMs += 1000;
    batch.pull(one, repositoryOf(1), latest, origin);
    expect(asked).toBe(4);
    await batch.close();
    expect(await count()).toEqual({ rows: 34, entries: 73 });
  });

  test("what comes while a write runs is neither lost nor counted twice", async () => {
    const { batch, count } = await makeBatch(databases);
    let sent = 0;
    for (let round = 0; round < 20; round++) {
      for (let at = 0; at < 30; at++, sent++) pull(batch, at % 3);
      const flushed = batch.flush();
      for (let at = 0; at < 30; at++, sent++) pull(batch, at % 3);
      await flushed;
    }
    await batch.close();
    expect((await count()).entries).toBe(sent);
  });

  test("two instances write to one log at once", async () => {
    const { batch, newBatch, count } = await makeBatch(databases);
    const other = newBatch();
    for (let at = 0; at < 1500; at++) {
      pull(batch, at);
      pull(other, at);
    }
    expect(await Promise.all([batch.flush(), other.flush(), batch.flush()])).toEqual([true, true, true]);
    expect(await count()).toEqual({ rows: 3000, entries: 3000 });
  });

  test("a short failure only delays entries; a long one refuses pulls, and ends when a write works again", async () => {
    const { batch, state, lines, count } = await makeBatch(databases);
    state.failing = true;
    pull(batch);
    expect(await batch.flush()).toBe(false);
    state.nowMs += FAILING_MAX_MS;
    pull(batch, 2);
    state.nowMs += 1;
    expect(() => pull(batch, 3)).toThrow("pulls are refused while the action log cannot be written");
    state.failing = false;
    expect(await batch.flush()).toBe(true);
    state.nowMs += 1000;
    pull(batch, 3);
    await batch.close();
    expect(await count()).toEqual({ rows: 3, entries: 3 });
    expect(lines).toEqual(["the action log cannot be written", "the action log can be written again"]);
  });

  test("pulls go on without strict logging: their entries are dropped, counted and told of once", async () => {
    for (const key of ["ALLOW_PULLS_WITHOUT_STRICT_LOGGING", "ALLOW_WITHOUT_STRICT_LOGGING"] as const) {
      const { batch, state, lines, metrics, count } = await makeBatch(databases, { [key]: true });
      state.failing = true;
      pull(batch);
      await batch.flush();
      state.nowMs += FAILING_MAX_MS + 1;
      for (let at = 0; at < 50; at++) pull(batch, 100 + at);
      expect(await metrics.registry.metrics()).toMatch(/berth_action_log_dropped_total\{kind="pull_repo".*\} 50/);
      expect(lines.filter((line) => line.includes("are dropped"))).toHaveLength(1);
      state.failing = false;
      await batch.close();
      expect(await count()).toEqual({ rows: 1, entries: 1 });
    }
  });

  test("a flood of failed log-ins is bounded and leaves room for pulls; the room for pulls is bounded too", async () => {
    const { batch, state, metrics, count } = await makeBatch(databases);
    state.failing = true;
    for (let at = 0; at < EXTRAS_MAX + 100; at++) note(batch, `user${at}`);
    for (let at = 0; at < WAITING_MAX - EXTRAS_MAX; at++) pull(batch, at);
    expect(() => pull(batch, WAITING_MAX)).toThrow("pulls are refused");
    // One more of what waits already needs no room.
    pull(batch, 1);
    expect(await metrics.registry.metrics()).toMatch(/berth_action_log_dropped_total\{kind="login_failure".*\} 100/);
    state.failing = false;
    expect(await batch.flush()).toBe(true);
    expect(await count()).toEqual({ rows: WAITING_MAX, entries: WAITING_MAX + 1 });
    note(batch, "one more");
    await batch.close();
    expect((await count()).rows).toBe(WAITING_MAX + 1);
  }, 30_000);

  test("closing tries again, then tells what is lost; nothing is taken afterwards", async () => {
    const { batch, state, lines, count } = await makeBatch(databases);
    state.failing = true;
    pull(batch);
    pull(batch);
    await batch.close();
    expect(lines.at(-1)).toBe("action-log entries are lost: they could not be written");
    state.nowMs += 1000;
    pull(batch, 5);
    state.failing = false;
    expect((await count()).rows).toBe(0);
  });

  test("namespaces of the config leave no entry", async () => {
    const { batch, count } = await makeBatch(databases, { DISABLED_FOR_PULL_LOGS: ["acme"] as never[] });
    pull(batch);
    note(batch, "alice");
    await batch.close();
    expect((await count()).entries).toBe(1);
  });

  test("names are looked up when a note is written, and hostile ones are nobody's", async () => {
    const { batch, count } = await makeBatch(databases);
    for (const name of ["nobody", "no\0body", "'; drop table action_log; --", "\ud800"]) {
      batch.note({
        kind: "login_failure",
        namespace: { name },
        performer: { name },
        repositoryPath: `${name}/x`,
        request,
        metadata: { username: name },
      });
    }
    await batch.close();
    expect((await count()).rows).toBe(4);
  });
});
