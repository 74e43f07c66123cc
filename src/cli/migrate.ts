/** `berth migrate`: brings the schema up to date and says what it did; `serve` does the same at start. */

import { bootDatabase, bootLogger } from "../boot.ts";
import { migrate } from "../db/migrate.ts";
import { migrations } from "../db/migrations.ts";
import { EXIT, type Invocation } from "./invocation.ts";
import { loadFor } from "./load.ts";

export async function migrateCommand(invocation: Invocation): Promise<number> {
  const { config } = loadFor(invocation);
  const db = await bootDatabase(config, bootLogger(config));
  try {
    const applied = await migrate(db, migrations);
    const what = applied.length === 0 ? "the schema is up to date" : `applied migrations ${applied.join(", ")}`;
    process.stdout.write(`${what}\n`);
    return EXIT.ok;
  } finally {
    await db.close();
  }
}
