/** Builds an App from a loaded config: the only place that picks implementations. Called by cli/ and workers. */

import type { App } from "./app.ts";
import { createCaptchaVerifier } from "./clients/captcha.ts";
import { IssuerKeys } from "./clients/issuer-keys.ts";
import { createMailer, type Mailer } from "./clients/smtp.ts";
import { isPostgres } from "./config/db-uri.ts";
import type { Config, LoadedConfig } from "./config/load.ts";
import type { Database } from "./db/db.ts";
import { migrate } from "./db/migrate.ts";
import { migrations } from "./db/migrations.ts";
import { requireUsable } from "./db/move/mark.ts";
import { openDatabase } from "./db/open.ts";
import { AuditBatch } from "./domain/audit/batch.ts";
import { createDatabaseSink } from "./domain/audit/database-sink.ts";
import { keepExemptNamespaces } from "./domain/audit/exempt.ts";
import { createNameResolver } from "./domain/audit/resolve.ts";
import { Lookup } from "./domain/lookup/lookup.ts";
import { PullCounter } from "./domain/pullstats/pull-counter.ts";
import { getOrMakeSetting } from "./domain/setting/setting.ts";
import { TokenKeys } from "./domain/token/keys.ts";
import { UploadHashes } from "./domain/upload/hashes.ts";
import { LoginCache } from "./domain/user/login.ts";
import { createPasswordHasher } from "./domain/user/password.ts";
import { createAuthorities } from "./lib/authorities.ts";
import { systemClock } from "./lib/clock.ts";
import { randomText } from "./lib/random.ts";
import { createSafeFetch } from "./lib/safe-fetch.ts";
import { createSecretBox } from "./lib/secret-box.ts";
import { createLogger, type Logger, type LogLevel } from "./observe/logger.ts";
import { createMetrics } from "./observe/metrics.ts";
import { openDrivers } from "./storage/open.ts";
import { type BlobStore, createBlobStore } from "./storage/placement.ts";

export interface BootedApp extends App {
  /** Writes what waits for the action log, flushes logs and closes the database. */
  close(): Promise<void>;
}

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

/** Opens database and stores, brings the schema up to date and wires the rest. Throws when something cannot be reached. */
export async function boot(loaded: LoadedConfig, log: Logger = bootLogger(loaded.config)): Promise<BootedApp> {
  const { config } = loaded;
  const clock = systemClock;
  const metrics = createMetrics();
  const db = await bootDatabase(config, log);
  try {
    await requireUsable(db);
    await migrate(db, migrations);
    await keepExemptNamespaces(db, config.DISABLED_FOR_AUDIT_LOGS);
    const logsink = createDatabaseSink(db);
    const storage = await bootStorage(loaded, log);
    const databaseKey =
      config.DATABASE_SECRET_KEY ?? (await getOrMakeSetting(db, "database_secret_key", () => randomText(64)));
    const secrets = createSecretBox(databaseKey);
    const secretKey = config.SECRET_KEY ?? (await getOrMakeSetting(db, "secret_key", () => randomText(64)));
    const outbound = createSafeFetch({
      allowedHosts: config.SSRF_ALLOWED_HOSTS,
      authorities: createAuthorities(loaded.extraCaPaths),
    });
    const app: App = {
      config,
      given: loaded.given,
      db,
      storage,
      logsink,
      audit: new AuditBatch({ sink: logsink, resolve: createNameResolver(db), config, clock, log, metrics }),
      log,
      metrics,
      clock,
      secrets,
      mailer: bootMailer(loaded, log),
      captcha: createCaptchaVerifier({ config, log }),
      secretKey,
      pageTokens: createSecretBox(config.PAGE_TOKEN_KEY ?? secretKey),
      lookup: new Lookup({ db, config, clock, onAnswer: (type) => metrics.countLookup([type]) }),
      pulls: new PullCounter({ db, clock, log }),
      passwords: createPasswordHasher(),
      logins: new LoginCache(),
      tokenKeys: new TokenKeys({
        db,
        secrets,
        clock,
        service: config.INSTANCE_SERVICE_KEY_SERVICE,
        onRenewal: (success) => metrics.keyRenewals.inc({ success: success ? "True" : "False" }),
      }),
      outbound,
      issuers: new IssuerKeys({ fetch: outbound, clock }),
      uploadHashes: new UploadHashes(),
      state: { draining: false },
    };
    return {
      ...app,
      async close() {
        await app.pulls.stop();
        await app.audit.close();
        await app.mailer.close();
        app.storage.close();
        await db.close();
        log.flush();
      },
    };
  } catch (error) {
    await db.close();
    throw error;
  }
}

/** Opens the database without touching its schema. */
export function bootDatabase(config: Config, log: Logger): Promise<Database> {
  const args = config.DB_CONNECTION_ARGS;
  return openDatabase({ uri: config.DB_URI, ...(isPostgres(config.DB_URI) ? { connectionArgs: args } : {}), log });
}

/** A mailer for the config's server; it connects when there is something to send. `timeoutMs` bounds one mail. */
export function bootMailer({ config, extraCaPaths }: LoadedConfig, log: Logger, timeoutMs?: number): Mailer {
  return createMailer({ config, extraCaPaths, log, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
}

/** Opens every engine that DISTRIBUTED_STORAGE_CONFIG names. */
export async function bootStorage({ config, extraCaPaths }: LoadedConfig, log: Logger): Promise<BlobStore> {
  const context = { authorities: createAuthorities(extraCaPaths), clock: systemClock, log };
  return createBlobStore(await openDrivers(config, context), {
    preference: config.DISTRIBUTED_STORAGE_PREFERENCE,
    // What lands elsewhere is brought to its place by replication, and by nothing else.
    spare: config.FEATURE_STORAGE_REPLICATION ? config.DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS : undefined,
    checksAll: config.DISTRIBUTED_STORAGE_VALIDATE_ENDTOEND,
    log,
  });
}
