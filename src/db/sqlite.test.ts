/** What only SQLite does: one writer, waiting for other processes, trouble with the file. */

import { Database as BunDatabase } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { statSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeTempDir, type TempDir } from "../../test/support/temp-dir.ts";
import { RegistryError } from "../errors.ts";
import type { Database } from "./db.ts";
import { openDatabase, sqlitePath } from "./open.ts";
import { fragment } from "./sql.ts";
import { openSqlite, type SqliteOptions } from "./sqlite.ts";

const dirs: TempDir[] = [];
const opened: Database[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((db) => db.close()));
  for (const dir of dirs.splice(0)) dir.remove();
});

function newPath(): string {
  const dir = makeTempDir("sqlite");
  dirs.push(dir);
  return join(dir.path, "deep", "er", "berth.db");
}

async function open(options: Partial<SqliteOptions> = {}): Promise<Database> {
  const db = await openSqlite({ path: newPath(), ...options });
  opened.push(db);
  return db;
}

test("a new file is made with its folders, for its owner alone", async () => {
  const path = newPath();
  const db = await open({ path });
  await db.sql`create table t (n bigint)`;
  for (const file of [path, `${path}-wal`, `${path}-shm`]) expect(statSync(file).mode & 0o777).toBe(0o600);
  // Normal: the fsync before the answer is WalSync's, which test/db/wal-sync.test.ts watches.
  expect(await db.tx((tx) => Promise.resolve(tx.sql`pragma synchronous`))).toEqual([{ synchronous: 1 }]);
  expect(await db.tx((tx) => Promise.resolve(tx.sql`pragma foreign_keys`))).toEqual([{ foreign_keys: 1 }]);
  expect(await db.tx((tx) => Promise.resolve(tx.sql`pragma journal_mode`))).toEqual([{ journal_mode: "wal" }]);
});

test("a write outside waits for the transaction that runs, a read does not", async () => {
  const db = await open();
  await db.sql`create table t (n bigint)`;
  const order: string[] = [];
  const slow = db.tx(async (tx) => {
    await tx.sql`insert into t values (1)`;
    await Bun.sleep(40);
    order.push("transaction");
    await tx.sql`insert into t values (2)`;
  });
  await Bun.sleep(5);
  const write = Promise.resolve(db.sql`insert into t values (3)`).then(() => order.push("write"));
  const read = Promise.resolve(db.sql`select count(*) as n from t`).then((rows) => order.push(`read ${rows[0]?.n}`));
  await Promise.all([slow, write, read]);
  expect(order).toEqual(["read 0", "transaction", "write"]);
  expect(await db.sql`select n from t order by rowid`).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
});

test("a write outside, from inside a transaction, is refused instead of waiting for itself", async () => {
  const db = await open();
  await db.sql`create table t (n bigint)`;
  await expect(db.tx(async () => db.sql`insert into t values (1)`)).rejects.toThrow("do not nest");
});

test("writes are told from reads by their words", async () => {
  const db = await open();
  await db.sql`create table t (n bigint)`;
  await db.sql`/* t.select_in_name */ with given as (select ${5} as n) insert into t select n from given`;
  await db.sql`-- select
    update t set n = n + 1`;
  expect(await db.sql`with x as (select n from t) select n, 'insert' as word from x`).toEqual([
    { n: 6, word: "insert" },
  ]);
});

test("a lock of another process is waited for without stopping the thread", async () => {
  const path = newPath();
  const db = await open({ path });
  await db.sql`create table t (n bigint)`;
  const other = new BunDatabase(path);
  other.run("begin immediate");
  let ticks = 0;
  const ticker = setInterval(() => ticks++, 5);
  const waiting = Promise.all([
    db.tx((tx) => Promise.resolve(tx.sql`insert into t values (1)`)),
    db.sql`insert into t values (2)`,
  ]);
  await Bun.sleep(100);
  other.run("commit");
  await waiting;
  clearInterval(ticker);
  other.close();
  expect(ticks).toBeGreaterThan(5);
  expect(await db.sql`select count(*) as n from t`).toEqual([{ n: 2 }]);
});

test("a lock that is not let go is unavailable, with the cause", async () => {
  const path = newPath();
  const db = await open({ path, lockTimeoutMs: 50 });
  const other = new BunDatabase(path);
  other.run("begin immediate");
  const error = await db.tx(async () => 1).catch((reason) => reason);
  other.close();
  expect(error).toBeInstanceOf(RegistryError);
  expect(error).toMatchObject({
    code: "unavailable",
    message: expect.stringContaining("another process holds its lock"),
  });
  expect(error.cause.code).toStartWith("SQLITE_BUSY");
  expect(await db.tx(async () => "works again")).toBe("works again");
});

