/**
 * The parts of an App that background workers need alone: log, database and stores. Apart from `boot.ts`, so that a worker
 * does not load what serves requests.
 */

import type { Config, LoadedConfig } from "./config/load.ts";
import type { Database } from "./db/db.ts";
import { openDatabase } from "./db/open.ts";
import { createAuthorities } from "./lib/authorities.ts";
import { systemClock } from "./lib/clock.ts";
import { createLogger, type Logger, type LogLevel } from "./observe/logger.ts";
import { openDrivers } from "./storage/open.ts";
import { type BlobStore, createBlobStore } from "./storage/placement.ts";

const LEVELS: Record<string, LogLevel> = {
  DEBUG: "debug",
  INFO: "info",
  WARNING: "warn",
  WARN: "warn",
  ERROR: "error",
};

export function logLevelOf(config: Config): LogLevel {
  return LEVELS[config.LOGGING_LEVEL.toUpperCase()] ?? "error";
}

/** `isShared` when other processes write into the same stream. */
export function bootLogger(config: Config, { isShared = false } = {}): Logger {
  const format = process.stderr.isTTY ? "text" : "json";
  return createLogger({ clock: systemClock, level: logLevelOf(config), format, isShared });
}

/** Opens the database without touching its schema. */
export function bootDatabase(config: Config, log: Logger): Promise<Database> {
  return openDatabase({ uri: config.DB_URI, connectionArgs: config.DB_CONNECTION_ARGS, log });
}

/** Opens every engine that DISTRIBUTED_STORAGE_CONFIG names. */
export async function bootStorage(
  { config, extraCaPaths }: Pick<LoadedConfig, "config" | "extraCaPaths">,
  log: Logger,
): Promise<BlobStore> {
  const context = { authorities: createAuthorities(extraCaPaths), clock: systemClock, log };
  return createBlobStore(await openDrivers(config, context), {
    preference: config.DISTRIBUTED_STORAGE_PREFERENCE,
    // What lands elsewhere is brought to its place by replication, and by nothing else.
    spare: config.FEATURE_STORAGE_REPLICATION ? config.DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS : undefined,
    checksAll: config.DISTRIBUTED_STORAGE_VALIDATE_ENDTOEND,
    log,
  });
}
