/**
 * Reads DB_URI the way Quay's database layer does, which is laxer than the URL standard: a password may hold `#`, `/` or
 * `?` unescaped. What comes out is a URI that every URL parser reads the same way.
 */

export interface DatabaseUri {
  readonly scheme: string;
  /** Text between `//` and the path: credentials and host. Empty for SQLite. */
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** `host`, `host:port`, several of them with commas, or empty for a socket named in the query. */
  readonly hosts: string;
  /** Database name, or the file's path for SQLite (absolute when it begins with `/`). */
  readonly database: string;
  /** From the question mark on, which is included; empty without one. */
  readonly query: string;
}

// A password ends at the last @ that a host can follow, which is what lets it hold the characters a URL would reserve.
const SERVER_URI = /^([a-z0-9+]+):\/\/(?:([^:@/]*)(?::(.*))?@)?([^@/?#]*)\/([^@/?#]+)(\?[^#]*)?$/i;
const SQLITE_URI = /^(sqlite)(?:\+[a-z0-9]+)?:\/\/\/([^?]+)(\?.*)?$/i;

/** Takes a DB_URI apart, undefined when it has no shape that Quay would accept. Escapes are resolved. */
export function parseDatabaseUri(uri: string): DatabaseUri | undefined {
  const file = SQLITE_URI.exec(uri);
  if (file?.[2] !== undefined) {
    if (file[2] === ":memory:") return undefined; // two connections would see two databases
    return {
      scheme: "sqlite",
      user: undefined,
      password: undefined,
      hosts: "",
      database: file[2],
      query: file[3] ?? "",
    };
  }
  const server = SERVER_URI.exec(uri);
  if (!server) return undefined;
  const [, scheme = "", user, password, hosts = "", database = "", query = ""] = server;
  return { scheme: scheme.toLowerCase(), user: unescaped(user), password: unescaped(password), hosts, database, query };
}

function isPostgres(scheme: string): boolean {
  return /^(postgresql|postgres)(\+[a-z0-9]+)?$/.test(scheme);
}

export function isMysql(scheme: string): boolean {
  return /^(mysql|mariadb)(\+[a-z0-9]+)?$/.test(scheme);
}

/** True for a URI of an engine that Quay knows; whether Berth speaks it is another question (`support.ts`). */
export function isDatabaseUri(uri: string): boolean {
  const parsed = parseDatabaseUri(uri);
  return parsed !== undefined && (parsed.scheme === "sqlite" || isPostgres(parsed.scheme) || isMysql(parsed.scheme));
}

/** The URI in standard form: `sqlite:////absolute` or `postgresql://…` with credentials escaped. Throws on no URI. */
export function formatDatabaseUri(uri: DatabaseUri): string {
  if (uri.scheme === "sqlite") return `sqlite:///${uri.database}${uri.query}`;
  const password = uri.password === undefined ? "" : `:${encodeURIComponent(uri.password)}`;
  const credentials = uri.user === undefined ? "" : `${encodeURIComponent(uri.user)}${password}@`;
  const scheme = isPostgres(uri.scheme) ? "postgresql" : uri.scheme;
  return `${scheme}://${credentials}${uri.hosts}/${uri.database}${uri.query}`;
}

function unescaped(part: string | undefined): string | undefined {
  if (part === undefined) return undefined;
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // a lone % is a percent sign, as in Quay
  }
}
