/**
 * Reads `DB_URI` and `DB_CONNECTION_ARGS` for PostgreSQL. Addresses are read as SQLAlchemy reads them, since that is what
 * Quay's configurations were written for: a password may hold "/", "#" and "?" unescaped. Several hosts and the words for
 * what is wanted of them are libpq's, which Quay's driver stands on.
 */

import { userInfo } from "node:os";

export const sslModes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;
export type SslMode = (typeof sslModes)[number];

/** What a server must be to be used. Source: libpq, "target_session_attrs". */
export type TargetSession = "any" | "read-write" | "primary";

/** The keys of Quay's DB_CONNECTION_ARGS that PostgreSQL uses, and libpq's own; others are ignored. */
export interface PostgresConnectionArgs {
  readonly sslmode?: string | undefined;
  /** A PEM file of certificate authorities, or `system` for those of the machine (also when absent). */
  readonly sslrootcert?: string | undefined;
  /** Connections of this process at most, one for listening not counted. Default 20. */
  readonly max_connections?: number | undefined;
  /** Seconds to wait for a connection, new or from the pool. Default 10. */
  readonly timeout?: number | undefined;
  /** `any`, `read-write` or `primary`; default `any` for one host, `read-write` for several. */
  readonly target_session_attrs?: string | undefined;
  /** libpq's: `-c name=value`, handed to the server as it is. What it sets here, our limits below leave alone. */
  readonly options?: string | undefined;
  /** Milliseconds, as in PostgreSQL; 0 leaves it to the server. Defaults in `timeLimits`. */
  readonly statement_timeout?: number | undefined;
  readonly lock_timeout?: number | undefined;
  readonly idle_in_transaction_session_timeout?: number | undefined;
  readonly [key: string]: unknown;
}

/**
 * How long the server lets one statement run, wait for a lock, and a transaction lie idle. Requests' statements take
 * milliseconds: what takes this long holds a connection that others wait for. Migrations are exempt.
 */
export const timeLimits = {
  statement_timeout: 30_000,
  lock_timeout: 10_000,
  // No request waits for anything but the database inside a transaction; a server whose client was cut off holds its locks so long.
  idle_in_transaction_session_timeout: 20_000,
} as const;
export type TimeLimit = keyof typeof timeLimits;

export interface PostgresHost {
  /** A name, an IP address, or a folder with a Unix socket. */
  readonly host: string;
  readonly port: number;
}

export interface PostgresAddress {
  /** In the order in which they are tried. */
  readonly hosts: readonly [PostgresHost, ...PostgresHost[]];
  readonly targetSession: TargetSession;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly sslmode: SslMode;
  readonly sslrootcert: string | undefined;
  readonly connectionsMax: number;
  readonly timeoutMs: number;
  /** Settings that each session starts with. Those of time are in ms, and absent where the server's own hold. */
  readonly settings: Readonly<Record<string, string>>;
  /** The statement timeout that holds, as far as it is known here. */
  readonly statementTimeoutMs: number | undefined;
}

const addressPattern =
  /^postgres(?:ql)?(?:\+[a-z0-9_]+)?:\/\/(?:([^:/@]*)(?::([^@]*))?@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/i;
const hostPattern = /^(?:\[([^\]]+)\]|([^:[\]]*))(?::(\d+))?$/;
/** More hosts than anybody has; each is asked when the primary is looked for. */
const hostsMax = 16;

