/** Which failures of PostgreSQL mean "not now", which "again", and which belong to the caller. */

import postgres from "postgres";
import { RegistryError } from "../errors.ts";
import { MOVED_STATE, movedError } from "./moved.ts";

/** postgres.js's own codes and those of the system for a connection that is lost or cannot be made. */
const connectionCodes =
  /^(CONNECTION_(CLOSED|DESTROYED|ENDED)|CONNECT_(TIMEOUT|FAILED)|ECONN\w+|EPIPE|ENOTFOUND|EAI_\w+|ETIMEDOUT|EHOST\w+|ENET\w+|ENOENT|EACCES|SASL_\w+)$/;

/** With these nothing was sent that the server could have begun: it may be tried again, whatever it was. */
const neverBegan = /^(CONNECT_(TIMEOUT|FAILED)|ECONNREFUSED|ENOTFOUND|53300|57P03|28\w{3}|3D000)$/;

/**
 * What became of a session:
 * - `lost`: it is over or never came about, and the server may be gone: connection class, shutting down, starting up,
 *   ended for lying idle
 * - `crowded`: the server has no room for another session (53300); those that are open go on
 * - `read_only`: this server takes no writes, such as after a fail-over
 * - `refused`: the server answers and does not let us in: authorization class, no such database
 * - `overloaded`: the session goes on, the statement was given up: no disk or memory, a file that cannot be read, a statement
 *   or a lock that took longer than it may
 */
export type Trouble = "lost" | "crowded" | "read_only" | "refused" | "overloaded";

const states: readonly (readonly [RegExp, Trouble])[] = [
  [/^(08\w{3}|57P0[1-5]|25P0[34])$/, "lost"],
  [/^53300$/, "crowded"],
  [/^25006$/, "read_only"],
  [/^(28\w{3}|3D000)$/, "refused"],
  [/^(53\w{3}|58\w{3}|57014|55P03)$/, "overloaded"],
];

/** Undefined for what is no trouble of the server's. */
export function troubleOf(error: unknown): Trouble | undefined {
  const code = codeOf(error);
  if (code === undefined) return undefined;
  if (error instanceof postgres.PostgresError) return states.find(([pattern]) => pattern.test(code))?.[1];
  return connectionCodes.test(code) ? "lost" : undefined;
}

/** True when the server cannot have begun what was asked of it. */
export function neverReached(error: unknown): boolean {
  return neverBegan.test(codeOf(error) ?? "");
}

/** What a connection that said nothing for too long fails with. */
export function lateError(limitMs: number): Error {
  return Object.assign(new Error(`no answer within ${limitMs} ms`), { code: lateCode });
}

/** Waited for long enough: a second try would take as long. */
export function isLate(error: unknown): boolean {
  return codeOf(error) === lateCode;
}

const lateCode = "ETIMEDOUT";

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/**
 * True when the transaction lost against another one and may be repeated: serialization failure, deadlock, and a prepared
 * statement whose columns a migration has just changed.
 */
export function isRetryable(error: unknown): boolean {
  if (!(error instanceof postgres.PostgresError)) return false;
  return (
    error.code === "40001" || error.code === "40P01" || (error.code === "0A000" && /cached plan/.test(error.message))
  );
}

/** What is wrong where the server's own words leave it open. */
const explanations: Readonly<Record<string, string>> = {
  "53100": "its disk is full",
  "53300":
    "it has no room for another connection; raise its max_connections or lower DB_CONNECTION_ARGS.max_connections",
  "57014": "a statement took longer than statement_timeout",
  "55P03": "a lock was not to be had within lock_timeout",
};

/** Turns trouble of the server into `unavailable` with the cause, once; other errors stay as they are. */
export function postgresError(error: unknown, server: string): unknown {
  if (error instanceof postgres.PostgresError && error.code === MOVED_STATE) return movedError(error);
  if (troubleOf(error) === undefined) return error;
  const words = error instanceof Error ? error.message : String(error);
  const explained = explanations[codeOf(error) ?? ""];
  return new RegistryError("unavailable", {
    message: `PostgreSQL at ${server} cannot be used: ${explained === undefined ? words : `${explained} (${words})`}`,
    forLog: true,
    cause: error,
  });
}
