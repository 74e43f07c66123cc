/**
 * What a database holds, read from the database itself: tables, columns and keys in one shape for both engines. A move works
 * from this list alone, so a table that a later migration brings cannot be forgotten.
 */

import type { Db } from "../db.ts";
import { toNumber } from "../decode.ts";

/** How a value travels: the four things that Berth keeps in columns. */
export type ColumnKind = "integer" | "text" | "boolean" | "bytes";

export interface Column {
  readonly name: string;
  readonly kind: ColumnKind;
  /** False where PostgreSQL sorts it by a language's rules instead of by its bytes. */
  readonly sortsByBytes: boolean;
}

export interface Table {
  readonly name: string;
  /** In the table's order, without generated ones, which each database makes by itself. */
  readonly columns: readonly Column[];
  /** Primary key, in its own order. */
  readonly key: readonly Column[];
  /** The column whose values a sequence gives out, if there is one. */
  readonly identity: string | undefined;
}

/** What tells a lease of a worker; the column goes with the time of the same table. */
const LEASE_OWNER = "lease_owner";
const LEASE_UNTIL = "lease_until_ms";

/**
 * Tables that belong to one database and stay there: which migrations it has seen, and what SQLite's processes tell each
 * other.
 */
const OWN_TABLES: ReadonlySet<string> = new Set(["schema_migration", "berth_change"]);

const KINDS: Readonly<Record<string, ColumnKind>> = {
  integer: "integer",
  bigint: "integer",
  text: "text",
  boolean: "boolean",
  blob: "bytes",
  bytea: "bytes",
};

interface ColumnRow {
  table_name: string;
  column_name: string;
  type: string;
  collation: string | null;
  is_identity: unknown;
  /** Place in the primary key from 1, 0 outside of it. */
  key_place: unknown;
}

/** The tables that are to be moved, by name. Throws when one has no primary key or a column of an unknown type. */
export async function readTables(db: Db): Promise<Table[]> {
  const rows = db.engine === "sqlite" ? await sqliteColumns(db) : await postgresColumns(db);
  const byTable = new Map<string, ColumnRow[]>();
  for (const row of rows) {
    if (OWN_TABLES.has(row.table_name)) continue;
    const columns = byTable.get(row.table_name);
    if (columns) columns.push(row);
    else byTable.set(row.table_name, [row]);
  }
  return [...byTable].map(([name, columns]) => makeTable(name, columns)).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Names of every table that is there, Berth's or not. */
export async function listTableNames(db: Db): Promise<string[]> {
  const rows = db.engine === "sqlite" ? await sqliteColumns(db) : await postgresColumns(db);
  return [...new Set(rows.map((row) => row.table_name))].sort();
}

/** Columns that hold a worker's lease, which ends with a move: whoever had it works on another database. */
export function leaseColumns(table: Table): ReadonlySet<string> {
  const names = new Set(table.columns.map(({ name }) => name));
  return new Set(names.has(LEASE_OWNER) && names.has(LEASE_UNTIL) ? [LEASE_OWNER, LEASE_UNTIL] : []);
}

/** Throws an Error that names the first table or column in which two schemas differ. */
export function requireSameTables(from: readonly Table[], to: readonly Table[]): void {
  const shape = (table: Table | undefined): string =>
    table === undefined
      ? "absent"
      : `(${table.columns.map(({ name, kind }) => `${name} ${kind}`).sort()}; key ${table.key.map(({ name }) => name)})`;
  const names = new Set([...from, ...to].map(({ name }) => name));
  for (const name of names) {
    const [here, there] = [from, to].map((tables) => shape(tables.find((table) => table.name === name)));
    if (here !== there) {
      throw new Error(
        `The two databases differ in table "${name}": the source has ${here}, the target ${there}. One of them was changed by hand; make the target anew.`,
      );
    }
  }
}

function makeTable(name: string, rows: readonly ColumnRow[]): Table {
  const columns = rows.map((row): Column => {
    const kind = KINDS[row.type.toLowerCase()];
    if (kind === undefined) {
      throw new Error(
        `Column "${name}.${row.column_name}" is of type "${row.type}"; a move knows ${Object.keys(KINDS).join(", ")}.`,
      );
    }
    const sortsByBytes = kind !== "text" || row.collation === "C";
    return { name: row.column_name, kind, sortsByBytes };
  });
  const key = rows
    .map((row, index) => ({ place: toNumber(row.key_place), column: columns[index] }))
    .filter(({ place }) => place > 0)
    .sort((a, b) => a.place - b.place)
    .flatMap(({ column }) => (column === undefined ? [] : [column]));
  if (key.length === 0) throw new Error(`Table "${name}" has no primary key; without one it cannot be moved.`);
  const odd = key.find(({ kind }) => kind !== "integer" && kind !== "text");
  if (odd) throw new Error(`Column "${name}.${odd.name}" of a primary key holds ${odd.kind}; use numbers or text.`);
  const identity = rows.find((row) => row.is_identity === 1 || row.is_identity === true)?.column_name;
  return { name, columns, key, identity };
}

function sqliteColumns(db: Db): PromiseLike<ColumnRow[]> {
  // Everything sorts by its bytes here. "hidden" is set for generated columns.
  return db.sql<ColumnRow>`/* move.sqlite_columns */
    select t.name as table_name, c.name as column_name, c.type as type, 'C' as collation, c.pk as key_place,
           c.pk = 1 and lower(t.sql) like '%autoincrement%' as is_identity
    from sqlite_schema t join pragma_table_xinfo(t.name) c
    where t.type = 'table' and t.name not like 'sqlite\\_%' escape '\\' and c.hidden = 0
    order by t.name, c.cid`;
}

function postgresColumns(db: Db): PromiseLike<ColumnRow[]> {
  return db.sql<ColumnRow>`/* move.postgres_columns */
    select c.table_name, c.column_name, c.data_type as type, coalesce(c.collation_name, 'default') as collation,
           c.is_identity = 'YES' as is_identity,
           coalesce((
             select k.ordinal_position
             from information_schema.table_constraints p
             join information_schema.key_column_usage k
               on k.constraint_schema = p.constraint_schema and k.constraint_name = p.constraint_name
              and k.table_name = p.table_name
             where p.constraint_type = 'PRIMARY KEY' and p.table_schema = c.table_schema
               and p.table_name = c.table_name and k.column_name = c.column_name
           ), 0) as key_place
    from information_schema.columns c
    join information_schema.tables t on t.table_schema = c.table_schema and t.table_name = c.table_name
    where c.table_schema = current_schema() and t.table_type = 'BASE TABLE' and c.is_generated = 'NEVER'
    order by c.table_name, c.ordinal_position`;
}
