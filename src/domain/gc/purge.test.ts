/** A table that a later migration brings must not be forgotten when a repository or an account is removed. */

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..", "..", "..");
const text = (...path: string[]) => readFileSync(join(root, ...path), "utf8");

/** Tables with a column that refers to `target`, as the database itself lists them. */
function referrersOf(target: string): string[] {
  const db = new Database(":memory:");
  db.run(text("sql", "schema.sql"));
  const tables = db.query<{ name: string }, []>("select name from sqlite_schema where type = 'table'").all();
  const found = tables.filter(({ name }) =>
    db
      .query<{ table: string }, []>(`pragma foreign_key_list("${name}")`)
      .all()
      .some(({ table }) => table === target),
  );
  return found.map(({ name }) => name).sort();
}

const sources: Record<string, string[]> = {
  repository: ["gc/purge-repository.ts", "gc/manifests.ts"],
  manifest: ["gc/purge-repository.ts", "gc/manifests.ts"],
  account: ["gc/purge-namespace.ts", "gc/purge-repository.ts", "namespace/end-rights.ts"],
  team: ["gc/purge-namespace.ts", "namespace/end-rights.ts"],
  blob: ["gc/blobs.ts", "gc/links.ts", "gc/manifests.ts", "gc/purge-namespace.ts"],
};

for (const [target, files] of Object.entries(sources)) {
  test(`every table that refers to ${target} is emptied before a row of it goes`, () => {
    const code = files.map((file) => text("src", "domain", ...file.split("/"))).join("\n");
    const emptied = (table: string) => new RegExp(`(delete from|update) ${table}\\b`).test(code);
    expect(referrersOf(target).length).toBeGreaterThan(0);
    expect(referrersOf(target).filter((table) => !emptied(table))).toEqual([]);
  });
}
