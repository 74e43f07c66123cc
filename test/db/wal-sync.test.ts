/** When a SQLite commit is on disk: watched with strace, because no other witness sees an fsync. */

import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSqlite } from "../../src/db/sqlite.ts";
import { runTraced } from "../support/strace.ts";

const TIMEOUT_MS = 30_000;
const CHILD = join(import.meta.dir, "wal-sync-child.ts");
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

async function traceChild(mode: string, options: readonly string[] = []) {
  const folder = mkdtempSync(join(tmpdir(), "berth-wal-"));
  folders.push(folder);
  const path = join(folder, "test.db");
  const db = await openSqlite({ path });
  await db.sql`create table t (n bigint)`;
  await db.close();
  const { output, calls } = await runTraced(folder, ["-e", "trace=fdatasync,write", ...options], [CHILD, path, mode]);
  const syncs = calls.filter(({ name, text }) => name === "fdatasync" && text.includes("test.db-wal"));
  const prints = calls.filter(({ name, text }) => name === "write" && /write\(1[<,]/.test(text));
  return { answers: output.trim().split("\n"), syncs, prints, path };
}

test(
  "a commit is answered after the log has been fsynced",
  async () => {
    const { answers, syncs, prints } = await traceChild("one");
    expect(answers).toEqual(["done", "done"]);
    expect(syncs).toHaveLength(2);
    expect(syncs[0]?.endLine).toBeLessThan(prints[0]?.startLine ?? 0);
    expect(syncs[1]?.startLine).toBeGreaterThan(prints[0]?.startLine ?? Number.POSITIVE_INFINITY);
  },
  TIMEOUT_MS,
);

test(
  "commits that wait together share an fsync",
  async () => {
    const { answers, syncs } = await traceChild("many");
    expect(answers).toEqual(["done"]);
    expect(syncs.length).toBeGreaterThan(0);
    expect(syncs.length).toBeLessThan(100);
  },
  TIMEOUT_MS,
);

test(
  "a transaction that need not be durable waits for no fsync",
  async () => {
    const { answers, syncs } = await traceChild("relaxed");
    expect(answers).toEqual(["done"]);
    expect(syncs).toHaveLength(0);
  },
  TIMEOUT_MS,
);

test(
  "after a failed fsync nothing is acknowledged any more",
  async () => {
    const { answers, syncs } = await traceChild("one", ["-e", "inject=fdatasync:error=EIO:when=1"]);
    expect(answers).toEqual(["unavailable", "unavailable"]);
    expect(syncs).toHaveLength(1);
  },
  TIMEOUT_MS,
);
