import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { makeTempDir, type TempDir } from "../../../test/support/temp-dir.ts";
import type { Database } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { openDatabase } from "../../db/open.ts";
import { createLogger } from "../../observe/logger.ts";
import type { Digest } from "../../oci/digest.ts";
import type { TagName } from "../../oci/reference.ts";
import { PullCounter } from "./pull-counter.ts";

const DAY_MS = 86_400_000;
const digestOf = (name: string) => `sha256:${name.padEnd(64, "0")}` as Digest;
const tagOf = (tag: string) => ({ kind: "tag", tag: tag as TagName }) as const;
let dir: TempDir;
let db: Database;
let nowMs = 10 * DAY_MS;
const clock = { nowMs: () => nowMs };
const log = createLogger({ clock, level: "error", format: "text" });

beforeAll(async () => {
  dir = makeTempDir("pulls");
  db = await openDatabase({ uri: `sqlite:///${join(dir.path, "pulls.db")}` });
  await migrate(db, migrations);
  await db.tx(async (tx) => {
    await tx.sql`/* test.account */
      insert into account (id, uuid, kind, username, tag_expiration_s, created_ms) values (1, 'u', 'user', 'u', 0, 0)`;
    for (const id of [1, 2, 3]) {
      await tx.sql`/* test.repository */
        insert into repository (id, namespace_id, name, path, visibility, created_ms)
        values (${id}, 1, ${`r${id}`}, ${`u/r${id}`}, 'private', 0)`;
    }
  });
});
afterAll(async () => {
  await db.close();
  dir.remove();
});

async function tagRow(repositoryId: number, tag: string) {
  const [row] = await db.sql<{
    pull_count: unknown;
    last_pull_ms: unknown;
    last_manifest_digest: string;
  }>`/* test.tag */
    select pull_count, last_pull_ms, last_manifest_digest from tag_pull
    where repository_id = ${repositoryId} and tag_name = ${tag}`;
  return row && [toNumber(row.pull_count), toNumber(row.last_pull_ms), row.last_manifest_digest];
}
async function countOf(table: "tag_pull" | "manifest_pull" | "repository_action_count"): Promise<number> {
  const rows =
    table === "tag_pull"
      ? await db.sql`/* test.tags */ select 1 as one from tag_pull`
      : table === "manifest_pull"
        ? await db.sql`/* test.manifests */ select 1 as one from manifest_pull`
        : await db.sql`/* test.actions */ select 1 as one from repository_action_count`;
  return rows.length;
}

test("sums of several flushes and days add up, and the newest pull says what a tag stood for", async () => {
  const counter = new PullCounter({ db, clock, log });
  counter.note(1, tagOf("v1"), { digest: digestOf("a") });
  counter.note(1, tagOf("v1"), { digest: digestOf("a") });
  counter.notePush(1);
  await counter.flush();
  expect(await tagRow(1, "v1")).toEqual([2, 10 * DAY_MS, digestOf("a")]);
  nowMs += DAY_MS;
  counter.note(1, tagOf("v1"), { digest: digestOf("b") });
  counter.note(1, { kind: "digest", digest: digestOf("a") }, { digest: digestOf("a") });
  await counter.stop();
  expect(await tagRow(1, "v1")).toEqual([3, 11 * DAY_MS, digestOf("b")]);
  const days = await db.sql<{ day: number; action_count: number }>`/* test.days */
    select day, action_count from repository_action_count where repository_id = 1 order by day`;
  expect(days.map((row) => [row.day, row.action_count])).toEqual([
    [10, 3],
    [11, 2],
  ]);
});

test("an older pull that is written late does not make the last one older", async () => {
  const counter = new PullCounter({ db, clock, log });
  counter.note(2, tagOf("v1"), { digest: digestOf("new") });
  await counter.flush();
  nowMs -= 1000;
  counter.note(2, tagOf("v1"), { digest: digestOf("old") });
  await counter.stop();
  nowMs += 1000;
  expect(await tagRow(2, "v1")).toEqual([2, nowMs, digestOf("new")]);
});

test("what is asked for and not pulled is noted, and not counted", async () => {
  const counter = new PullCounter({ db, clock, log });
  const [asked, pulled] = [{ digest: digestOf("asked") }, { digest: digestOf("pulled") }];
  counter.noteAsked(2, tagOf("asked"), asked);
  counter.noteAsked(2, tagOf("pulled"), pulled);
  nowMs += 1000;
  counter.note(2, tagOf("pulled"), pulled);
  nowMs += 1000;
  counter.noteAsked(2, tagOf("pulled"), pulled);
  await counter.stop();
  const rows = await db.sql<Record<string, unknown>>`/* test.asked */
    select manifest_digest, pull_count, last_pull_ms, last_asked_ms from manifest_pull
    where repository_id = 2 and last_asked_ms > 0 order by manifest_digest`;
  expect(rows.map((row) => [row.manifest_digest, row.pull_count, row.last_pull_ms, row.last_asked_ms])).toEqual([
    [asked.digest, 0, 0, nowMs - 2000],
    [pulled.digest, 1, nowMs - 1000, nowMs],
  ]);
  expect([await tagRow(2, "asked"), await tagRow(2, "pulled")]).toEqual([undefined, [1, nowMs - 1000, pulled.digest]]);
});

test("counts of a repository that is gone are dropped without harm to the others", async () => {
  const counter = new PullCounter({ db, clock, log });
  counter.note(999, tagOf("v1"), { digest: digestOf("a") });
  counter.note(3, tagOf("v1"), { digest: digestOf("a") });
  await counter.stop();
  expect(await tagRow(999, "v1")).toBeUndefined();
  expect(await tagRow(3, "v1")).toEqual([1, nowMs, digestOf("a")]);
});

test("what cannot be written is kept and written later, once", async () => {
  let fails = true;
  const flaky = new Proxy(db, {
    get(target, name) {
      if (name === "tx" && fails) return () => Promise.reject(new Error("the disk is full"));
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const quiet = createLogger({ clock, level: "error", format: "text" });
  const counter = new PullCounter({ db: flaky, clock, log: quiet });
  counter.note(3, tagOf("kept"), { digest: digestOf("a") });
  await counter.flush();
  counter.note(3, tagOf("kept"), { digest: digestOf("b") });
  await counter.flush();
  expect(await tagRow(3, "kept")).toBeUndefined();
  fails = false;
  await counter.stop();
  expect(await tagRow(3, "kept")).toEqual([2, nowMs, digestOf("b")]);
});

test("what waits is bounded: past it those that wait are still counted", async () => {
  const before = [await countOf("tag_pull"), await countOf("manifest_pull"), await countOf("repository_action_count")];
  const counter = new PullCounter({ db, clock, log });
  counter.note(3, tagOf("first"), { digest: digestOf("first") });
  for (let position = 0; position < 60_000; position++) {
    counter.note(3, { kind: "digest", digest: digestOf(`m${position}`) }, { digest: digestOf(`m${position}`) });
  }
  counter.note(3, tagOf("first"), { digest: digestOf("first") });
  const { transactions } = db.stats;
  await counter.stop();
  expect(await tagRow(3, "first")).toEqual([2, nowMs, digestOf("first")]);
  const after = [await countOf("tag_pull"), await countOf("manifest_pull"), await countOf("repository_action_count")];
  const added = after.reduce((sum, count, position) => sum + count - (before[position] ?? 0), 0);
  expect(added).toBeLessThanOrEqual(50_000);
  expect(added).toBeGreaterThan(49_000);
  expect(db.stats.transactions - transactions).toBe(50);
}, 30_000);
