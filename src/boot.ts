/** Builds an App from a loaded config: the only place that picks implementations. Called by cli/ and workers. */

import type { App } from "./app.ts";
import { bootDatabase, bootLogger, bootStorage } from "./boot-parts.ts";
import { createCaptchaVerifier } from "./clients/captcha.ts";
import { IssuerKeys } from "./clients/issuer-keys.ts";
import { createMailer, type Mailer } from "./clients/smtp.ts";
import type { LoadedConfig } from "./config/load.ts";
import { migrate } from "./db/migrate.ts";
import { migrations } from "./db/migrations.ts";
import { requireUsable } from "./db/move/mark.ts";
import { AuditBatch } from "./domain/audit/batch.ts";
import { createDatabaseSink } from "./domain/audit/database-sink.ts";
import { keepExemptNamespaces } from "./domain/audit/exempt.ts";
import { createNameResolver } from "./domain/audit/resolve.ts";
import { Lookup } from "./domain/lookup/lookup.ts";
import { PullCounter } from "./domain/pullstats/pull-counter.ts";
import { replicationFigures } from "./domain/replication/figures.ts";
import { scrubFigures } from "./domain/scrub/figures.ts";
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
import type { Logger } from "./observe/logger.ts";
import { createMetrics } from "./observe/metrics.ts";
import { registerReplicationFigures } from "./observe/replication-figures.ts";
import { registerScrubFigures } from "./observe/scrub-figures.ts";

export { bootDatabase, bootLogger, bootStorage, logLevelOf } from "./boot-parts.ts";

export interface BootedApp extends App {
  /** Writes what waits for the action log, flushes logs and closes the database. */
  close(): Promise<void>;
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
      logins: new LoginCache({ db, clock, secretKey }),
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
    registerReplicationFigures(metrics.registry, replicationFigures(app));
    registerScrubFigures(metrics.registry, scrubFigures(app));
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

/** A mailer for the config's server; it connects when there is something to send. `timeoutMs` bounds one mail. */
export function bootMailer({ config, extraCaPaths }: LoadedConfig, log: Logger, timeoutMs?: number): Mailer {
  return createMailer({ config, extraCaPaths, log, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
}
