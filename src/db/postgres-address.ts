/**
 * Reads `DB_URI` and `DB_CONNECTION_ARGS` for PostgreSQL. Addresses are read as SQLAlchemy reads them, since that is what
 * Quay's configurations were written for: a password may hold "/", "#" and "?" unescaped.
 */

import { userInfo } from "node:os";

export const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;
export type SslMode = (typeof sslModes)[number];

/** The keys of Quay's DB_CONNECTION_ARGS that PostgreSQL uses; others are ignored. */
export interface PostgresConnectionArgs {
  readonly sslmode?: string | undefined;
  /** A PEM file of certificate authorities, or `system` for those of the machine (also when absent). */
  readonly sslrootcert?: string | undefined;
  /** Connections of this process at most, one for listening not counted. Default 20. */
  readonly max_connections?: number | undefined;
  /** Seconds to wait for a connection, new or from the pool. Default 10. */
  readonly timeout?: number | undefined;
  readonly [key: string]: unknown;
}

export interface PostgresAddress {
  /** A name, an IP address, or a folder with a Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly sslmode: SslMode;
  readonly sslrootcert: string | undefined;
  readonly connectionsMax: number;
  readonly timeoutMs: number;
}

const addressPattern =
  /^postgres(?:ql)?(?:\+[a-z0-9_]+)?:\/\/(?:([^:/@]*)(?::([^@]*))?@)?(?:\[([^/?\]]+)\]|([^/:?]*))(?::(\d+))?(?:\/([^?]*))?(?:\?(.*))?$/i;

/** Throws an Error that says what is wrong, without the password. */
export function parsePostgresAddress(uri: string, args: PostgresConnectionArgs = {}): PostgresAddress {
  const match = addressPattern.exec(uri);
  if (match === null) {
    throw new Error("DB_URI is not a PostgreSQL address; write postgresql://user:password@host:port/database.");
  }
  const [, user = "", password = "", bracketed, name = "", port = "5432", database = "", search = ""] = match;
  const query = new URLSearchParams(search);
  const host = bracketed ?? (name === "" ? (query.get("host") ?? "localhost") : decode(name, "host"));
  if (host.includes(",")) throw new Error(`DB_URI names several hosts ("${host}"); name one, such as a load balancer.`);
  if (Number(port) < 1 || Number(port) > 65_535) throw new Error(`DB_URI has port ${port}; it must be 1 to 65535.`);

  const sslmode = args.sslmode ?? query.get("sslmode") ?? "prefer";
  const known = sslModes.find((mode) => mode === sslmode);
  if (known === undefined) {
    throw new Error(`DB_CONNECTION_ARGS.sslmode is "${sslmode}"; it must be one of ${sslModes.join(", ")}.`);
  }
  const userName = user === "" ? userInfo().username : decode(user, "user");
  return {
    host,
    port: Number(port),
    user: userName,
    password: decode(password, "password"),
    database: database === "" ? userName : decode(database, "database"),
    sslmode: known,
    sslrootcert: args.sslrootcert ?? query.get("sslrootcert") ?? undefined,
    connectionsMax: bounded("max_connections", args.max_connections ?? 20, 2, 1000),
    timeoutMs: 1000 * bounded("timeout", args.timeout ?? 10, 1, 3600),
  };
}

function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error(`The ${part} in DB_URI has a "%" that starts no escape; write it as %25.`);
  }
}

function bounded(key: string, value: number, min: number, max: number): number {
  if (Number.isFinite(value) && value >= min && value <= max) return Math.floor(value);
  throw new Error(`DB_CONNECTION_ARGS.${key} is "${value}"; it must be a number from ${min} to ${max}.`);
}
