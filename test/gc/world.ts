/**
 * A registry whose garbage is collected when the test says so: by the real steps, in this process, on the server's database
 * and stores. Time passes by moving everything that has happened back.
 */
import { join } from "node:path";
import type { Database } from "../../src/db/db.ts";
import { fragment } from "../../src/db/sql.ts";
import { type PurgeQueue, purgeDeleted } from "../../src/domain/gc/jobs.ts";
import { collect, isAnythingDue } from "../../src/domain/gc/round.ts";
import { Tally } from "../../src/domain/gc/tally.ts";
import { type Api, startApi } from "../api/harness.ts";

export const dayMs = 24 * 3600 * 1000;
/** What another process commits is heard within 200 ms on SQLite, sooner on PostgreSQL. */
const heardAfterMs = 260;
const BUSY_TRIES = 5;
/** The window of the time machine in these tests. */
export const windowMs = 14 * dayMs;

export interface GcWorld {
  readonly api: Api;
  /** Collects until nothing is due. */
  collect(): Promise<Tally>;
  pass(ms: number): Promise<void>;
  /** Digests of the blobs in the store, sorted: files on the disk, and not rows. */
  stored(): Promise<string[]>;
  /** Digests of blobs that have a row, sorted. */
  known(): Promise<string[]>;
  count(table: string): Promise<number>;
  stop(): Promise<void>;
}

export async function startGcWorld(config: Record<string, unknown> = {}): Promise<GcWorld> {
  const api = await startApi(
    {
      FEATURE_GARBAGE_COLLECTION: false,
      FEATURE_REPOSITORY_GARBAGE_COLLECTION: false,
      FEATURE_NAMESPACE_GARBAGE_COLLECTION: false,
      ...config,
    },
    { onDisk: "looks into the store's folder" },
  );
  const { db } = api.app;
  const everything = { ...api.app.config, FEATURE_GARBAGE_COLLECTION: true, FEATURE_AUTO_PRUNE: false };
  const queues: PurgeQueue[] = ["repositorygc", "namespacegc"];
  return {
    api,
    async collect() {
      const tally = new Tally();
      await purgeDeleted(api.app, queues, tally, new AbortController().signal);
      await collect(api.app, tally);
      // The server writes down pulls some time after them, and holds their repository: a round leaves it to the next one.
      for (let n = 0; n < BUSY_TRIES && (await isAnythingDue({ db, config: everything })); n++) {
        await Bun.sleep(50);
        await collect(api.app, tally);
      }
      // The server's process hears of it.
      if (!tally.isEmpty) await Bun.sleep(heardAfterMs);
      return tally;
    },
    pass: (ms) => passTime(db, ms),
    async stored() {
      const files = await Array.fromAsync(new Bun.Glob("sha*/*/*").scan(join(api.berth.dataDir, "blobs")));
      return files.map((file) => file.replace(/^(sha\d+)\/..\//, "$1:")).sort();
    },
    async known() {
      const rows = await db.sql<{ digest: string }>`/* test.known */ select digest from blob`;
      return rows.map((row) => row.digest).sort();
    },
    async count(table) {
      const [row] = await db.sql<{ n: number }>`/* test.count */ select count(*) as n from ${fragment([table])}`;
      return Number(row?.n);
    },
    stop: () => api.stop(),
  };
}

/** Everything that has happened happened `ms` earlier. */
export async function passTime(db: Database, ms: number): Promise<void> {
  await db.tx(async (tx) => {
    await tx.sql`/* test.pass */ update manifest
      set created_ms = created_ms - ${ms}, lease_until_ms = lease_until_ms - ${ms}, deleted_ms = deleted_ms - ${ms}`;
    await tx.sql`/* test.pass */ update tag
      set start_ms = start_ms - ${ms}, end_ms = end_ms - ${ms}, expires_ms = expires_ms - ${ms}`;
    await tx.sql`/* test.pass */ update repository_blob set lease_until_ms = lease_until_ms - ${ms} where lease_until_ms > ${ms}`;
    await tx.sql`/* test.pass */ update blob set lease_until_ms = lease_until_ms - ${ms} where lease_until_ms > ${ms}`;
    await tx.sql`/* test.pass */ update gc_repository set due_ms = due_ms - ${ms}`;
    await tx.sql`/* test.pass */ update repository set deleted_ms = deleted_ms - ${ms}`;
    await tx.sql`/* test.pass */ update account set deleted_ms = deleted_ms - ${ms}`;
    await tx.sql`/* test.pass */ update job set due_ms = due_ms - ${ms} where due_ms < ${Number.MAX_SAFE_INTEGER}`;
    await tx.sql`/* test.pass */ update prune_repository set due_ms = due_ms - ${ms}, pulls_due_ms = pulls_due_ms - ${ms}`;
    await tx.sql`/* test.pass */ update tag_pull set last_pull_ms = last_pull_ms - ${ms}`;
    await tx.sql`/* test.pass */ update manifest_pull
      set last_pull_ms = last_pull_ms - ${ms}, last_asked_ms = last_asked_ms - ${ms}`;
  });
}
