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

test("no two parts have one name", () => {
  const names = allParts().map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
