/**
 * Brings the schema forward: numbered texts, each in a transaction of its own, under a lock that lets several instances
 * start at once. There is no way back; a schema newer than this program is refused.
 */

import { createHash } from "node:crypto";
import type { Database, Db, Tx } from "./db.ts";
import { toNumber } from "./decode.ts";
import { expandTokens } from "./dialect.ts";

export interface Migration {
  /** From 1, without gaps. */
  readonly id: number;
  /** The file's name without number and ending, such as `init`. */
  readonly name: string;
  /** One portable text with `{{tokens}}`, or one per engine where that cannot be. */
  readonly text: string | Readonly<Record<Db["engine"], string>>;
}

/** Any number that no other user of the same PostgreSQL database would take for an advisory lock of its own: "brth". */
const advisoryLockKey = 0x62727468;

interface Applied {
  readonly id: number;
  readonly name: string;
  readonly checksum: string;
}

/**
 * Applies what is missing, in order, and gives the ids it applied. Throws an Error that names the migration when the
 * schema is newer than `migrations`, when an applied one was changed since, or when one fails (which changes nothing).
 */
export async function migrate(
  db: Database,
  migrations: readonly Migration[],
  nowMs: () => number = Date.now,
): Promise<number[]> {
  migrations.forEach((migration, index) => {
    if (migration.id !== index + 1)
      throw new Error(`Migration ${migration.id} "${migration.name}" stands at place ${index + 1}.`);
  });
  // The usual start finds nothing to do and takes no lock for it.
  const applied = (await hasTable(db)) ? await listApplied(db) : [];
  requireKnown(db.engine, applied, migrations);

  const done: number[] = [];
  for (const migration of migrations.slice(applied.length)) {
    const ran = await db.tx(
      async (tx) => {
        await lock(tx);
        const now = await listApplied(tx);
        requireKnown(tx.engine, now, migrations);
        // Another instance was faster.
        if (now.length >= migration.id) return false;
        await run(tx, migration, nowMs());
        return true;
      },
      { timeLimits: false },
    );
    if (ran) done.push(migration.id);
  }
  return done;
}

/** The id of the newest applied migration, 0 for an empty database. */
export async function schemaVersion(db: Db): Promise<number> {
  return (await hasTable(db)) ? (await listApplied(db)).length : 0;
}

async function run(tx: Tx, migration: Migration, nowMs: number): Promise<void> {
  const { id, name } = migration;
  try {
    await tx.script(expandTokens(textFor(migration, tx.engine), tx.engine));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Migration ${id} "${name}" failed and changed nothing: ${reason}`, { cause: error });
  }
  await tx.sql`/* migrate.insert */ insert into schema_migration (id, name, applied_ms, checksum)
    values (${id}, ${name}, ${nowMs}, ${checksum(migration, tx.engine)})`;
}

/** On SQLite an open transaction is the lock. On PostgreSQL it is let go at the end of the transaction. */
async function lock(tx: Tx): Promise<void> {
  if (tx.engine === "postgres") await tx.sql`/* migrate.lock */ select pg_advisory_xact_lock(${advisoryLockKey})`;
  await tx.script(`create table if not exists schema_migration (
    id bigint not null primary key, name text not null, applied_ms bigint not null, checksum text not null)`);
}

async function hasTable(db: Db): Promise<boolean> {
  const rows =
    db.engine === "sqlite"
      ? await db.sql`/* migrate.has_table */ select 1 as found from sqlite_schema where name = 'schema_migration'`
      : await db.sql`/* migrate.has_table */ select 1 as found where to_regclass('schema_migration') is not null`;
  return rows.length > 0;
}

async function listApplied(db: Db): Promise<Applied[]> {
  const rows = await db.sql`/* migrate.list */ select id, name, checksum from schema_migration order by id`;
  return rows.map((row) => ({ id: toNumber(row.id), name: String(row.name), checksum: String(row.checksum) }));
}

function requireKnown(engine: Db["engine"], applied: readonly Applied[], migrations: readonly Migration[]): void {
  applied.forEach((row, index) => {
    const known = migrations[row.id - 1];
    if (known === undefined) {
      throw new Error(
        `The database has migration ${row.id} "${row.name}", but this program knows only ${migrations.length}: the database was used by a newer version. Start that version, or restore a backup made before it.`,
      );
    }
    if (row.id !== index + 1 || row.checksum !== checksum(known, engine)) {
      throw new Error(
        `Migration ${row.id} was applied as "${row.name}" with another text than this program's "${known.name}". Migrations never change once applied: start the version that made this database.`,
      );
    }
  });
}

function textFor(migration: Migration, engine: Db["engine"]): string {
  return typeof migration.text === "string" ? migration.text : migration.text[engine];
}

function checksum(migration: Migration, engine: Db["engine"]): string {
  return createHash("sha256").update(textFor(migration, engine)).digest("hex");
}
