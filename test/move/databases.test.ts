/**
 * What a move does to the databases themselves: types, keys, sequences and constraints on both engines, what it refuses to
 * fill, what it finds when it compares, and the way back.
 */

import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Database, Tx } from "../../src/db/db.ts";
import { toNumber } from "../../src/db/decode.ts";
import { migrate } from "../../src/db/migrate.ts";
import { migrations } from "../../src/db/migrations.ts";
import { requireUsable } from "../../src/db/move/mark.ts";
import { moveDatabase } from "../../src/db/move/move.ts";
import { isEmpty } from "../../src/db/move/rows.ts";
import { readTables } from "../../src/db/move/schema.ts";
import { claimTarget } from "../../src/db/move/target.ts";
import { isMoved } from "../../src/db/moved.ts";
import { openDatabase } from "../../src/db/open.ts";
import { createSecretBox } from "../../src/lib/secret-box.ts";
import { type CommandResult, exitCodes, runBerth } from "../cli/command.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { makeTempDir } from "../support/temp-dir.ts";

setDefaultTimeout(120_000);
const dir = makeTempDir("move-databases");
let server: Promise<TestPostgres> | undefined;
const opened: Database[] = [];
let files = 0;

afterEach(async () => {
  await Promise.all(opened.splice(0).map((db) => db.close()));
});
afterAll(async () => {
  await (await server)?.stop();
  dir.remove();
});

type Engine = "sqlite" | "postgres";
const engines = ["sqlite", "postgres"] as const;

async function newUri(engine: Engine): Promise<string> {
  if (engine === "sqlite") return `sqlite:///${join(dir.path, `db-${++files}.db`)}`;
  server ??= startPostgres();
  return (await server).createDatabase();
}

async function open(uri: string): Promise<Database> {
  const db = await openDatabase({ uri });
  opened.push(db);
  return db;
}

/** A database with the schema and, unless it is to be empty, some rows. */
async function make(engine: Engine, rows: "rows" | "empty" = "rows"): Promise<{ uri: string; db: Database }> {
  const uri = await newUri(engine);
  const db = await open(uri);
  await migrate(db, migrations);
  if (rows === "rows") await db.tx(seed);
  return { uri, db };
}

async function seed(tx: Tx): Promise<void> {
  for (const [id, name] of [
    [1, "anna"],
    [2, "bert"],
    [7, "Ünal"],
  ] as const) {
    await tx.sql`insert into account (id, uuid, kind, username, tag_expiration_s, created_ms, enabled)
      values (${id}, ${`uuid-${id}`}, 'user', ${name}, 1, 9007199254740991, ${id !== 2})`;
  }
  await tx.sql`insert into repository (id, namespace_id, name, path, visibility, created_ms)
    values (3, 1, 'web', 'anna/web', 'private', 5)`;
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
  await tx.sql`insert into manifest (id, repository_id, digest, kind, media_type, size_bytes, layers_size_bytes, created_ms,
      content, lease_until_ms)
    values (4, 3, 'sha256:aa', 'image', 'text', 256, 0, 5, ${bytes}, 77)`;
  await tx.sql`insert into tag (repository_id, name, manifest_id, start_ms) values (3, 'v1', 4, 6)`;
  await tx.sql`insert into scrub_pass (location, created_ms, lease_owner, lease_until_ms) values ('disk', 1, 'w', 9)`;
  await tx.sql`insert into job (queue, payload, due_ms, attempts_left, created_ms, lease_owner, lease_until_ms)
    values ('namespacegc', '{}', 1, 5, 1, 'somebody', 99)`;
  // Keys of which a language's order is not the order of the bytes.
  for (const key of ["a-b", "ab", "A", "a_c", "_", "é"]) {
    await tx.sql`insert into setting (key, value) values (${key}, ${`value of ${key}`})`;
  }
  // Ids of rows that are gone are not given again.
  if (tx.engine === "sqlite") {
    await tx.sql`insert into team (id, organization_id, name, role, created_ms) values (500, 1, 'gone', 'member', 1)`;
  } else {
    await tx.script("select setval(pg_get_serial_sequence('team', 'id'), 500)");
    for (const table of ["account", "repository", "manifest"]) {
      await tx.script(`select setval(pg_get_serial_sequence('${table}', 'id'), 7)`);
    }
  }
  await tx.sql`delete from team`;
}

