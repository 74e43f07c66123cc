/**
 * `berth migrate`: brings the schema up to date and says what it did; `serve` does the same at start. With `--from` and `--to`
 * it moves the registry to another database, with `--check` it compares two, and `--reopen` takes a move back.
 */

import { bootDatabase, bootLogger } from "../boot.ts";
import { migrate } from "../db/migrate.ts";
import { migrations } from "../db/migrations.ts";
import { requireUsable } from "../db/move/mark.ts";
import { EXIT, type Invocation } from "./invocation.ts";
import { loadFor } from "./load.ts";

export async function migrateCommand(invocation: Invocation): Promise<number> {
  const { options, env } = invocation;
  const names = [options.from, options.to, env.BERTH_MIGRATE_FROM, env.BERTH_MIGRATE_TO];
  const isMove = options.check === true || options.reopen === true || names.some(Boolean);
  if (isMove) return (await import("./migrate-move.ts")).moveCommand(invocation);
  const { config } = loadFor(invocation);
  const db = await bootDatabase(config, bootLogger(config));
  try {
    await requireUsable(db);
    const applied = await migrate(db, migrations);
    const what = applied.length === 0 ? "the schema is up to date" : `applied migrations ${applied.join(", ")}`;
    process.stdout.write(`${what}\n`);
    return EXIT.ok;
  } finally {
    await db.close();
  }
}