/** Throws an Error that says what is wrong, without the password. */
export function parsePostgresAddress(uri: string, args: PostgresConnectionArgs = {}): PostgresAddress {
  const match = addressPattern.exec(uri);
  if (match === null) throw noAddress();
  const [, user = "", password = "", authority = "", database = "", search = ""] = match;
  const query = new URLSearchParams(search);
  const hosts = readHosts(authority, query);

  const sslmode = args.sslmode ?? query.get("sslmode") ?? "prefer";
  const known = sslModes.find((mode) => mode === sslmode);
  if (known === undefined) {
    throw new Error(`DB_CONNECTION_ARGS.sslmode is "${sslmode}"; it must be one of ${sslModes.join(", ")}.`);
  }
  const userName = user === "" ? userInfo().username : decode(user, "user");
  const settings = readSettings(args, query);
  return {
    hosts,
    targetSession: readTarget(args.target_session_attrs ?? query.get("target_session_attrs"), hosts.length),
    user: userName,
    password: decode(password, "password"),
    database: database === "" ? userName : decode(database, "database"),
    sslmode: known,
    sslrootcert: args.sslrootcert ?? query.get("sslrootcert") ?? undefined,
    connectionsMax: bounded("max_connections", args.max_connections ?? 20, 2, 1000),
    timeoutMs: 1000 * bounded("timeout", args.timeout ?? Number(query.get("connect_timeout") ?? 10), 1, 3600),
    settings,
    statementTimeoutMs: settings.statement_timeout === undefined ? undefined : Number(settings.statement_timeout),
  };
}

/** For messages and logs: `a:5432,b:5432/name`. */
export function describeAddress({ hosts, database }: PostgresAddress): string {
  return `${hosts.map(({ host, port }) => `${host}:${port}`).join(",")}/${database}`;
}

function noAddress(): Error {
  return new Error("DB_URI is not a PostgreSQL address; write postgresql://user:password@host:port/database.");
}

/**
 * `a:1,b:2` before the path, or `?host=a,b&port=1,2` as libpq has it, or `?host=a:1&host=b:2` as SQLAlchemy has it. One
 * port serves all hosts.
 */
function readHosts(authority: string, query: URLSearchParams): readonly [PostgresHost, ...PostgresHost[]] {
  const given = authority === "" ? query.getAll("host").flatMap((list) => list.split(",")) : authority.split(",");
  const ports = (query.get("port") ?? "").split(",").filter(Boolean);
  if (ports.length > 1 && ports.length !== given.length) {
    throw new Error(
      `DB_URI names ${given.length} hosts and ${ports.length} ports; name one port for all, or one for each.`,
    );
  }
  const hosts = (given.length === 0 ? ["localhost"] : given).map((text, index): PostgresHost => {
    const decoded = decode(text, "host");
    // A folder of Unix sockets may hold anything.
    const match = decoded.startsWith("/") ? [decoded, undefined, decoded] : hostPattern.exec(decoded);
    if (match === null) throw noAddress();
    const port = Number(match[3] ?? ports[index] ?? ports[0] ?? "5432");
    if (!(port >= 1 && port <= 65_535)) throw new Error(`DB_URI has port ${port}; it must be 1 to 65535.`);
    return { host: match[1] ?? (match[2] || "localhost"), port };
  });
  if (hosts.length > hostsMax) throw new Error(`DB_URI names ${hosts.length} hosts; at most ${hostsMax} are tried.`);
  const [first, ...others] = hosts;
  if (first === undefined) throw noAddress();
  return [first, ...others];
}

function readTarget(text: string | null | undefined, hosts: number): TargetSession {
  // With one host there is nothing to choose, and a database that is read-only for a while still serves pulls.
  if (text === null || text === undefined) return hosts > 1 ? "read-write" : "any";
  if (text === "any" || text === "read-write" || text === "primary") return text;
  throw new Error(
    `target_session_attrs of the database is "${text}"; Berth writes to it, so it must be any, read-write or primary.`,
  );
}

function readSettings(args: PostgresConnectionArgs, query: URLSearchParams): Record<string, string> {
  const options = args.options ?? query.get("options") ?? undefined;
  const settings: Record<string, string> = options === undefined ? {} : { options };
  for (const [key, preset] of Object.entries(timeLimits)) {
    // As a parameter of its own it would win over the same one in `options`.
    if (options?.includes(key)) continue;
    const given = args[key];
    const value = given === undefined ? preset : bounded(key, Number(given), 0, 2_147_483_647);
    if (value > 0) settings[key] = String(value);
  }
  return settings;
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
