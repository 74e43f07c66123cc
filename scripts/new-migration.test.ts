/** A new migration is in the program's list, in order, and the list still loads. */
import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Migration } from "../src/db/migrate.ts";
import { makeTempDir } from "../test/support/temp-dir.ts";
import { addMigration } from "./new-migration.ts";
import { rootDir } from "./parts.ts";

const dir = makeTempDir("migration");
afterAll(() => dir.remove());
mkdirSync(join(dir.path, "src", "db"), { recursive: true });
cpSync(join(rootDir, "sql"), join(dir.path, "sql"), { recursive: true });
const listFile = join(dir.path, "src", "db", "migrations.ts");
cpSync(join(rootDir, "src", "db", "migrations.ts"), listFile);

async function load(version: number): Promise<readonly Migration[]> {
  // A module is loaded once for each name.
  const copy = join(dir.path, "src", "db", `migrations-${version}.ts`);
  writeFileSync(copy, readFileSync(listFile));
  return ((await import(copy)) as { migrations: readonly Migration[] }).migrations;
}

test("a shared text and a pair are added after the last", async () => {
  const before = (await load(0)).length;
  const [shared = ""] = addMigration(dir.path, "add_quota_limits", false);
  writeFileSync(shared, "select 1;\n");
  expect((await load(1)).at(-1)).toEqual({ id: before + 1, name: "add_quota_limits", text: "select 1;\n" });

  const [sqlite = "", postgres = ""] = addMigration(dir.path, "teach_search", true);
  writeFileSync(sqlite, "select 2;\n");
  writeFileSync(postgres, "select 3;\n");
  const after = await load(2);
  expect(after.map(({ id }) => id)).toEqual(after.map((_, index) => index + 1));
  expect(after.at(-1)?.text).toEqual({ sqlite: "select 2;\n", postgres: "select 3;\n" });
});

test("a bad name changes nothing", () => {
  const files = readdirSync(join(dir.path, "sql"));
  const list = readFileSync(listFile, "utf8");
  for (const name of ["", "Add", "add-quota", "../x", "a b"]) {
    expect(() => addMigration(dir.path, name, false)).toThrow("is no name for a migration");
  }
  expect(readdirSync(join(dir.path, "sql"))).toEqual(files);
  expect(readFileSync(listFile, "utf8")).toBe(list);
});
