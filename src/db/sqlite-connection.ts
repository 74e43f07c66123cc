/**
 * One connection to a SQLite file through bun:sqlite: prepared statements kept within a bound, errors in our own terms.
 * Which connection may write, and when, is decided in `sqlite.ts`.
 */

import { Database as BunDatabase, type Statement as BunStatement, SQLiteError } from "bun:sqlite";
import { RegistryError } from "../errors.ts";
import type { SqlValue } from "./db.ts";
import { MOVED_TEXT, movedError } from "./moved.ts";

/** Statements kept per generation; two generations are alive. Berth has a few hundred texts, lists included. */
const statementsPerGeneration = 512;

type Prepared = BunStatement<unknown, SqlValue[]>;

export class SqliteConnection {
  readonly path: string;
  readonly #handle: BunDatabase;
  // Two generations instead of an exact least-recently-used order: a hit costs one look-up and moves nothing.
  #young = new Map<string, Prepared>();
  #old = new Map<string, Prepared>();

  /** Opens an existing or new file. Throws `unavailable` when it cannot be opened. */
  constructor(path: string) {
    this.path = path;
    try {
      this.#handle = new BunDatabase(path, { readwrite: true, create: true });
    } catch (error) {
      throw sqliteError(error, path);
    }
  }

  /** Runs one statement to its end and gives its rows. Throws the mapped error. */
  all(text: string, params: SqlValue[] = []): unknown[] {
    try {
      const statement = this.#young.get(text) ?? this.#prepare(text);
      return params.length === 0 ? statement.all() : statement.all(...params);
    } catch (error) {
      throw sqliteError(error, this.path);
    }
  }

  /** Runs a text of any number of statements without parameters. */
  script(text: string): void {
    try {
      this.#handle.run(text);
    } catch (error) {
      throw sqliteError(error, this.path);
    }
  }

  get inTransaction(): boolean {
    return this.#handle.inTransaction;
  }

  close(): void {
    for (const statement of [...this.#young.values(), ...this.#old.values()]) statement.finalize();
    this.#young.clear();
    this.#old.clear();
    this.#handle.close();
  }

  #prepare(text: string): Prepared {
    const kept = this.#old.get(text);
    this.#old.delete(text);
    const statement: Prepared = kept ?? this.#handle.prepare<unknown, SqlValue[]>(text);
    if (this.#young.size >= statementsPerGeneration) {
      for (const forgotten of this.#old.values()) forgotten.finalize();
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(text, statement);
    return statement;
  }
}

/** True when another connection holds the lock that was asked for; the statement changed nothing and may be repeated. */
export function isBusy(error: unknown): boolean {
  const cause = error instanceof RegistryError ? error.cause : error;
  return cause instanceof SQLiteError && /^SQLITE_(BUSY|LOCKED)/.test(cause.code ?? "");
}

const troubles: readonly (readonly [RegExp, "storage_full" | "unavailable", string])[] = [
  [/^SQLITE_FULL/, "storage_full", "the disk is full; free some space"],
  [/^SQLITE_(BUSY|LOCKED)/, "unavailable", "another process holds its lock; end that process or wait for it"],
  [/^SQLITE_CANTOPEN/, "unavailable", "it cannot be opened; the folder must exist and be writable for this user"],
  [
    /^SQLITE_(READONLY|PERM|AUTH)/,
    "unavailable",
    "it may not be written; give this user the right to write file and folder",
  ],
  [/^SQLITE_NOTADB/, "unavailable", "it is not a SQLite database; name another file or restore a backup"],
  [/^SQLITE_CORRUPT/, "unavailable", "it is damaged; restore a backup"],
  [
    /^SQLITE_(IOERR|NOMEM|PROTOCOL|NOLFS)/,
    "unavailable",
    "reading or writing it failed; look at the disk and the system's log",
  ],
];

/** Turns what is wrong with the file or its disk into a RegistryError with the cause; other errors stay as they are. */
function sqliteError(error: unknown, path: string): unknown {
  if (!(error instanceof SQLiteError)) return error;
  const code = error.code ?? "";
  if (code === "SQLITE_CONSTRAINT_TRIGGER" && error.message.includes(MOVED_TEXT)) return movedError(error);
  const trouble = troubles.find(([pattern]) => pattern.test(code));
  if (trouble === undefined) return error;
  const message = `The database "${path}": ${trouble[2]} (${code}).`;
  return new RegistryError(trouble[1], { message, forLog: true, cause: error });
}
