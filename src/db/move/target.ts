/**
 * The database that a move fills: made ready, kept from other uses while it is half full, and put in order at the end.
 * Foreign keys are off meanwhile: rows come table by table from a source that goes on changing, and what is equal to the
 * source at the end breaks none.
 */

import type { Database, Db, Tx, TxOptions } from "../db.ts";
import { toNumber } from "../decode.ts";
import { migrate, schemaVersion } from "../migrate.ts";
import { migrations } from "../migrations.ts";
import { type Constraint, findMark, lockMark, putMark, removeMark } from "./mark.ts";
import { isEmpty, quote, raw } from "./rows.ts";
import { listTableNames, readTables, type Table } from "./schema.ts";

/** Tables in which a migration leaves a row of its own. */
const SEEDED: ReadonlySet<string> = new Set(["log_rotation"]);

/** For transactions that read whole tables, for which limits on time were not meant. */
export const WHOLE_TABLES: TxOptions = { timeLimits: false };

export interface Claim {
  /** The source's id. */
  readonly id: string;
  /** Its address without the password. */
  readonly from: string;
  /** This process. */
  readonly run: string;
}

/**
 * Makes the schema where there is none and marks the database as this move's. Throws an Error that says what is there when
 * it is not empty, unless that is a half-done move of the same source.
 */
export async function claimTarget(db: Database, claim: Claim): Promise<void> {
  const before = await schemaVersion(db);
  if (before === 0) {
    const names = (await listTableNames(db)).filter((name) => name !== "berth_change");
    if (names.length > 0) {
      throw new Error(
        `The target holds tables that are not Berth's (${names.slice(0, 5).join(", ")}); give it an empty database.`,
      );
    }
  } else {
    const mark = await findMark(db);
    if (mark?.state === "source" && mark.id === claim.id) {
      throw new Error("--from and --to name the same database.");
    }
    if (mark !== undefined && (mark.state !== "target" || mark.id !== claim.id)) {
      const what = mark.state === "target" ? `an unfinished move from "${mark.from}"` : "a registry of its own";
      throw new Error(`The target holds ${what}; give it an empty database.`);
    }
    // Empty and older is what a kill in the middle of the migrations leaves: they go on below.
    if (mark === undefined) await requireEmpty(db);
    else if (before !== migrations.length) {
      throw new Error(
        `The target's schema is at version ${before} and this program's at ${migrations.length}; give it an empty database.`,
      );
    }
  }
  await migrate(db, migrations);
  await db.tx(async (tx) => {
    const mark = await lockMark(tx);
    const known = mark?.state === "target" ? mark.constraints : [];
    const constraints = [...known, ...(await dropForeignKeys(tx))];
    await putMark(tx, { state: "target", ...claim, constraints });
  });
  // Only for this connection, and none but this process writes here.
  if (db.engine === "sqlite") await db.sql`/* move.keys_off */ pragma foreign_keys = off`;
}

/** Inside every transaction that writes to the target. Throws when another move has claimed it since. */
export async function requireClaim(tx: Tx, { run }: Claim): Promise<void> {
  const mark = await lockMark(tx);
  if (mark?.state === "target" && mark.run === run) return;
  throw new Error("Another berth migrate is writing to the target now; this one has ended without harm.");
}

/** Ids go on where the source's were: none is given twice, also of rows that are gone. */
export async function continueIds(from: Db, to: Tx, tables: readonly Table[]): Promise<void> {
  for (const table of tables) {
    if (table.identity === undefined) continue;
    const column = raw(quote(table.identity));
    const [row] = await from.sql`/* move.max_id */
      select coalesce(max(${column}), 0) as id from ${raw(quote(table.name))}`;
    const last = Math.max(toNumber(row?.id), await lastId(from, table.name, table.identity));
    if (last > 0) await setLastId(to, table.name, table.identity, last);
  }
}

/** Puts the foreign keys back and checks them, after which instances may start here. */
export async function finishTarget(db: Database, claim: Claim): Promise<void> {
  await db.tx(async (tx) => {
    await requireClaim(tx, claim);
    const mark = await lockMark(tx);
    if (mark?.state !== "target") return;
    for (const { table, name, definition } of mark.constraints) {
      await tx.script(`alter table ${quote(table)} add constraint ${quote(name)} ${definition} not valid`);
    }
    await putMark(tx, { ...mark, constraints: [] });
  });
  if (db.engine === "postgres") {
    for (const { table, name } of await listForeignKeys(db, false)) {
      await db.tx((tx) => tx.script(`alter table ${quote(table)} validate constraint ${quote(name)}`), WHOLE_TABLES);
    }
    await analyze(db);
  } else {
    await db.sql`/* move.keys_on */ pragma foreign_keys = on`;
  }
  await db.tx(async (tx) => {
    await requireClaim(tx, claim);
    await removeMark(tx);
  });
}

/** A table that was filled a moment ago has no statistics, and PostgreSQL would plan for an empty one. */
export async function analyze(db: Database): Promise<void> {
  if (db.engine === "postgres") await db.tx((tx) => tx.script("analyze"), WHOLE_TABLES);
}

async function requireEmpty(db: Db): Promise<void> {
  for (const table of await readTables(db)) {
    if (SEEDED.has(table.name) || (await isEmpty(db, table))) continue;
    throw new Error(`The target is not empty: there are rows in its table "${table.name}". Give it an empty database.`);
  }
}

/** PostgreSQL only: SQLite's are switched off per connection. Gives what is to be put back. */
async function dropForeignKeys(tx: Tx): Promise<readonly Constraint[]> {
  if (tx.engine === "sqlite") return [];
  const constraints = await listForeignKeys(tx, true);
  for (const { table, name } of constraints) {
    await tx.script(`alter table ${quote(table)} drop constraint ${quote(name)}`);
  }
  return constraints;
}

async function listForeignKeys(db: Db, validated: boolean): Promise<Constraint[]> {
  const rows = await db.sql<{ table: string; name: string; definition: string }>`/* move.foreign_keys */
    select c.relname as "table", k.conname as name, pg_get_constraintdef(k.oid) as definition
    from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = current_schema() and k.contype = 'f' and k.convalidated = ${validated}
    order by c.relname, k.conname`;
  return rows.map(({ table, name, definition }) => ({ table, name, definition }));
}

async function lastId(db: Db, table: string, column: string): Promise<number> {
  if (db.engine === "sqlite") {
    const [row] = await db.sql`/* move.last_id */ select seq from sqlite_sequence where name = ${table}`;
    return row === undefined ? 0 : toNumber(row.seq);
  }
  const sequence = raw(await sequenceOf(db, table, column));
  const [row] = await db.sql`/* move.last_id */
    select case when is_called then last_value else 0 end as seq from ${sequence}`;
  return toNumber(row?.seq);
}

async function setLastId(tx: Tx, table: string, column: string, last: number): Promise<void> {
  if (tx.engine === "sqlite") {
    await tx.sql`/* move.forget_id */ delete from sqlite_sequence where name = ${table}`;
    await tx.sql`/* move.set_id */ insert into sqlite_sequence (name, seq) values (${table}, ${last})`;
    return;
  }
  const sequence = await sequenceOf(tx, table, column);
  await tx.sql`/* move.set_id */ select setval(cast(${sequence} as regclass), ${last})`;
}

async function sequenceOf(db: Db, table: string, column: string): Promise<string> {
  const [row] = await db.sql<{ name: string | null }>`/* move.sequence */
    select pg_get_serial_sequence(${quote(table)}, ${column}) as name`;
  if (!row?.name) throw new Error(`Column "${table}.${column}" has no sequence.`);
  return row.name;
}