const move = (from: Database, to: Database) =>
  moveDatabase({
    from,
    to,
    fromName: "the old one",
    toName: "the new one",
    onProgress: () => undefined,
    onStep: () => undefined,
  });
const cli = (...args: string[]): Promise<CommandResult> =>
  runBerth(["migrate", ...args, "--data", join(dir.path, "unused")], { cwd: dir.path, timeoutMs: 60_000 });
const failure = (work: PromiseLike<unknown>): Promise<unknown> =>
  Promise.resolve(work).then(
    () => undefined,
    (error: unknown) => error,
  );
const nextId = async (db: Database): Promise<number> => {
  const [row] = await db.sql`insert into team (organization_id, name, role, created_ms)
    values (1, ${crypto.randomUUID()}, 'member', 1) returning id`;
  return toNumber(row?.id);
};

describe("the schema", () => {
  test.each(engines)("of every migration can be moved, and both engines read it alike (%s)", async (engine) => {
    const { db } = await make(engine, "empty");
    const tables = await readTables(db);
    const other = await readTables((await make(engine === "sqlite" ? "postgres" : "sqlite", "empty")).db);
    const shape = (list: typeof tables) =>
      list.map(({ name, columns, key, identity }) => ({
        name,
        identity,
        key: key.map((column) => column.name),
        columns: columns.map((column) => `${column.name} ${column.kind}`).sort(),
      }));
    expect(shape(tables)).toEqual(shape(other));
    expect(tables.length).toBeGreaterThan(40);
    // What a migration writes by itself is known to the check for an empty target.
    const filled = [];
    for (const table of tables) if (!(await isEmpty(db, table))) filled.push(table.name);
    expect(filled).toEqual(["log_rotation"]);
  });

  test.each(engines)("is refused when a table has no primary key or a column of another type (%s)", async (engine) => {
    const { db } = await make(engine, "empty");
    await db.tx((tx) => tx.script("create table loose (name text)"));
    expect(await failure(readTables(db))).toMatchObject({
      message: expect.stringContaining('"loose" has no primary key'),
    });
    await db.tx((tx) => tx.script("drop table loose; create table odd (id bigint not null primary key, at timestamp)"));
    expect(await failure(readTables(db))).toMatchObject({
      message: expect.stringContaining('"odd.at" is of type "timestamp'),
    });
  });
});

