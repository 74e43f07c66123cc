/** Migrations on every engine that TEST_DB names, and the schema that this program carries. */

import { expect, test } from "bun:test";
import { withDatabases } from "../../test/support/database.ts";
import { expandTokens } from "./dialect.ts";
import { type Migration, migrate, schemaVersion } from "./migrate.ts";
import { migrations } from "./migrations.ts";

const one: Migration = { id: 1, name: "init", text: "create table a (id {{id}}, n bigint not null); -- a; b\n" };
const two: Migration = { id: 2, name: "more", text: "create table b (id {{id}}); insert into a (n) values (7);" };

withDatabases("migrate", (databases) => {
  test("runs what is missing, once, and notes when", async () => {
    const db = await databases.open();
    expect(await schemaVersion(db)).toBe(0);
    expect(await migrate(db, [one], () => 1000)).toEqual([1]);
    expect(await migrate(db, [one, two], () => 2000)).toEqual([2]);
    expect(await migrate(db, [one, two])).toEqual([]);
    expect(await schemaVersion(db)).toBe(2);
    expect(await db.sql`select id, name, applied_ms from schema_migration order by id`).toEqual([
      { id: 1, name: "init", applied_ms: 1000 },
      { id: 2, name: "more", applied_ms: 2000 },
    ]);
    expect(await db.sql`select n from a`).toEqual([{ n: 7 }]);
  });

  test("four instances that start at once apply each migration once", async () => {
    const uri = await databases.address();
    const instances = await Promise.all([1, 2, 3, 4].map(() => databases.open({ uri })));
    const done = await Promise.all(instances.map((db) => migrate(db, [one, two])));
    expect(done.flat().sort()).toEqual([1, 2]);
    for (const db of instances) expect(await db.sql`select n from a`).toEqual([{ n: 7 }]);
  });

  test("a schema newer than the program is refused", async () => {
    const db = await databases.open();
    await migrate(db, [one, two]);
    await expect(migrate(db, [one])).rejects.toThrow('migration 2 "more", but this program knows only 1');
  });

  test("an applied migration that was changed since is refused", async () => {
    const db = await databases.open();
    await migrate(db, [one]);
    await expect(migrate(db, [{ ...one, text: "create table c (id {{id}})" }])).rejects.toThrow(
      "never change once applied",
    );
  });

  test("one that fails changes nothing, and runs when it is mended", async () => {
    const db = await databases.open();
    const broken: Migration = {
      id: 2,
      name: "more",
      text: "create table b (id {{id}}); insert into nowhere values (1);",
    };
    await expect(migrate(db, [one, broken])).rejects.toThrow('Migration 2 "more" failed and changed nothing');
    expect(await schemaVersion(db)).toBe(1);
    expect(await migrate(db, [one, two])).toEqual([2]);
  });

  test("a migration may have a text per engine", async () => {
    const db = await databases.open();
    const pair = { sqlite: "create table only_sqlite (n int)", postgres: "create table only_postgres (n int)" };
    await migrate(db, [{ id: 1, name: "pair", text: pair }]);
    const query = db.engine === "sqlite" ? db.sql`select n from only_sqlite` : db.sql`select n from only_postgres`;
    expect(await query).toEqual([]);
  });

  test("prepared queries survive a migration that adds a column", async () => {
    const db = await databases.open();
    await migrate(db, [one]);
    const read = () => db.sql`select * from a`;
    await db.sql`insert into a (n) values (${1})`;
    expect(await read()).toEqual([{ id: 1, n: 1 }]);
    await migrate(db, [one, { id: 2, name: "column", text: "alter table a add column extra text" }]);
    expect(await read()).toEqual([{ id: 1, n: 1, extra: null }]);
  });

  test("the embedded migrations make the schema", async () => {
    const db = await databases.open();
    expect(await migrate(db, migrations)).toEqual(migrations.map((migration) => migration.id));
  });

  test("policies outlive the table that is made anew for another method", async () => {
    const db = await databases.open();
    await migrate(
      db,
      migrations.filter(({ id }) => id < 13),
    );
    const insert = async (uuid: string, method: string, pattern: string | null) =>
      await db.sql`/* test.policy */
      insert into autoprune_policy (uuid, namespace_id, method, value, tag_pattern, tag_pattern_matches, created_ms)
      values (${uuid}, 1, ${method}, '5d', ${pattern}, false, 7)`;
    await db.sql`/* test.account */
      insert into account (id, uuid, kind, username, tag_expiration_s, created_ms) values (1, 'u', 'user', 'u', 0, 0)`;
    for (const [uuid, pattern] of [["b", "^v"] as const, ["a", null] as const])
      await insert(uuid, "creation_date", pattern);
    const read = () => db.sql`/* test.policies */
      select uuid, namespace_id, repository_id, method, value, tag_pattern, created_ms from autoprune_policy
      where not tag_pattern_matches order by id`;
    const before = await read();
    expect(before).toHaveLength(2);
    await expect(insert("c", "last_pull_date", null)).rejects.toThrow();
    await migrate(db, migrations);
    expect(await read()).toEqual(before);
    await insert("c", "last_pull_date", null);
    await expect(insert("d", "last_pull_date", null)).rejects.toThrow();
    expect((await read()).map((row) => row.uuid)).toEqual(["b", "a", "c"]);
  });
});

test("an unknown token is named", () => {
  expect(() => expandTokens("create table a (id {{serial}})", "sqlite")).toThrow('"{{serial}}"');
});

test("migrations out of order are refused", async () => {
  const [first] = [{ ...one, id: 3 }];
  const unused = undefined as never;
  await expect(migrate(unused, [first])).rejects.toThrow('Migration 3 "init" stands at place 1');
});
