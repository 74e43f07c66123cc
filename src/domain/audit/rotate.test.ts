import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { type TestDatabases, withDatabases } from "../../../test/support/database.ts";
import { makeTempDir } from "../../../test/support/temp-dir.ts";
import { loadConfig } from "../../config/load.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import type { LogEntry } from "../../logsink/contract.ts";
import type { StorageDriver } from "../../storage/driver.ts";
import { openLocalStorage } from "../../storage/local.ts";
import { createBlobStore } from "../../storage/placement.ts";
import { createDatabaseSink } from "./database-sink.ts";
import { rotateLogs } from "./rotate.ts";

const DAY_MS = 24 * 3600 * 1000;
const LEASE_MS = 5 * 60_000;

interface Line {
  kind: string;
  metadata_json: { n: number };
  count?: number;
}

async function makeWorld(databases: TestDatabases, keys: Record<string, unknown> = {}) {
  const db = await databases.open();
  await migrate(db, migrations);
  const dir = makeTempDir("rotate");
  const driver = await openLocalStorage({ rootPath: join(dir.path, "blobs") });
  const state = { nowMs: Date.UTC(2024, 5, 15) };
  const given = { FEATURE_ACTION_LOG_ROTATION: true, ACTION_LOG_ARCHIVE_LOCATION: "local", ...keys };
  const env = {
    QUAY_OVERRIDE_CONFIG: JSON.stringify({
      DISTRIBUTED_STORAGE_CONFIG: { local: ["LocalStorage", { storage_path: dir.path }] },
      DISTRIBUTED_STORAGE_PREFERENCE: ["local"],
      ...given,
    }),
  };
  const { config } = loadConfig({ dataDir: dir.path, env });
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: quiet, wants: () => false, flush: quiet };
  const appWith = (used: StorageDriver) => ({
    config,
    db,
    storage: createBlobStore(new Map([["local", used]]), { preference: ["local"], log }),
    clock: { nowMs: () => state.nowMs },
    log,
  });
  const sink = createDatabaseSink(db);
  const write = (n: number, ageDays: number, more: Partial<LogEntry> = {}) => ({
    kind: "pull_repo",
    namespaceId: 1,
    performerId: 2,
    repositoryId: 3,
    ip: "192.0.2.1",
    metadata: JSON.stringify({ n }),
    createdMs: state.nowMs - ageDays * DAY_MS + n,
    count: 1,
    ...more,
  });
  const archive = join(dir.path, "blobs", "actionlogarchive");
  return {
    app: appWith(driver),
    appWith,
    driver,
    state,
    sink,
    write,
    files: () => (readdirSync(join(dir.path, "blobs")).includes("actionlogarchive") ? readdirSync(archive).sort() : []),
    lines: (file: string): Line[] =>
      gunzipSync(readFileSync(join(archive, file)))
        .toString()
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Line),
    /** Turns go by the database's clock, which cannot be set: what it is held against moves back. */
    async passes(ms: number) {
      await db.sql`/* test.passes */
        update log_rotation set lease_until_ms = lease_until_ms - ${ms}, finished_ms = finished_ms - ${ms}`;
    },
    uploads: () => readdirSync(join(dir.path, "blobs", "uploads")).filter((name) => name !== ".check"),
    async left(): Promise<number[]> {
      const rows = await db.sql<{ metadata: string }>`/* test.left */ select metadata from action_log order by id`;
      return rows.map(({ metadata }) => (JSON.parse(metadata) as { n: number }).n);
    },
    done: () => dir.remove(),
  };
}

async function runAll(app: Parameters<typeof rotateLogs>[0], owner = "one"): Promise<void> {
  for (let steps = 0; (await rotateLogs(app, owner)) > 0; steps++) {
    if (steps > 500) throw new Error("rotation does not end");
  }
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index);