describe.each([
  ["sqlite", "postgres"],
  ["postgres", "sqlite"],
  ["sqlite", "sqlite"],
  ["postgres", "postgres"],
] as const)("from %s to %s", (fromEngine, toEngine) => {
  test("every row arrives as it was, ids go on, leases end, and the old database is closed", async () => {
    const [{ db: from }, { db: to }] = [await make(fromEngine), await make(toEngine, "empty")];
    const { tables } = await move(from, to);
    expect(tables.find(({ name }) => name === "account")?.rows).toBe(3);
    const [manifest] = await to.sql<{
      content: Uint8Array;
      lease_until_ms: unknown;
    }>`select content, lease_until_ms from manifest`;
    expect(Array.from(manifest?.content ?? [])).toEqual(Array.from({ length: 256 }, (_, index) => index));
    expect(toNumber(manifest?.lease_until_ms)).toBe(77);
    const [account] = await to.sql`select username, created_ms, enabled, email from account where id = 2`;
    const { username, created_ms, enabled, email } = account ?? {};
    expect([username, created_ms, Boolean(enabled), email]).toEqual(["bert", 9007199254740991, false, null]);
    expect(await to.sql`select lease_owner, lease_until_ms from scrub_pass`).toEqual([
      { lease_owner: null, lease_until_ms: null },
    ]);
    expect(await to.sql`select lease_owner, lease_until_ms from job`).toEqual([
      { lease_owner: null, lease_until_ms: null },
    ]);
    expect(await nextId(to)).toBe(501);
    const [made] = await to.sql`insert into account (uuid, kind, username, tag_expiration_s, created_ms)
      values ('x', 'user', 'x', 1, 1) returning id`;
    expect(toNumber(made?.id)).toBe(8);
    await requireUsable(to);

    const refused = await failure(nextId(from));
    expect(isMoved(refused)).toBe(true);
    const inTransaction = from.tx(async (tx) => {
      await tx.sql`update account set enabled = true where id = 1`;
    });
    expect(isMoved(await failure(inTransaction))).toBe(true);
    // What is written beside pulls goes on.
    await from.sql`insert into action_log (kind, metadata, created_ms) values ('pull_repo', '{}', 1)`;
    expect(await failure(requireUsable(from))).toMatchObject({
      message: expect.stringContaining('moved to "the new one"'),
    });
  });

  test("rows that changed between two runs are brought up to date, also where unique values change places", async () => {
    const [{ db: from }, { db: to }] = [await make(fromEngine), await make(toEngine, "empty")];
    // The first run is cut off by a source that refuses its mark: everything is copied, nothing is left.
    await cutShort(from, to);
    await from.tx(async (tx) => {
      await tx.sql`update account set username = 'x' where id = 1`;
      await tx.sql`update account set username = 'anna' where id = 7`;
      await tx.sql`update account set username = 'Ünal' where id = 1`;
      await tx.sql`update tag set end_ms = 9`;
      await tx.sql`insert into tag (repository_id, name, manifest_id, start_ms) values (3, 'v1', 4, 9)`;
      await tx.sql`delete from setting where key = 'ab'`;
      await tx.sql`update setting set value = 'other' where key = '_'`;
    });
    await move(from, to);
    expect(await to.sql`select username from account order by id`).toEqual(
      await from.sql`select username from account order by id`,
    );
    expect(await to.sql`select id, end_ms from tag order by id`).toEqual(
      await from.sql`select id, end_ms from tag order by id`,
    );
    const settings = (db: Database) => db.sql`select key, value from setting where key <> 'move' order by value`;
    expect(await settings(to)).toEqual(await settings(from));
  });
});

/** Runs a move up to its last step, which fails as if the process had been killed there. */
async function cutShort(from: Database, to: Database): Promise<void> {
  const steps: string[] = [];
  const ended = await failure(
    moveDatabase({
      from,
      to,
      fromName: "the old one",
      toName: "the new one",
      onStep: (text) => steps.push(text),
      onProgress: ({ phase, table }) => {
        if (phase === "last changes" && table === "user_notification") throw new Error("cut");
      },
    }),
  );
  expect(ended).toMatchObject({ message: "cut" });
  expect(await failure(requireUsable(to))).toMatchObject({ message: expect.stringContaining("has not ended") });
  await requireUsable(from);
}

