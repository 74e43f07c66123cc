/**
 * A process of its own that writes to a SQLite database, for tests that trace its fsyncs or make them fail:
 * `PATH one` commits once and prints a line after it, `PATH many` commits 200 times at once, `PATH relaxed` commits without
 * waiting; each prints "done", or the code it was refused with.
 */

import { writeSync } from "node:fs";
import { openSqlite } from "../../src/db/sqlite.ts";
import { RegistryError } from "../../src/errors.ts";

const [path = "", mode = ""] = process.argv.slice(2);
const db = await openSqlite({ path });
const insert = (n: number, durable = true) =>
  db.tx(async (tx) => void (await tx.sql`insert into t (n) values (${n})`), { durable });

async function attempt(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return "done";
  } catch (error) {
    if (error instanceof RegistryError) return error.code;
    throw error;
  }
}

if (mode === "one") {
  writeSync(1, `${await attempt(() => insert(1))}\n`);
  writeSync(1, `${await attempt(() => insert(2))}\n`);
}
if (mode === "many") {
  const all = Array.from({ length: 200 }, (_, n) => insert(n));
  writeSync(1, `${await attempt(() => Promise.all(all))}\n`);
}
if (mode === "relaxed") writeSync(1, `${await attempt(() => insert(1, false))}\n`);
// Without closing: that would fsync too, and the parent counts.
process.exit(0);
