/** The full run leaves no test file out and meets both databases. */
import { expect, test } from "bun:test";
import { testFilesIn } from "./parts.ts";
import { allParts } from "./test.ts";

test("every test file is in a part, and the black-box suites run on a disk and in a cluster", () => {
  const parts = allParts();
  const run = new Set(parts.flatMap(({ command }) => command));
  const all = ["src", "scripts", "test"].flatMap(testFilesIn);
  expect(all.length).toBeGreaterThan(20);
  expect(all.filter((file) => !run.has(`./${file}`))).toEqual([]);
  const names = parts.map(({ name }) => name);
  for (const folder of ["api", "clients", "conformance", "registry"]) {
    expect(names).toContain(`${folder} (sqlite)`);
    expect(names).toContain(`${folder} (cluster)`);
  }
  expect(parts.find(({ name }) => name === "registry (cluster)")?.env).toMatchObject({ TEST_DB: "cluster" });
});

test("where no S3 server can be had, the same suites run on one instance with PostgreSQL and a disk", () => {
  const parts = allParts({ s3: null });
  const run = new Set(parts.flatMap(({ command }) => command));
  expect(testFilesIn("test").filter((file) => !run.has(`./${file}`))).toEqual([]);
  expect(parts.map(({ name }) => name)).toContain("registry (postgres)");
  expect(parts.every(({ env }) => env?.TEST_DB !== "cluster")).toBe(true);
});

test("a part waits for what it uses and for nothing else", async () => {
  const s3 = Promise.resolve({ TEST_S3_URI: "shared" });
  const parts = allParts({ s3, go: Promise.resolve() });
  const found = async (name: string) => await parts.find((part) => part.name === name)?.after;
  expect(await found("registry (sqlite)")).toBeUndefined();
  expect(await found("registry (cluster)")).toEqual({ TEST_S3_URI: "shared" });
  expect(await found("storage (s3)")).toEqual({ TEST_S3_URI: "shared" });
  expect(await found("registry (own stores)")).toEqual({ TEST_S3_URI: "shared" });
  expect(await found("conformance (sqlite)")).toEqual({});
  expect(await found("conformance (cluster)")).toEqual({ TEST_S3_URI: "shared" });
});

test("the oldest and the newest PostgreSQL are both met", () => {
  const parts = allParts({ postgresUri: "new", olderPostgresUri: "old" });
  const uriOf = (name: string) => parts.find((part) => part.name === name)?.env?.TEST_POSTGRES_URI;
  expect(uriOf("database layer")).toBe("new");
  expect(uriOf("database layer (postgres 15)")).toBe("old");
  expect(uriOf("db (postgres 15)")).toBe("old");
  expect(uriOf("api (cluster)")).toBe("old");
  expect(uriOf("registry (cluster)")).toBe("new");
});

test("no two parts have one name", () => {
  const names = allParts().map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