describe("on PostgreSQL", () => {
  test("a target ends with the very constraints and indexes that migrations make, all of them checked", async () => {
    const [{ db: from }, { db: to }, { db: fresh }] = [
      await make("sqlite"),
      await make("postgres", "empty"),
      await make("postgres", "empty"),
    ];
    await move(from, to);
    const constraints = (db: Database) => db.sql`
      select conrelid::regclass::text as t, conname, contype, convalidated, pg_get_constraintdef(oid) as definition
      from pg_constraint where connamespace = current_schema()::regnamespace order by 1, 2`;
    expect(await constraints(to)).toEqual(await constraints(fresh));
    const indexes = (db: Database) =>
      db.sql`select indexdef from pg_indexes where schemaname = current_schema() order by 1`;
    expect(await indexes(to)).toEqual(await indexes(fresh));
  });

  test("keys in a language's order are compared in that of their bytes", async () => {
    const [{ db: from }, { db: to }] = [await make("postgres"), await make("sqlite", "empty")];
    await from.tx((tx) => tx.script(`alter table setting alter column key type text collate "und-x-icu"`));
    await move(from, to);
    expect((await to.sql`select 1 from setting`).length).toBe(6);
  });

  test("a source that somebody holds is asked for its locks again", async () => {
    const [{ db: from }, { db: to }] = [await make("postgres"), await make("sqlite", "empty")];
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    let held: Promise<void> | undefined;
    const steps: string[] = [];
    await moveDatabase({
      from,
      to,
      fromName: "a",
      toName: "b",
      onStep: (text) => {
        steps.push(text);
        if (text.includes("trying again")) release();
      },
      onProgress: () => {
        held ??= from.tx(async (tx) => {
          await tx.sql`update repository set name = name`;
          await released;
        });
      },
    });
    await held;
    expect(steps).toContain("the source is busy; trying again to lock it");
  });

  test("a writer that waits for the locks is refused when it gets them", async () => {
    const [{ db: from }, { db: to }] = [await make("postgres"), await make("sqlite", "empty")];
    let writing: Promise<unknown> | undefined;
    await moveDatabase({
      from,
      to,
      fromName: "a",
      toName: "b",
      onStep: () => undefined,
      onProgress: ({ phase }) => {
        // On a connection of its own, as an instance has it.
        if (phase === "last changes")
          writing ??= failure(from.sql`update repository set name = name`.then((rows) => rows));
      },
    });
    expect(isMoved(await writing)).toBe(true);
  });
});

describe("a target is refused", () => {
  test.each(engines)("that is a registry of its own, or holds other tables (%s)", async (engine) => {
    const { db: from } = await make("sqlite");
    const { db: used } = await make(engine);
    expect(await failure(move(from, used))).toMatchObject({ message: expect.stringContaining("not empty") });
    const foreign = await open(await newUri(engine));
    await foreign.tx((tx) => tx.script("create table customers (id integer primary key)"));
    expect(await failure(move(from, foreign))).toMatchObject({
      message: expect.stringContaining("not Berth's (customers)"),
    });
    // Neither was touched, and the source goes on.
    expect((await used.sql`select 1 from setting where key = 'move'`).length).toBe(0);
    expect(await nextId(from)).toBe(501);
  });

  test.each(engines)("that another source has begun to fill, or another run has taken over (%s)", async (engine) => {
    const [{ db: from }, { db: other }, { db: to }] = [
      await make("sqlite"),
      await make("sqlite"),
      await make(engine, "empty"),
    ];
    await cutShort(other, to);
    expect(await failure(move(from, to))).toMatchObject({
      message: expect.stringContaining('unfinished move from "the old one"'),
    });
    const id = await sourceId(other);
    const taken = moveDatabase({
      from: other,
      to,
      fromName: "a",
      toName: "b",
      onStep: () => undefined,
      onProgress: ({ phase }) => {
        if (phase === "copy") taking ??= claimTarget(to, { id, from: "a", run: "another" });
      },
    });
    let taking: Promise<void> | undefined;
    expect(await failure(taken)).toMatchObject({ message: expect.stringContaining("Another berth migrate") });
    await taking;
    await requireUsable(other);
  });

  test.each(engines)("but not one whose schema is only half made and empty (%s)", async (engine) => {
    const { db: from } = await make("sqlite");
    const to = await open(await newUri(engine));
    await migrate(to, migrations.slice(0, 2));
    await move(from, to);
    expect((await to.sql`select id from account`).length).toBe(3);
  });

  test("that is the source itself, by whatever name", async () => {
    const { uri, db } = await make("postgres");
    const again = await open(uri.replace("localhost", "127.0.0.1"));
    expect(await failure(move(db, again))).toMatchObject({ message: "--from and --to name the same database." });
    await requireUsable(db);
  });
});

