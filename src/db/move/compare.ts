/** Compares two databases row by row and changes neither: what `berth migrate --check` does. */

import type { Database } from "../db.ts";
import type { MoveProgress } from "./move.ts";
import { digestBoth, eachRange, textOf } from "./pass.ts";
import { listHashes, type Range } from "./rows.ts";
import { readTables, requireSameTables, type Table } from "./schema.ts";

/** Keys that are named for each table; the rest is only counted. */
const EXAMPLES_MAX = 5;

export interface TableComparison {
  readonly name: string;
  /** Rows of the source. */
  rows: number;
  /** In the source and not in the target, the other way round, and in both but not alike. */
  missing: number;
  extra: number;
  different: number;
  /** Keys of such rows, as JSON. */
  readonly examples: string[];
}

/** Every table, by name. Both databases must have this program's schema. */
export async function compareDatabases(
  from: Database,
  to: Database,
  onProgress: (progress: MoveProgress) => void,
): Promise<TableComparison[]> {
  const tables = await readTables(from);
  requireSameTables(tables, await readTables(to));
  const results: TableComparison[] = [];
  let rows = 0;
  for (const [index, table] of tables.entries()) {
    const result = { name: table.name, rows: 0, missing: 0, extra: 0, different: 0, examples: [] };
    await eachRange(from, table, async (range) => {
      const [here, there] = await digestBoth(from, to, table, range);
      result.rows += here.count;
      rows += here.count;
      if (here.hash !== there.hash) await compareRange(from, to, table, range, result);
      onProgress({ phase: "check", table: table.name, tablesDone: index, tables: tables.length, rows });
      return () => undefined;
    });
    results.push(result);
  }
  return results;
}

async function compareRange(
  from: Database,
  to: Database,
  table: Table,
  range: Range,
  result: TableComparison,
): Promise<void> {
  const wanted = new Map<string, string>();
  for await (const page of listHashes(from, table, range))
    for (const { key, hash } of page) wanted.set(textOf(key), hash);
  const note = (kind: "missing" | "extra" | "different", key: string) => {
    result[kind]++;
    if (result.examples.length < EXAMPLES_MAX) result.examples.push(`${key} ${kind}`);
  };
  for await (const page of listHashes(to, table, range)) {
    for (const { key, hash } of page) {
      const text = textOf(key);
      const own = wanted.get(text);
      wanted.delete(text);
      if (own === undefined) note("extra", text);
      else if (own !== hash) note("different", text);
    }
  }
  for (const key of wanted.keys()) note("missing", key);
}
