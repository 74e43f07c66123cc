/** The word index: what it holds of a name, and that the migration filled it as new repositories do. */

import { expect, test } from "bun:test";
import { withDatabases } from "../../../test/support/database.ts";
import type { Database, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { migrate } from "../../db/migrate.ts";
import { migrations } from "../../db/migrations.ts";
import { deleteWords, insertWords, setWordsVisibility } from "./words.ts";

const NAMES = ["web", "api/web-ui", "a.b_c-d/e", "trailing-", "two--dashes", "0", `${"x-".repeat(127)}y`];

async function insertRepository(tx: Tx, name: string, visibility: "public" | "private" = "private"): Promise<number> {
  const [row] = await tx.sql<{ id: number }>`/* test.repository */
    insert into repository (namespace_id, name, path, visibility, created_ms)
    values (1, ${name}, ${`alice/${name}`}, ${visibility}, 1) returning id`;
  return toNumber(row?.id);
}

async function insertOwner(db: Database): Promise<void> {
  await db.tx(async (tx) => {
    await tx.sql`/* test.account */
      insert into account (id, uuid, kind, username, tag_expiration_s, created_ms) values (1, 'u', 'user', 'alice', 1, 1)`;
  });
}

async function wordsIn(db: Database): Promise<{ path: string; words: string[]; public: boolean[] }[]> {
  const rows = await db.sql<{ path: string; word: string; public: unknown }>`/* test.words */
    select r.path, w.word, w.public from repository_word w join repository r on r.id = w.repository_id
    where w.namespace_id = r.namespace_id order by r.path, w.word`;
  const paths = [...new Set(rows.map(({ path }) => path))];
  return paths.map((path) => {
    const own = rows.filter((row) => row.path === path);
    return { path, words: own.map(({ word }) => word), public: own.map((row) => toBoolean(row.public)) };
  });
}

withDatabases("words of repository names", ({ open }) => {
  test("begin after each separator and hold the name from there on", async () => {
    const db = await open();
    await migrate(db, migrations);
    await insertOwner(db);
    await db.tx(async (tx) => {
      for (const name of NAMES) await insertWords(tx, { id: await insertRepository(tx, name), name });
    });
    const words = Object.fromEntries((await wordsIn(db)).map((row) => [row.path, row.words]));
    expect(words["alice/web"]).toEqual(["web"]);
    expect(words["alice/api/web-ui"]).toEqual(["api/web-ui", "ui", "web-ui"]);
    expect(words["alice/a.b_c-d/e"]).toEqual(["a.b_c-d/e", "b_c-d/e", "c-d/e", "d/e", "e"]);
    expect(words["alice/trailing-"]).toEqual(["trailing-"]);
    expect(words["alice/two--dashes"]).toEqual(["dashes", "two--dashes"]);
    expect(words[`alice/${NAMES.at(-1)}`]).toHaveLength(128);
  });

  test("of repositories that were there before are the same", async () => {
    const fresh = await open();
    await migrate(fresh, migrations);
    await insertOwner(fresh);
    await fresh.tx(async (tx) => {
      for (const name of NAMES) await insertWords(tx, { id: await insertRepository(tx, name, "public"), name });
    });
    const upgraded = await open();
    const search = migrations.findIndex(({ name }) => name === "search");
    await migrate(upgraded, migrations.slice(0, search));
    await insertOwner(upgraded);
    await upgraded.tx(async (tx) => {
      for (const name of NAMES) await insertRepository(tx, name, "public");
      const gone = await insertRepository(tx, "gone-away");
      await tx.sql`/* test.gone */ update repository set deleted_ms = 1 where id = ${gone}`;
    });
    await migrate(upgraded, migrations);
    const words = await wordsIn(upgraded);
    expect(words).toEqual(await wordsIn(fresh));
    expect(words.flatMap((row) => row.public)).not.toContain(false);
  });

  test("follow the repository's visibility and its end", async () => {
    const db = await open();
    await migrate(db, migrations);
    await insertOwner(db);
    const id = await db.tx(async (tx) => {
      const made = await insertRepository(tx, "a-b");
      await insertWords(tx, { id: made, name: "a-b" });
      await setWordsVisibility(tx, made, "public");
      return made;
    });
    expect((await wordsIn(db))[0]?.public).toEqual([true, true]);
    await db.tx((tx) => deleteWords(tx, id));
    expect(await wordsIn(db)).toEqual([]);
  });
});
