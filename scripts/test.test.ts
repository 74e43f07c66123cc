/** The full run leaves no test file out and meets both databases. */
import { expect, test } from "bun:test";
import { testFilesIn } from "./parts.ts";
import { allParts } from "./test.ts";

test("every test file is in a part, and the black-box suites run on both databases", () => {
  const parts = allParts();
  const run = new Set(parts.flatMap(({ command }) => command));
  const all = ["src", "scripts", "test"].flatMap(testFilesIn);
  expect(all.length).toBeGreaterThan(20);
  expect(all.filter((file) => !run.has(`./${file}`))).toEqual([]);
  expect(parts.map(({ name }) => name)).toContain("registry (sqlite)");
  expect(parts.map(({ name }) => name)).toContain("registry (postgres)");
  expect(parts.find(({ name }) => name === "registry (postgres)")?.env).toMatchObject({ TEST_DB: "postgres" });
});

test("the oldest and the newest PostgreSQL are both met", () => {
  const parts = allParts({ postgresUri: "new", olderPostgresUri: "old" });
  const uriOf = (name: string) => parts.find((part) => part.name === name)?.env?.TEST_POSTGRES_URI;
  expect(uriOf("database layer")).toBe("new");
  expect(uriOf("database layer (postgres 15)")).toBe("old");
  expect(uriOf("db (postgres 15)")).toBe("old");
  expect(uriOf("api (postgres)")).toBe("old");
  expect(uriOf("registry (postgres)")).toBe("new");
});

test("no two parts have one name", () => {
  const names = allParts().map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
