/** Which failures of PostgreSQL mean "not now", which "again", and which belong to the caller. */

import postgres from "postgres";
import { RegistryError } from "../errors.ts";
import { MOVED_STATE, movedError } from "./moved.ts";

/** postgres.js's own codes and those of the system for a connection that is lost or cannot be made. */
const connectionCodes =
  /^(CONNECTION_(CLOSED|DESTROYED|ENDED)|CONNECT_(TIMEOUT|FAILED)|ECONN\w+|EPIPE|ENOTFOUND|EAI_\w+|ETIMEDOUT|EHOST\w+|ENET\w+|ENOENT|EACCES|SASL_\w+)$/;

/**
 * SQLSTATEs with which the server turns a session away or loses it: connection and authorization classes, no such database,
 * too many connections, shutting down or starting, out of memory, and read-only after a fail-over.
 */
const sessionStates = /^(08\w{3}|28\w{3}|3D000|53300|53200|53400|57P0[1-5]|58\w{3}|25006)$/;

/** True for a lost or refused connection, before or in the middle of a session. */
export function isConnectionFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof postgres.PostgresError) return sessionStates.test(error.code);
  return "code" in error && typeof error.code === "string" && connectionCodes.test(error.code);
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

/** Turns an unusable connection or a full disk into a RegistryError with the cause, once; other errors stay as they are. */
export function postgresError(error: unknown, server: string): unknown {
  if (error instanceof postgres.PostgresError && error.code === MOVED_STATE) return movedError(error);
  if (error instanceof postgres.PostgresError && error.code === "53100") {
    return new RegistryError("storage_full", {
      message: `PostgreSQL at ${server}: its disk is full (53100).`,
      cause: error,
    });
  }
  if (!isConnectionFailure(error)) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new RegistryError("unavailable", {
    message: `PostgreSQL at ${server} cannot be used: ${reason}`,
    cause: error,
  });
}