withDatabases("archiving the action log", (databases) => {
  test("entries older than the threshold move into files, the others stay", async () => {
    const world = await makeWorld(databases);
    await world.sink.write(numbers(0, 5200).map((n) => world.write(n, 31)));
    await world.sink.write([world.write(5200, 31, { count: 7, kind: "login_success" })]);
    await world.sink.write(numbers(6000, 6010).map((n) => world.write(n, 29)));
    await runAll(world.app);
    expect(await world.left()).toEqual(numbers(6000, 6010));
    expect(world.files()).toEqual(["1-5000-logentry3.txt.gz", "5001-5201-logentry3.txt.gz"]);
    const lines = world.files().flatMap(world.lines);
    expect(lines.map((line) => line.metadata_json.n)).toEqual(numbers(0, 5201));
    expect(lines.at(-1)).toMatchObject({ kind: "login_success", count: 7 });
    expect(lines[0]).toEqual({
      kind: "pull_repo",
      account_id: 1,
      performer_id: 2,
      repository_id: 3,
      datetime: "2024-05-15 00:00:00.000000",
      ip: "192.0.2.1",
      metadata_json: { n: 0 },
    } as unknown as Line);
    expect(world.uploads()).toEqual([]);
    world.done();
  }, 30_000);

  test("the minimum age counts when the threshold is shorter, and off is off", async () => {
    const short = await makeWorld(databases, { ACTION_LOG_ROTATION_THRESHOLD: "1d" });
    await short.sink.write([short.write(1, 6), short.write(2, 8)]);
    await runAll(short.app);
    expect(await short.left()).toEqual([1]);
    short.done();
    const off = await makeWorld(databases, { FEATURE_ACTION_LOG_ROTATION: false });
    await off.sink.write([off.write(1, 400)]);
    await runAll(off.app);
    expect(await off.left()).toEqual([1]);
    off.done();
  });

  test("the next run waits for its frequency, whichever instance asks", async () => {
    const world = await makeWorld(databases, { ACTION_LOG_ROTATION_FREQUENCY: 3600 });
    await world.sink.write([world.write(1, 40)]);
    await runAll(world.app);
    await world.sink.write([world.write(2, 40)]);
    await world.passes(3_500_000);
    await runAll(world.app, "two");
    expect(await world.left()).toEqual([2]);
    await world.passes(100_000);
    await runAll(world.app, "two");
    expect(await world.left()).toEqual([]);
    world.done();
  });

  test("one instance at a time: another waits until the lease is over", async () => {
    const world = await makeWorld(databases);
    await world.sink.write(numbers(0, 600).map((n) => world.write(n, 40)));
    expect(await rotateLogs(world.app, "one")).toBe(600);
    expect(await rotateLogs(world.app, "two")).toBe(0);
    expect(await rotateLogs(world.app, "one")).toBe(250);
    await world.passes(LEASE_MS);
    expect(await rotateLogs(world.app, "two")).toBe(250);
    // The one that was slow notices, and deletes nothing.
    expect(await rotateLogs(world.app, "one")).toBe(0);
    await runAll(world.app, "two");
    expect(await world.left()).toEqual([]);
    expect(world.files()).toEqual(["1-600-logentry3.txt.gz"]);
    world.done();
  });

  test("cut at any call of the store, every entry ends up in exactly one place", async () => {
    const calls = ["createUpload", "openUpload", "commitUpload", "after commitUpload"] as const;
    for (const call of calls) {
      const world = await makeWorld(databases);
      await world.sink.write(numbers(0, 700).map((n) => world.write(n, 40)));
      const dying = (name: string) => {
        if (call === name) throw new Error(`killed at ${call}`);
      };
      const { driver } = world;
      const cut: StorageDriver = Object.assign(Object.create(driver) as StorageDriver, {
        async createUpload(id: string) {
          dying("createUpload");
          return driver.createUpload(id);
        },
        async openUpload(id: string, state: string, at: number) {
          dying("openUpload");
          return driver.openUpload(id, state, at);
        },
        // A killed process does not tidy up either.
        deleteUpload: async () => undefined,
        async commitUpload(...args: Parameters<StorageDriver["commitUpload"]>) {
          dying("commitUpload");
          await driver.commitUpload(...args);
          dying("after commitUpload");
        },
      });
      await expect(rotateLogs(world.appWith(cut), "one")).rejects.toThrow("killed");
      expect(await world.left()).toHaveLength(700);
      await world.passes(LEASE_MS);
      await runAll(world.app, "two");
      expect(await world.left()).toEqual([]);
      expect(world.files()).toEqual(["1-700-logentry3.txt.gz"]);
      expect(
        world
          .files()
          .flatMap(world.lines)
          .map((line) => line.metadata_json.n),
      ).toEqual(numbers(0, 700));
      expect(world.uploads()).toEqual([]);
      world.done();
    }
  }, 30_000);

  test("cut between two deletions, the rest is deleted and not archived again, and what came late stays", async () => {
    const world = await makeWorld(databases);
    await world.sink.write(numbers(0, 700).map((n) => world.write(n, 40)));
    await rotateLogs(world.app, "one");
    await rotateLogs(world.app, "one");
    expect(await world.left()).toHaveLength(450);
    // Written by an instance that could not for forty days: older than what is archived, and in no file.
    await world.sink.write([world.write(900, 41)]);
    await world.passes(LEASE_MS);
    await runAll(world.app, "two");
    expect(await world.left()).toEqual([]);
    const lines = world
      .files()
      .flatMap(world.lines)
      .map((line) => line.metadata_json.n);
    expect(lines.sort((a, b) => a - b)).toEqual([...numbers(0, 700), 900]);
    world.done();
  });
});
