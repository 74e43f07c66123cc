/** What queries and transactions promise, on every engine that TEST_DB names. */

import { expect, test } from "bun:test";
import { withDatabases } from "../../test/support/database.ts";
import { RegistryError } from "../errors.ts";
import type { Database, SqlValue } from "./db.ts";
import { toBoolean, toNumber } from "./decode.ts";
import { type Migration, migrate } from "./migrate.ts";
import { isForeignKeyViolation, isUniqueViolation } from "./violation.ts";

const schema: readonly Migration[] = [
  {
    id: 1,
    name: "init",
    text: `create table item (id {{id}}, name {{text_c}} not null unique, payload {{bytes}}, done {{bool}} not null default false,
             due_ms {{bigint}} not null default 0, lease_ms bigint not null default 0);
           create table part (id {{id}}, item_id bigint not null references item (id));`,
  },
];

withDatabases("database", (databases) => {
  const open = async (uri?: string): Promise<Database> => {
    const db = await databases.open(uri === undefined ? {} : { uri });
    await migrate(db, schema);
    return db;
  };
  const names = async (db: Database): Promise<unknown[]> =>
    (await db.sql`/* item.names */ select name from item order by name`).map((row) => row.name);

  test("values keep their kind on the way in and out", async () => {
    const db = await open();
    const payload = new Uint8Array([0, 1, 127, 128, 255]);
    const dueMs = 1_795_405_587_222;
    await db.sql`insert into item (name, payload, done, due_ms) values (${"a"}, ${payload}, ${true}, ${dueMs})`;
    await db.sql`insert into item (name, payload) values (${"ä\n'\"; --"}, ${null})`;
    await db.sql`insert into item (name, payload) values (${"empty"}, ${new Uint8Array(0)})`;
    const rows = await db.sql`select * from item order by id`;
    expect(rows[0]?.payload).toEqual(payload);
    expect(rows[0]?.payload).toBeInstanceOf(Uint8Array);
    expect(toBoolean(rows[0]?.done)).toBe(true);
    expect(rows[0]?.due_ms).toBe(dueMs);
    expect(rows[1]).toMatchObject({ name: "ä\n'\"; --", payload: null });
    expect(toBoolean(rows[1]?.done)).toBe(false);
    expect(rows[2]?.payload).toEqual(new Uint8Array(0));
    const [sums] = await db.sql`select count(*) as items, sum(due_ms) as due, ${dueMs} - 1000 as earlier from item`;
    expect(sums).toEqual({ items: 3, due: dueMs, earlier: dueMs - 1000 });
  });

  test("what looks like SQL in a value stays a value", async () => {
    const db = await open();
    const hostile = ["'); drop table item; --", "$1", "?", "' or '1'='1", "/* item.names */", "\\'; select 1"];
    for (const name of hostile) await db.sql`insert into item (name) values (${name})`;
    for (const name of hostile) {
      expect(await db.sql`select name from item where name = ${name}`).toEqual([{ name }]);
    }
    expect(await names(db)).toEqual([...hostile].sort());
  });

  test("fragments compose, with their parameters in the order of the text", async () => {
    const db = await open();
    for (const name of ["a", "b", "c", "d"])
      await db.sql`insert into item (name, due_ms) values (${name}, ${name.charCodeAt(0)})`;
    const list = (after: string | undefined, limit: number) => {
      const from = after === undefined ? db.sql`` : db.sql`and name > ${after} ${db.sql`and due_ms < ${100}`}`;
      return db.sql<{ name: string }>`select name from item where due_ms > ${0} ${from} order by name limit ${limit}`;
    };
    expect((await list(undefined, 3)).map((row) => row.name)).toEqual(["a", "b", "c"]);
    expect((await list("a", 9)).map((row) => row.name)).toEqual(["b", "c"]);
    expect((await list("b", 9)).map((row) => row.name)).toEqual(["c"]);
  });

  test("a list matches its members, an empty one nothing", async () => {
    const db = await open();
    for (const name of ["a", "b", "c", "d", "e"]) await db.sql`insert into item (name) values (${name})`;
    const pick = async (values: string[]) =>
      (await db.sql`select name from item where ${db.dialect.inList("item.name", values)} order by name`).map(
        (r) => r.name,
      );
    expect(await pick(["b", "d", "e"])).toEqual(["b", "d", "e"]);
    expect(await pick(["c"])).toEqual(["c"]);
    expect(await pick([])).toEqual([]);
    expect(() => db.dialect.inList("name) or (1=1", ["a"])).toThrow("is not a column name");
  });

  test("a query runs once however often it is awaited, and not at all when it is not", async () => {
    const db = await open();
    const insert = db.sql`insert into item (name) values (${"once"}) returning name`;
    db.sql`insert into item (name) values (${"never"})`;
    expect(await insert).toEqual([{ name: "once" }]);
    expect(await insert).toEqual([{ name: "once" }]);
    expect(await names(db)).toEqual(["once"]);
  });

  test("a value that cannot be bound is refused by name and place", async () => {
    const db = await open();
    const odd = [undefined, 2 ** 53, Number.NaN, 1n, new Date(), { a: 1 }, ["a"]] as unknown as SqlValue[];
    for (const value of odd) {
      const failed = Promise.resolve(db.sql`/* item.odd */ select ${1} as a, ${value} as b`);
      await expect(failed).rejects.toThrow('Parameter 2 of the query "item.odd"');
    }
  });

  test("violated constraints can be told apart", async () => {
    const db = await open();
    const failure = (query: PromiseLike<unknown>) =>
      Promise.resolve(query).then(
        () => undefined,
        (error) => error,
      );
    await db.sql`insert into item (name) values ('a')`;
    expect(isUniqueViolation(await failure(db.sql`insert into item (name) values ('a')`))).toBe(true);
    const orphan = await failure(db.sql`insert into part (item_id) values (${99})`);
    expect([isForeignKeyViolation(orphan), isUniqueViolation(orphan)]).toEqual([true, false]);
  });

  test("ids of deleted rows are not given again", async () => {
    const db = await open();
    const add = async (name: string) =>
      toNumber((await db.sql`insert into item (name) values (${name}) returning id`)[0]?.id);
    const first = await add("a");
    await db.sql`delete from item`;
    expect(await add("a")).toBeGreaterThan(first);
  });

  test("text in {{text_c}} sorts by its bytes", async () => {
    const db = await open();
    for (const name of ["b", "B", "a", "_", "é", "Z", "-"]) await db.sql`insert into item (name) values (${name})`;
    expect(await names(db)).toEqual(["-", "B", "Z", "_", "a", "b", "é"]);
  });

  test("a transaction that throws leaves nothing behind and tells nobody", async () => {
    const db = await open();
    const heard: unknown[] = [];
    db.onChanged((keys) => heard.push(keys));
    const failed = db.tx(async (tx) => {
      await tx.sql`insert into item (name) values ('a')`;
      tx.changed("a");
      tx.afterCommit(() => heard.push("effect"));
      throw new RegistryError("denied");
    });
    await expect(failed).rejects.toMatchObject({ code: "denied" });
    expect(await names(db)).toEqual([]);
    expect(heard).toEqual([]);
    await db.tx(async (tx) => tx.sql`insert into item (name) values ('b')`);
    expect(await names(db)).toEqual(["b"]);
  });

  test("after a commit keys are told first, then effects run in order, all before tx() resolves", async () => {
    const db = await open();
    const heard: unknown[] = [];
    db.onChanged(() => {
      throw new Error("a listener that fails harms nobody");
    });
    const end = db.onChanged((keys) => heard.push(keys));
    const result = await db.tx(async (tx) => {
      tx.afterCommit(() => heard.push("first"));
      tx.changed("a", "b");
      tx.afterCommit(() => {
        throw new Error("nor does an effect");
      });
      tx.afterCommit(() => heard.push("second"));
      tx.changed("b", "c");
      expect(heard).toEqual([]);
      return "done";
    });
    expect(result).toBe("done");
    expect(heard).toEqual([["a", "b", "c"], "first", "second"]);
    end();
    await db.tx(async (tx) => tx.changed("d"));
    expect(heard).toHaveLength(3);
  });

  test("a transaction sees its own writes, others only what is committed", async () => {
    const db = await open();
    await db.tx(async (tx) => {
      await tx.sql`insert into item (name) values ('a')`;
      expect(await tx.sql`select name from item`).toEqual([{ name: "a" }]);
      expect(await names(db)).toEqual([]);
    });
    expect(await names(db)).toEqual(["a"]);
  });

  test("a failed statement dooms its transaction even when the error is swallowed", async () => {
    const db = await open();
    const failed = db.tx(async (tx) => {
      await tx.sql`insert into item (name) values ('a')`;
      await Promise.resolve(tx.sql`insert into item (name) values ('a')`).catch(() => undefined);
      await Promise.resolve(tx.sql`insert into item (name) values ('b')`).catch(() => undefined);
      return "looks fine";
    });
    expect(isUniqueViolation(await failed.catch((error) => error))).toBe(true);
    expect(await names(db)).toEqual([]);
  });

  test("transactions do not nest, and what outlives one may not write", async () => {
    const db = await open();
    await expect(db.tx(async () => db.tx(async () => 1))).rejects.toThrow("do not nest");
    let late: PromiseLike<unknown> | undefined;
    await db.tx(async (tx) => {
      late = tx.sql`insert into item (name) values ('late')`;
    });
    await expect(Promise.resolve(late)).rejects.toThrow("transaction is over");
    expect(await names(db)).toEqual([]);
    // An effect belongs to what comes after, so it may open the next one.
    const next = Promise.withResolvers<unknown>();
    await db.tx(async (tx) => {
      tx.afterCommit(() => next.resolve(db.tx(async (second) => second.sql`insert into item (name) values ('next')`)));
    });
    await next.promise;
    expect(await names(db)).toEqual(["next"]);
  });

  test("concurrent increments in transactions lose nothing", async () => {
    const db = await open();
    await db.sql`insert into item (name) values ('counter')`;
    const increment = () =>
      db.tx(async (tx) => {
        const [row] = await tx.sql`select due_ms from item where name = 'counter' ${tx.dialect.forUpdate}`;
        await Bun.sleep(Math.random() * 2);
        await tx.sql`update item set due_ms = ${toNumber(row?.due_ms) + 1} where name = 'counter'`;
      });
    await Promise.all(Array.from({ length: 30 }, increment));
    expect(await db.sql`select due_ms from item`).toEqual([{ due_ms: 30 }]);
  });

  test("a second instance hears the keys of the first and not its own twice", async () => {
    const uri = await databases.address();
    const [one, two] = [await open(uri), await open(uri)];
    const heard: { one: unknown[]; two: unknown[] } = { one: [], two: [] };
    one.onChanged((keys) => heard.one.push(keys));
    two.onChanged((keys) => heard.two.push(keys));
    expect([one.hearsChanges, two.hearsChanges]).toEqual([true, true]);
    await one.tx(async (tx) => tx.changed("tag:1", "repository:1"));
    await Bun.sleep(400);
    one.checkChanges();
    expect(heard).toEqual({ one: [["tag:1", "repository:1"]], two: [["tag:1", "repository:1"]] });
    // A write that names no key is nobody else's business.
    await one.sql`insert into item (name) values ('quiet')`;
    await expect(two.tx(async (tx) => Promise.reject(tx.changed("lost")))).rejects.toBeUndefined();
    await two.tx(async (tx) => tx.changed("tag:2"));
    await Bun.sleep(400);
    expect(heard.one).toEqual([["tag:1", "repository:1"], ["tag:2"]]);
    expect(heard.two).toEqual([["tag:1", "repository:1"], ["tag:2"]]);
  });

  test("more keys than a message holds reach the others, one by one or as everything", async () => {
    const uri = await databases.address();
    const [one, two] = [await open(uri), await open(uri)];
    const heard: (readonly string[] | undefined)[] = [];
    two.onChanged((keys) => heard.push(keys));
    const keys = Array.from({ length: 500 }, (_, index) => `repository:${index}:"é"`);
    await one.tx(async (tx) => tx.changed(...keys));
    await Bun.sleep(400);
    expect(heard.flatMap((part) => part ?? ["everything"])).toEqual(keys);
    heard.length = 0;
    await one.tx(async (tx) => tx.changed("x".repeat(9000)));
    await Bun.sleep(400);
    expect(heard).toEqual(databases.engine === "postgres" ? [undefined] : [["x".repeat(9000)]]);
  });

  test("sixteen workers that write leases take each row exactly once", async () => {
    const uri = await databases.address();
    const instances = [await open(uri), await open(uri)];
    const items = 200;
    await instances[0]?.tx(async (tx) => {
      for (let n = 0; n < items; n++) await tx.sql`insert into item (name) values (${`job-${n}`})`;
    });
    const taken: number[] = [];
    const worker = async (db: Database) => {
      for (;;) {
        const rows = await db.sql`/* job.take */ update item set lease_ms = ${1} where lease_ms = 0 and id in (
          select id from item where lease_ms = 0 order by id limit 1 ${db.dialect.skipLocked}) returning id`;
        if (rows.length === 0) {
          const [left] = await db.sql`select count(*) as n from item where lease_ms = 0`;
          if (left?.n === 0) return;
        }
        for (const row of rows) taken.push(toNumber(row.id));
      }
    };
    await Promise.all(Array.from({ length: 16 }, (_, n) => worker(instances[n % 2] as Database)));
    expect(taken).toHaveLength(items);
    expect(new Set(taken).size).toBe(items);
  });

  test("counters grow with queries, rows and transactions", async () => {
    const db = await open();
    const before = { ...db.stats };
    await db.tx(async (tx) => {
      await tx.sql`insert into item (name) values ('a') returning id`;
      await tx.sql`insert into item (name) values ('b')`;
    });
    await names(db);
    expect(db.stats.queries - before.queries).toBe(3);
    expect(db.stats.rows - before.rows).toBe(3);
    expect(db.stats.transactions - before.transactions).toBe(1);
  });

  test("closing waits for what runs and refuses what comes after", async () => {
    const uri = await databases.address();
    const db = await open(uri);
    const running = db.tx(async (tx) => {
      await tx.sql`insert into item (name) values ('a')`;
      await Bun.sleep(50);
      await tx.sql`insert into item (name) values ('b')`;
    });
    await Bun.sleep(10);
    await Promise.all([running, db.close(), db.close()]);
    await expect(Promise.resolve(db.sql`select 1`)).rejects.toMatchObject({ code: "unavailable" });
    await expect(db.tx(async () => 1)).rejects.toMatchObject({ code: "unavailable" });
    expect(await names(await open(uri))).toEqual(["a", "b"]);
  });

  test("a query is timed under its name", async () => {
    const seen: string[] = [];
    const db = await databases.open({ observe: (name, _durationMs, failed) => seen.push(`${name} ${failed}`) });
    await db.sql`/* db.one */ select 1`;
    await db.sql`select 1`;
    await Promise.resolve(db.sql`/* db.broken */ select nothing from nowhere`).catch(() => undefined);
    expect(seen.filter((line) => !line.startsWith("db.ping"))).toEqual([
      "db.one false",
      "unnamed false",
      "db.broken true",
    ]);
  });
});
