/** Opens the database that `DB_URI` and `DB_CONNECTION_ARGS` name. Messages never hold the password. */

import type { Database } from "./db.ts";
import type { DatabaseHooks } from "./options.ts";
import { openPostgres, type PostgresConnectionArgs } from "./postgres.ts";
import { openSqlite } from "./sqlite.ts";

export interface OpenDatabaseOptions extends DatabaseHooks {
  /** `sqlite:///relative/path`, `sqlite:////absolute/path` or `postgresql://user:password@host:port/database`. */
  readonly uri: string;
  /** Quay's DB_CONNECTION_ARGS; keys that mean nothing here are ignored. SQLite needs none of them. */
  readonly connectionArgs?: PostgresConnectionArgs | undefined;
}

/** Throws an Error that says what is wrong with the address, and `unavailable` when the database does not answer. */
export async function openDatabase(options: OpenDatabaseOptions): Promise<Database> {
  const { uri, connectionArgs, ...hooks } = options;
  const scheme = /^([a-z0-9+]+):\/\//i.exec(uri)?.[1]?.toLowerCase() ?? "";
  const engine = scheme.split("+")[0];
  if (engine === "sqlite") return openSqlite({ ...hooks, path: sqlitePath(uri) });
  if (engine === "postgresql" || engine === "postgres") return openPostgres({ ...hooks, uri, connectionArgs });
  const known = "use sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/database";
  if (engine === "mysql" || engine === "mariadb") {
    throw new Error(`DB_URI names MySQL ("${scheme}://"), which Berth does not support; ${known}.`);
  }
  throw new Error(`DB_URI starts with "${scheme === "" ? "no scheme" : `${scheme}://`}"; ${known}.`);
}

/** The path in `sqlite:///relative` or `sqlite:////absolute`, read as SQLAlchemy does: three slashes, then the path. */
export function sqlitePath(uri: string): string {
  const path = /^sqlite(?:\+[a-z0-9]+)?:\/\/\/([^?]+)(?:\?.*)?$/i.exec(uri)?.[1];
  if (path === undefined || path === ":memory:") {
    throw new Error(
      `DB_URI is "${uri}", which names no file; write sqlite:///relative/path or sqlite:////absolute/path.`,
    );
  }
  return path;
}
