/**
 * Runs one test text on every engine that `TEST_DB` names: `sqlite` (default), `postgres` or `both`. Each test opens a
 * database of its own; what it opened is closed and removed after it. `cluster` is PostgreSQL with several instances of Berth
 * on it (`berth.ts`).
 */

import { afterEach, describe, setDefaultTimeout } from "bun:test";
import { join } from "node:path";
import type { Database } from "../../src/db/db.ts";
import { type OpenDatabaseOptions, openDatabase } from "../../src/db/open.ts";
import { createTestDatabase } from "./postgres.ts";
import { makeTempDir, type TempDir } from "./temp-dir.ts";

/**
 * When to call a test hung, where it says nothing of its own. Bun's own bound of 5 s is none for a busy machine, and it ends
 * what a late test has started: the server that all others share.
 */
const TEST_TIMEOUT_MS = 60_000;

export type Engine = "sqlite" | "postgres";

/** The engines that this run tests. Throws on a value that means nothing. */
export function chosenEngines(): Engine[] {
  const chosen = process.env.TEST_DB || "sqlite";
  if (chosen === "both") return ["sqlite", "postgres"];
  if (chosen === "sqlite" || chosen === "postgres") return [chosen];
  if (chosen === "cluster") return ["postgres"];
  throw new Error(`TEST_DB is "${chosen}"; it must be "sqlite", "postgres", "cluster" or "both"`);
}

/** Where one server keeps its metadata, as TEST_DB says: "sqlite" in its data, or the address of a fresh database. */
export async function chooseServerDatabase(): Promise<string> {
  const [engine, ...more] = chosenEngines();
  if (more.length > 0) throw new Error(`TEST_DB is "${process.env.TEST_DB}"; one server speaks to one of them`);
  return engine === "postgres" ? createTestDatabase() : "sqlite";
}

/** Two instances behind a balancer instead of one server. */
export function isCluster(): boolean {
  return process.env.TEST_DB === "cluster";
}

export interface TestDatabases {
  readonly engine: Engine;
  /** Address of an empty database, removed after the test. */
  address(): Promise<string>;
  /** Opens a database, by default a new empty one; closed after the test. Two calls with one address share it. */
  open(options?: Partial<OpenDatabaseOptions>): Promise<Database>;
}

/** A `describe` for each chosen engine. */
export function withDatabases(name: string, tests: (databases: TestDatabases) => void): void {
  setDefaultTimeout(TEST_TIMEOUT_MS);
  for (const engine of chosenEngines()) {
    describe(`${name} (${engine})`, () => {
      const opened: Database[] = [];
      const dirs: TempDir[] = [];
      const address = async (): Promise<string> => {
        if (engine === "postgres") return createTestDatabase();
        const dir = makeTempDir("db");
        dirs.push(dir);
        return `sqlite:///${join(dir.path, "berth.db")}`;
      };
      afterEach(async () => {
        await Promise.all(opened.splice(0).map((db) => db.close()));
        for (const dir of dirs.splice(0)) dir.remove();
      });
      tests({
        engine,
        address,
        open: async (options = {}) => {
          const db = await openDatabase({ ...options, uri: options.uri ?? (await address()) });
          opened.push(db);
          return db;
        },
      });
    });
  }
}
