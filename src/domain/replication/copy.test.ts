/** What a copy between two real stores promises, on every engine that TEST_DB names. */

import { expect, test } from "bun:test";
import { mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type TestDatabases, withDatabases } from "../../../test/support/database.ts";
import { makeTempDir } from "../../../test/support/temp-dir.ts";
import { loadConfig } from "../../config/load.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { countJobs, takeJob } from "../../db/queue.ts";
import { digestOf } from "../../oci/digest.ts";
import type { StorageDriver } from "../../storage/driver.ts";
import { openLocalStorage } from "../../storage/local.ts";
import { blobKey } from "../../storage/paths.ts";
import { createBlobStore } from "../../storage/placement.ts";
import { putBlob } from "../blob/queries.ts";
import { type CopyEvent, copyBlob } from "./copy.ts";
import { type BlobToCopy, findBlobToCopy, findProgress } from "./queries.ts";
import { runCopy } from "./run.ts";
import { queueReplication, REPLICATION_QUEUE } from "./targets.ts";

const timeoutMs = 120_000;
const locations = ["us", "eu", "asia"] as const;
const MiB = 1024 * 1024;

/** Serves a local object as one on another machine, and tells of what is read. */
function asStream(driver: StorageDriver, onBytes: (count: number) => void): StorageDriver {
  const source: StorageDriver["source"] = async (key) => {
    const file = await driver.source(key);
    if (file?.kind !== "file") return file;
    return {
      kind: "stream",
      sizeBytes: file.sizeBytes,
      async open(range) {
        const { start, end } = range ?? { start: 0, end: file.sizeBytes - 1 };
        const reader = Bun.file(file.path)
          .slice(start, end + 1)
          .stream()
          .getReader();
        return new ReadableStream<Uint8Array>(
          {
            async pull(controller) {
              const { value, done } = await reader.read();
              if (done) return controller.close();
              onBytes(value.byteLength);
              controller.enqueue(value);
            },
            cancel: () => reader.cancel(),
          },
          { highWaterMark: 0 },
        );
      },
    };
  };
  return new Proxy(driver, {
    get(target, name) {
      if (name === "source") return source;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

async function makeWorld(databases: TestDatabases, onBytes: (count: number) => void = () => undefined) {
  const db = await databases.open();
  await migrate(db, migrations);
  const dir = makeTempDir("copy");
  const stores = Object.fromEntries(
    locations.map((name) => [name, ["LocalStorage", { storage_path: join(dir.path, name) }]]),
  );
  const env = {
    QUAY_OVERRIDE_CONFIG: JSON.stringify({
      DISTRIBUTED_STORAGE_CONFIG: stores,
      DISTRIBUTED_STORAGE_PREFERENCE: ["us"],
      DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: ["us", "eu"],
      FEATURE_STORAGE_REPLICATION: true,
    }),
  };
  const { config } = loadConfig({ dataDir: dir.path, env });
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: quiet, wants: () => false, flush: quiet };
  const drivers = new Map<string, StorageDriver>();
  for (const name of locations) {
    const driver = await openLocalStorage({ rootPath: join(dir.path, name) });
    drivers.set(name, name === "us" ? asStream(driver, onBytes) : driver);
  }
  const storage = createBlobStore(drivers, { preference: ["us"], spare: ["eu"], log });
  const app = { config, db, storage, log };
  const events: CopyEvent[] = [];
  const pathOf = (location: string, digest: BlobToCopy["digest"]) => join(dir.path, location, blobKey(digest));
  const write = (location: string, digest: BlobToCopy["digest"], content: Uint8Array) => {
    const path = pathOf(location, digest);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  };
  return {
    app,
    dir,
    events,
    pathOf,
    write,
    /** Puts a blob into stores and its row beside it. */
    async blob(content: Uint8Array, ...places: string[]): Promise<BlobToCopy> {
      const digest = digestOf(content);
      let id = 0;
      for (const location of places) {
        write(location, digest, content);
        id = await db.tx((tx) => putBlob(tx, { digest, sizeBytes: content.length, location, nowMs: 0 }));
      }
      return { id, digest, sizeBytes: content.length, locations: places };
    },
    copy: (blob: BlobToCopy, to: string, signal = new AbortController().signal) =>
      copyBlob(app, blob, to, { signal, report: (event) => events.push(event) }),
    read: (location: string, digest: BlobToCopy["digest"]) => Bun.file(pathOf(location, digest)).bytes(),
    end() {
      storage.close();
      dir.remove();
    },
  };
}

withDatabases("a copy between stores", (databases) => {
  test("brings the bytes and then the row", async () => {
    const world = await makeWorld(databases);
    const content = crypto.getRandomValues(new Uint8Array(60_000));
    const blob = await world.blob(content, "us");
    const changed: string[] = [];
    world.app.db.onChanged((keys) => changed.push(...(keys ?? [])));
    await world.copy(blob, "eu");
    expect(await world.read("eu", blob.digest)).toEqual(content);
    expect((await findBlobToCopy(world.app.db, blob.id))?.locations.toSorted()).toEqual(["eu", "us"]);
    expect(await findProgress(world.app.db, blob.id, "eu")).toBeUndefined();
    expect(changed).toEqual([`placed:${blob.digest}`]);
    expect(world.events).toEqual([{ kind: "copied", location: "eu", sizeBytes: content.length }]);
    world.end();
  });

  test("the empty blob is copied too", async () => {
    const world = await makeWorld(databases);
    const blob = await world.blob(new Uint8Array(0), "us");
    await world.copy(blob, "eu");
    expect(statSync(world.pathOf("eu", blob.digest)).size).toBe(0);
    world.end();
  });

  test("what lies in the store already is verified and not copied, and replaced when it is wrong", async () => {
    let read = 0;
    const world = await makeWorld(databases, (count) => {
      read += count;
    });
    const content = crypto.getRandomValues(new Uint8Array(10_000));
    const blob = await world.blob(content, "us");
    world.write("eu", blob.digest, content);
    await world.copy(blob, "eu");
    expect({ read, events: world.events.length }).toEqual({ read: 0, events: 0 });
    world.write("asia", blob.digest, content.toReversed());
    await world.copy(blob, "asia");
    expect(await world.read("asia", blob.digest)).toEqual(content);
    world.end();
  });

  test("wrong bytes are not spread, and another store's right ones are", async () => {
    const world = await makeWorld(databases);
    const content = crypto.getRandomValues(new Uint8Array(50_000));
    const blob = await world.blob(content, "us");
    world.write("us", blob.digest, content.toReversed());
    expect(await world.copy(blob, "eu").catch((error: { code: string }) => error.code)).toBe("digest_invalid");
    expect(await Bun.file(world.pathOf("eu", blob.digest)).exists()).toBe(false);
    expect((await findBlobToCopy(world.app.db, blob.id))?.locations).toEqual(["us"]);
    expect(world.events).toEqual([{ kind: "corrupt", location: "us" }]);
    const better = await world.blob(content, "us", "asia");
    world.write("us", blob.digest, content.toReversed());
    await world.copy(better, "eu");
    expect(await world.read("eu", blob.digest)).toEqual(content);
    world.end();
  });

  test("a source that is missing or cut short gives way to another", async () => {
    for (const damage of [(path: string) => rmSync(path), (path: string) => truncateSync(path, 20_000)]) {
      const world = await makeWorld(databases);
      const content = crypto.getRandomValues(new Uint8Array(50_000));
      const blob = await world.blob(content, "us", "asia");
      damage(world.pathOf("us", blob.digest));
      await world.copy(blob, "eu");
      expect(await world.read("eu", blob.digest)).toEqual(content);
      expect(world.events).toContainEqual({ kind: "corrupt", location: "us" });
      world.end();
    }
  });

  test("parts of two stores that do not fit are not believed", async () => {
    let left = 300_000;
    const world = await makeWorld(databases, (count) => {
      left -= count;
      if (left < 0) throw new Error("the connection broke");
    });
    const content = crypto.getRandomValues(new Uint8Array(400_000));
    const blob = await world.blob(content, "us", "asia");
    // The part that arrives is wrong; the rest comes from the other store.
    world.write("us", blob.digest, content.toReversed());
    const first = await world.copy(blob, "eu").catch((error: { code: string }) => error.code);
    if (first !== undefined) {
      left = Number.POSITIVE_INFINITY;
      await world.copy(blob, "eu");
    }
    expect(await world.read("eu", blob.digest)).toEqual(content);
    world.end();
  });

  test(
    "a large copy that was ended goes on where it was",
    async () => {
      let read = 0;
      const stop = new AbortController();
      const world = await makeWorld(databases, (count) => {
        read += count;
        if (read > 90 * MiB) stop.abort(new Error("stopped"));
      });
      const content = new Uint8Array(130 * MiB);
      for (let at = 0; at < content.length; at += 4096) content[at] = at / 4096;
      const blob = await world.blob(content, "us");
      expect(await world.copy(blob, "eu", stop.signal).catch((error: Error) => error.message)).toBe("stopped");
      const progress = await findProgress(world.app.db, blob.id, "eu");
      expect(progress).toMatchObject({ offsetBytes: 64 * MiB, source: "us" });
      expect(await Bun.file(world.pathOf("eu", blob.digest)).exists()).toBe(false);
      read = 0;
      await world.copy(blob, "eu");
      expect(read).toBe(content.length - 64 * MiB);
      expect(digestOf(await world.read("eu", blob.digest))).toBe(blob.digest);
      world.end();
    },
    timeoutMs,
  );

  test("a job is queued for each store that lacks the blob, and ends with its copy", async () => {
    const world = await makeWorld(databases);
    const { db } = world.app;
    const blob = await world.blob(crypto.getRandomValues(new Uint8Array(1000)), "asia");
    await db.tx((tx) => queueReplication(tx, world.app, blob.id, "asia"));
    await db.tx((tx) => queueReplication(tx, world.app, blob.id, "asia"));
    expect((await countJobs(db)).map(({ lane, total }) => ({ lane, total }))).toEqual([
      { lane: "eu", total: 1 },
      { lane: "us", total: 1 },
    ]);
    const signal = new AbortController().signal;
    for (const lane of ["us", "eu"]) {
      const job = await takeJob(db, REPLICATION_QUEUE, { lane, leaseMs: 600_000 });
      expect(job && (await runCopy(world.app, job, { signal, report: () => undefined }))).toBe("done");
    }
    expect(await countJobs(db)).toEqual([]);
    expect((await findBlobToCopy(db, blob.id))?.locations.toSorted()).toEqual(["asia", "eu", "us"]);
    world.end();
  });

  test("a store that is away costs a job no tries, wrong bytes do", async () => {
    const world = await makeWorld(databases);
    const { db } = world.app;
    const content = crypto.getRandomValues(new Uint8Array(1000));
    const blob = await world.blob(content, "us");
    await db.tx((tx) => queueReplication(tx, world.app, blob.id, "us"));
    const attempts = async () =>
      (await db.sql<{ attempts_left: number }>`/* test.job */ select attempts_left from job`).map(
        (row) => row.attempts_left,
      );
    const run = async () => {
      await db.tx(async (tx) => {
        await tx.sql`/* test.due */ update job set due_ms = 0`;
      });
      const job = await takeJob(db, REPLICATION_QUEUE, { lane: "eu", leaseMs: 600_000 });
      const { signal } = new AbortController();
      return job && runCopy(world.app, job, { signal, report: () => undefined });
    };
    rmSync(join(world.dir.path, "eu"), { recursive: true });
    expect(await run()).toBe("not-done");
    expect(await attempts()).toEqual([5]);
    mkdirSync(join(world.dir.path, "eu", "uploads"), { recursive: true });
    while (!world.app.storage.isUp("eu")) {
      await world.app.storage
        .driver("eu")
        .check()
        .catch(() => Bun.sleep(20));
    }
    world.write("us", blob.digest, content.toReversed());
    expect(await run()).toBe("not-done");
    expect(await attempts()).toEqual([4]);
    world.write("us", blob.digest, content);
    expect(await run()).toBe("done");
    expect(await attempts()).toEqual([]);
    world.end();
  });
});