test("processes that start at once on a new file share it", async () => {
  const path = newPath();
  const script = `
    const { openSqlite } = await import(${JSON.stringify(join(import.meta.dir, "sqlite.ts"))});
    const { migrate } = await import(${JSON.stringify(join(import.meta.dir, "migrate.ts"))});
    const db = await openSqlite({ path: ${JSON.stringify(path)} });
    const done = await migrate(db, [{ id: 1, name: "init", text: "create table t (n bigint)" }]);
    for (let n = 0; n < 25; n++) await db.tx(async (tx) => tx.sql\`insert into t values (\${n})\`);
    await db.close();
    console.log(done.length);`;
  const children = [1, 2, 3, 4].map(() =>
    Bun.spawn([process.execPath, "-e", script], { stdout: "pipe", stderr: "inherit" }),
  );
  const told = await Promise.all(children.map((child) => new Response(child.stdout).text()));
  expect(told.map(Number).sort()).toEqual([0, 0, 0, 1]);
  expect(await (await open({ path })).sql`select count(*) as n from t`).toEqual([{ n: 100 }]);
}, 30_000);

test("a process that fell behind the log of changes drops everything", async () => {
  const path = newPath();
  const [one, two] = [await open({ path, pollMs: 60_000 }), await open({ path, pollMs: 60_000 })];
  const heard: unknown[] = [];
  two.onChanged((keys) => heard.push(keys));
  for (let n = 0; n < 600; n++) await one.tx(async (tx) => tx.changed(`k${n}`));
  two.checkChanges();
  expect(heard).toEqual([undefined]);
  await one.tx(async (tx) => tx.changed("next"));
  two.checkChanges();
  expect(heard).toEqual([undefined, ["next"]]);
});

test("the log of changes stays short", async () => {
  const db = await open();
  await db.sql`insert into berth_change (origin, keys)
    with recursive n (i) as (select 1 union all select i + 1 from n where i < 6000) select 'other', '[]' from n`;
  for (let n = 0; n < 257; n++) await db.tx(async (tx) => tx.changed("k"));
  const [row] = await db.sql`select count(*) as n from berth_change`;
  expect(row?.n).toBeLessThanOrEqual(4096 + 256);
});

test("a full database is storage_full, and what was there stays", async () => {
  const db = await open();
  await db.sql`create table t (payload blob)`;
  await db.tx((tx) => tx.script("insert into t values (zeroblob(100)); pragma max_page_count = 20;"));
  const grow = db.tx(async (tx) => tx.sql`insert into t values (zeroblob(${1_000_000}))`);
  await expect(grow).rejects.toMatchObject({ code: "storage_full" });
  expect(await db.sql`select count(*) as n from t`).toEqual([{ n: 1 }]);
  await db.sql`insert into t values (${new Uint8Array(10)})`;
});

test("a file that is no database, and a path that cannot be one, are named", async () => {
  const path = newPath();
  await (await openSqlite({ path })).close();
  writeFileSync(path, "this is not a database, but it is long enough to be looked at closely".repeat(20));
  await expect(openSqlite({ path })).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining(path),
  });
  await expect(openSqlite({ path: "/proc/nowhere/berth.db" })).rejects.toMatchObject({ code: "unavailable" });
  await expect(openSqlite({ path: join(path, "below-a-file.db") })).rejects.toMatchObject({ code: "unavailable" });
});

test("ping notices that the file is gone", async () => {
  const path = newPath();
  const db = await open({ path });
  await db.ping(100);
  unlinkSync(path);
  await expect(db.ping(100)).rejects.toMatchObject({ code: "unavailable" });
});

test("more statements than are kept prepared still give the right rows", async () => {
  const db = await open();
  for (let round = 0; round < 2; round++) {
    for (let n = 0; n < 1300; n++) {
      const [row] = await db.sql`select ${fragment([String(n)])} as n`;
      expect(row).toEqual({ n });
    }
  }
});

test("DB_URI is read as SQLAlchemy reads it", async () => {
  expect(sqlitePath("sqlite:///data/berth.db")).toBe("data/berth.db");
  expect(sqlitePath("sqlite:////var/lib/berth.db?timeout=5")).toBe("/var/lib/berth.db");
  for (const uri of ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://host/path"]) {
    expect(() => sqlitePath(uri)).toThrow("names no file");
  }
  await expect(openDatabase({ uri: "mysql+pymysql://root:secret@db/quay" })).rejects.toThrow("MySQL");
  await expect(openDatabase({ uri: "oracle://u:secret@h/d" })).rejects.toThrow('starts with "oracle://"');
  const error = await openDatabase({ uri: "root:secret@db/quay" }).catch((reason) => reason);
  expect(String(error)).not.toContain("secret");
});