describe("the command", () => {
  test.each(engines)("--check finds rows that were changed, added and taken away by hand (%s)", async (engine) => {
    const [{ uri: fromUri, db: from }, { uri: toUri, db: to }] = [await make("sqlite"), await make(engine, "empty")];
    await move(from, to);
    const equal = await cli("--check", "--from", fromUri, "--to", toUri);
    expect(equal).toMatchObject({ code: exitCodes.ok, stdout: expect.stringContaining("are equal in both databases") });
    await to.sql`update repository set description = 'by hand' where id = 3`;
    await to.sql`insert into setting (key, value) values ('zz', 'by hand')`;
    await to.sql`delete from tag`;
    const differing = await cli("--check", "--from", fromUri, "--to", toUri);
    expect(differing.code).toBe(exitCodes.failed);
    expect(differing.stdout).toMatch(/\nrepository +1 +0 +0 +1 +\[3\] different\n/);
    expect(differing.stdout).toMatch(/\nsetting +6 +0 +1 +0 +\["zz"\] extra\n/);
    expect(differing.stdout).toMatch(/\ntag +1 +1 +0 +0 +\[1\] missing\n/);
    expect(differing.stdout).toContain("3 of ");
  });

  test.each(engines)("--reopen is the way back (%s)", async (engine) => {
    const [{ uri, db: from }, { db: to }] = [await make(engine), await make("sqlite", "empty")];
    await move(from, to);
    expect(await cli("--reopen", "--from", uri)).toMatchObject({
      code: exitCodes.ok,
      stdout: expect.stringContaining("takes changes again"),
    });
    expect(await nextId(from)).toBe(501);
    await requireUsable(from);
    expect(await cli("--reopen", "--from", uri)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("nothing to take back"),
    });
    // The other one is in use by now, as far as anybody knows.
    expect(await failure(move(from, to))).toMatchObject({ message: expect.stringContaining("not empty") });
  });

  test("warns of a key that does not open what is there, and not of the right one", async () => {
    const { uri, db } = await make("sqlite");
    const sealed = createSecretBox("the right key").seal("robot token");
    await db.sql`update account set token_encrypted = ${sealed} where id = 1`;
    for (const [key, warns] of [
      ["the right key", false],
      ["another key", true],
    ] as const) {
      const env = { QUAY_OVERRIDE_CONFIG: JSON.stringify({ DATABASE_SECRET_KEY: key }), BERTH_MIGRATE_FROM: uri };
      const to = await newUri("sqlite");
      const { code, stderr } = await runBerth(["migrate", "--to", to], { cwd: dir.path, env });
      expect([code, stderr.includes('does not open what "account.token_encrypted" holds')]).toEqual([0, warns]);
      await cli("--reopen", "--from", uri);
    }
  });

  test("says what is wrong with a source that is of another version, absent or away", async () => {
    const { uri, db } = await make("sqlite");
    const to = await newUri("sqlite");
    await db.sql`delete from schema_migration where id = ${migrations.length}`;
    const older = await cli("--from", uri, "--to", to);
    expect([older.code, older.stderr]).toEqual([
      1,
      expect.stringContaining('bring it up to date first, with "berth migrate"'),
    ]);
    await db.sql`insert into schema_migration (id, name, applied_ms, checksum) values (${migrations.length}, 'x', 1, 'x'),
      (${migrations.length + 1}, 'later', 1, 'x')`;
    const newer = await cli("--from", uri, "--to", to);
    expect([newer.code, newer.stderr]).toEqual([1, expect.stringContaining("use the version of berth")]);
    const absent = await cli("--from", "sqlite:///nowhere.db", "--to", to);
    expect([absent.code, absent.stderr]).toEqual([exitCodes.usage, expect.stringContaining("is not there")]);
    const away = await cli("--from", "postgresql://somebody:hidden-word@127.0.0.1:9/registry", "--to", to);
    expect(away.code).toBe(exitCodes.unavailable);
    expect(away.stderr).not.toContain("hidden-word");
    const same = await cli("--from", uri, "--to", uri);
    expect([same.code, same.stderr]).toEqual([exitCodes.usage, expect.stringContaining("the same database")]);
    expect((await cli("--to", to, "--reopen")).code).toBe(exitCodes.usage);
    expect((await cli("--check")).code).toBe(exitCodes.usage);
  });
});

async function sourceId(db: Database): Promise<string> {
  const [row] = await db.sql<{ value: string }>`select value from setting where key = 'move'`;
  return (JSON.parse(row?.value ?? "{}") as { id: string }).id;
}
