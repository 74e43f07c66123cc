import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type TestDatabases, withDatabases } from "../../../test/support/database.ts";
import { makeTempDir } from "../../../test/support/temp-dir.ts";
import { createMailer } from "../../clients/smtp.ts";
import { loadConfig } from "../../config/load.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import type { OutboundRequest } from "../../lib/safe-fetch.ts";
import { createSecretBox } from "../../lib/secret-box.ts";
import type { StorageDriver } from "../../storage/driver.ts";
import { openLocalStorage } from "../../storage/local.ts";
import { createBlobStore } from "../../storage/placement.ts";
import { ANONYMOUS } from "../access/actor.ts";
import { createDatabaseSink } from "./database-sink.ts";
import { findExportedFile, requestExport } from "./export.ts";
import { runExports, sweepExports } from "./export-run.ts";

const LEASE_MS = 2 * 60_000;

async function makeWorld(databases: TestDatabases) {
  const db = await databases.open();
  await migrate(db, migrations);
  const dir = makeTempDir("export");
  const local = await openLocalStorage({ rootPath: join(dir.path, "blobs") });
  const { config } = loadConfig({ dataDir: dir.path, env: {} });
  const state = { nowMs: Date.UTC(2024, 5, 15), answers: 200, told: [] as string[] };
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: quiet, wants: () => false, flush: quiet };
  const logsink = createDatabaseSink(db);
  const appWith = (driver: StorageDriver) => ({
    config,
    db,
    storage: createBlobStore(new Map([["local", driver]]), { preference: ["local"], log }),
    clock: { nowMs: () => state.nowMs },
    log,
    logsink,
    secrets: createSecretBox("k"),
    mailer: createMailer({ config, extraCaPaths: [], log }),
    // The server of somebody else.
    async outbound({ body }: OutboundRequest) {
      state.told.push(String((JSON.parse(String(body)) as { status: string }).status));
      return { status: state.answers, headers: new Headers(), body: new Uint8Array() };
    },
  });
  const app = appWith(local);
  const request = { ip: undefined, userAgent: undefined };
  return {
    app,
    appWith,
    local,
    state,
    ask: () =>
      requestExport({ ...app, audit: { note: quiet } as never }, ANONYMOUS, {
        namespace: { id: 1, name: "acme" },
        range: () => ({ startMs: 0, endMs: state.nowMs }),
        callbackUrl: "http://example.com/",
        callbackEmail: undefined,
        baseUrl: "http://registry.example.com",
        request,
      }),
    async row() {
      const [row] = await db.sql<{
        state: string;
        outcome: string | null;
        file_id: string;
        attempts_left: number;
      }>`/* test.row */
        select state, outcome, file_id, attempts_left from log_export`;
      return row;
    },
    /** Leases and due times go by the database's clock, which cannot be set: what it is held against moves back. */
    async passes(ms: number) {
      await db.sql`/* test.passes */
        update log_export set due_ms = due_ms - ${ms}, lease_until_ms = lease_until_ms - ${ms},
          expires_ms = expires_ms - ${ms}`;
    },
    uploads: () => readdirSync(join(dir.path, "blobs", "uploads")).filter((name) => name !== ".check"),
    done: () => dir.remove(),
  };
}

withDatabases("exporting in the background", (databases) => {
  test("two instances share the work: each export is made and told once", async () => {
    const world = await makeWorld(databases);
    for (let at = 0; at < 6; at++) await world.ask();
    for (let found = 1; found > 0; ) {
      const steps = await Promise.all(["one", "two", "three"].map((owner) => runExports(world.app, owner)));
      found = steps.reduce((sum, step) => sum + step, 0);
    }
    expect(world.state.told).toEqual(Array(6).fill("success"));
    world.done();
  });

  test("what an instance left when it was killed is made by another once its lease is over", async () => {
    const world = await makeWorld(databases);
    await world.ask();
    const killed = () => new Promise<never>(() => undefined);
    const cut: StorageDriver = Object.assign(Object.create(world.local) as StorageDriver, {
      createUpload: (id: string) => world.local.createUpload(id),
      openUpload: (id: string, state: string, at: number) => world.local.openUpload(id, state, at),
      deleteUpload: (id: string, state: string) => world.local.deleteUpload(id, state),
      commitUpload: killed,
    });
    void runExports(world.appWith(cut), "one");
    while (world.uploads().length === 0) await Bun.sleep(5);
    expect(await runExports(world.app, "two")).toBe(0);
    await world.passes(LEASE_MS);
    expect(await runExports(world.app, "two")).toBe(1);
    expect(await runExports(world.app, "two")).toBe(1);
    expect(world.uploads()).toEqual([]);
    const row = await world.row();
    expect([row?.state, row?.outcome]).toEqual(["done", "success"]);
    expect(await findExportedFile(world.app, row?.file_id ?? "")).toMatchObject({ kind: "file" });
    world.done();
  }, 20_000);

  test("a store that fails is tried some times, then the failure is told; nothing is left behind", async () => {
    const world = await makeWorld(databases);
    await world.ask();
    const broken: StorageDriver = Object.assign(Object.create(world.local) as StorageDriver, {
      deleteUpload: (id: string, state: string) => world.local.deleteUpload(id, state),
      createUpload: () => Promise.reject(new Error("no store")),
    });
    for (let tries = 0; tries < 4; tries++) {
      expect(await runExports(world.appWith(broken), "one")).toBe(1);
      await world.passes(3600_000);
    }
    expect((await world.row())?.outcome).toBe("failed");
    expect(await runExports(world.app, "one")).toBe(1);
    expect(world.state.told).toEqual(["failed"]);
    await world.passes(24 * 3600_000);
    expect(await sweepExports(world.app)).toBe(1);
    expect(await world.row()).toBeUndefined();
    world.done();
  });

  test("nobody is told for ever", async () => {
    const world = await makeWorld(databases);
    await world.ask();
    world.state.answers = 503;
    for (let steps = 0; steps < 20; steps++) {
      await runExports(world.app, "one");
      await world.passes(500_000);
    }
    expect(world.state.told).toHaveLength(4);
    expect((await world.row())?.state).toBe("failed");
    world.done();
  });

  test("a namespace has ten undone exports at most", async () => {
    const world = await makeWorld(databases);
    for (let at = 0; at < 10; at++) await world.ask();
    await expect(world.ask()).rejects.toMatchObject({ code: "too_many_requests" });
    world.done();
  });
});
