/**
 * `berth serve`: boots the App, listens, and stops in order: no new connections, a bounded time for what runs, then the
 * database.
 */

import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type BootedApp, boot, bootLogger, logLevelOf } from "../boot.ts";
import type { LoadedConfig } from "../config/load.ts";
import { ensureBootstrapToken } from "../domain/oauth/bootstrap.ts";
import { countsTotals } from "../domain/quota/due.ts";
import { ensureAdmin } from "../domain/user/first-user.ts";
import { createMetricsHandler } from "../http/metrics.ts";
import { createForwarding } from "../http/middleware/client-address.ts";
import { createHttp, type Listener, listen } from "../http/server.ts";
import { VERSION } from "../version.ts";
import { countWork } from "../workers/count.ts";
import { collectsAnything, collectWhenDue } from "../workers/gc.ts";
import { startMaintenance } from "../workers/maintenance.ts";
import type { WorkerEvent } from "../workers/messages.ts";
import { countWhenDue } from "../workers/quota.ts";
import { restWhileMoved } from "../workers/rest-while-moved.ts";
import { scrubsAnything, scrubWhenDue } from "../workers/scrub-due.ts";
import { spawnWorker } from "../workers/spawn.ts";
import { EXIT, type Invocation } from "./invocation.ts";
import { type ListenAddress, mainAddress, metricsAddressOf } from "./listen-address.ts";
import { dataDirOf, loadFor } from "./load.ts";
import { type Ending, Sibling } from "./sibling.ts";
import { onStopSignals } from "./stop-signals.ts";

/**
 * After SIGTERM /health/instance says 503 for this long while everything else is still answered: a load balancer that
 * polls every second has looked twice before connections are refused.
 */
const GRACE_MS = 2_000;
/** Who has not asked for health for this long does not poll, and there is nobody to wait for. */
const POLL_PAUSE_MS = 30_000;
/** How long running transfers may take to end after that. */
const DRAIN_MS = 25_000;

/** Serves until a signal; one of several processes when `processes.ts` started it. */
export async function serve(invocation: Invocation): Promise<number> {
  const sibling = Sibling.of(invocation.env);
  const loaded = loadFor(invocation);
  const { config, tls } = loaded;
  const address = mainAddress(invocation, loaded);
  const metricsAddress = metricsAddressOf(invocation, loaded);

  const log = bootLogger(config, { isShared: sibling !== undefined });
  // From here on: whoever starts us may have second thoughts before we listen.
  const signalled = stopSignal(log);
  const app = await boot(loaded, log);
  app.state.hasSiblings = sibling !== undefined;
  const asked = new Promise<string>((resolve) => {
    app.state.stop = resolve;
  });
  const listeners: Listener[] = [];
  try {
    await makeAdmin(app, loaded, invocation);
    await app.tokenKeys.signingKey();
    await ensureBootstrapToken(app);
    const http = createHttp(app);
    const forwarding = createForwarding(config);
    const ports = sibling?.seat.ports;
    const place = (own: ListenAddress, port: number | undefined) => ({
      ...own,
      port: port ?? own.port,
      sharing: sibling && (ports ? ("joins" as const) : ("opens" as const)),
    });
    const main = listen((request, client) => http.fetch(request, client), {
      ...place(address, ports?.http),
      tls,
      forwarding,
    });
    listeners.push(main);
    const answerMetrics = createMetricsHandler(app, sibling && (() => sibling.gather()));
    const metrics =
      metricsAddress && listen(answerMetrics, { ...place(metricsAddress, ports?.metrics), tls: undefined });
    if (metrics) listeners.push(metrics);
    const fields = {
      http: main.url,
      metrics: metrics?.url ?? "off",
      version: VERSION,
      database: app.db.engine,
    };
    if (sibling) {
      joinSiblings(app, sibling);
      const { warnings } = loaded;
      const own = { http: main.port, metrics: metrics?.port };
      sibling.send({ kind: "listening", ports: own, fields, warnings, level: logLevelOf(config) });
    } else {
      // Whoever started us reads the addresses from the first line.
      log.info("listening", fields);
      for (const warning of loaded.warnings) log.warn(warning);
    }
    log.flush();
  } catch (error) {
    for (const listener of listeners) await listener.cut();
    await app.close();
    sibling?.close();
    throw error;
  }
  // Nobody has asked the stores for anything yet: what is wrong with one is in the log before the first push meets it.
  app.storage.check().catch(() => undefined);
  const stopWork = restWhileMoved(app, () => startWork(app, loaded, sibling));
  const ending = await Promise.race([
    signalled.then(whole),
    asked.then((reason) => askedToStop(reason, sibling)),
    ...(sibling ? [sibling.ending] : []),
  ]);
  log.info("stopping", { signal: ending.reason });
  const { healthAskedMs } = app.state;
  const isPolled = healthAskedMs !== undefined && app.clock.nowMs() - healthAskedMs < POLL_PAUSE_MS;
  if (ending.isWhole) app.state.draining = true;
  // One that leaves its port to others stays healthy: a balancer sees all of them at one address.
  for (const listener of listeners) ending.isWhole ? listener.finish() : listener.leave();
  await Promise.all([stopWork(), isPolled || !ending.isWhole ? Bun.sleep(GRACE_MS) : undefined]);
  app.state.draining = true;
  await drain(listeners, log);
  await app.close();
  sibling?.close();
  return EXIT.ok;
}

/** The background work of this process; of several, the first copies between stores and collects for all. */
function startWork(app: BootedApp, loaded: LoadedConfig, sibling: Sibling | undefined): () => Promise<void> {
  const stops = [startMaintenance(app)];
  if (sibling?.seat.leads !== false) {
    const copies = app.config.FEATURE_STORAGE_REPLICATION && app.storage.locations.length > 1;
    const options = {
      loaded,
      isShared: sibling !== undefined,
      onEvent: (event: WorkerEvent) => countWork(app, event),
    };
    if (copies) stops.push(spawnWorker(app, { ...options, work: "replication" }));
    if (collectsAnything(app)) stops.push(collectWhenDue(app, options));
    if (countsTotals(app)) stops.push(countWhenDue(app, options));
    if (scrubsAnything(app)) stops.push(scrubWhenDue(app, options));
  }
  return async () => {
    await Promise.all(stops.map((stop) => stop()));
  };
}

function whole(reason: string): Ending {
  return { reason, isWhole: true };
}

/** A request wants the server to stop: one of several processes passes that on and is told in its turn. */
function askedToStop(reason: string, sibling: Sibling | undefined): Ending | Promise<never> {
  if (!sibling) return whole(reason);
  sibling.send({ kind: "stop", reason });
  return new Promise(() => undefined);
}

/** Answers what the other processes want of this one. */
function joinSiblings(app: BootedApp, sibling: Sibling): void {
  sibling.handle({
    figures: () => app.metrics.registry.getMetricsAsJSON(),
    onChanged: () => app.db.checkChanges(),
  });
  // PostgreSQL tells by itself; a SQLite file is looked at every 200 ms, and at once when somebody says so.
  if (app.db.engine === "sqlite") app.db.onChanged(() => sibling.tellChanged());
}

/** The embedded default's first start: a superuser with a password that is shown once and kept for its owner. */
async function makeAdmin(app: BootedApp, loaded: LoadedConfig, invocation: Invocation): Promise<void> {
  if (!loaded.zeroConfig) return;
  const given = invocation.env.BERTH_ADMIN_PASSWORD || undefined;
  const path = join(dataDirOf(invocation), "initial-admin-password");
  // Kept before it is the password: a start that is cut in between must not leave an admin whom nobody can be.
  const made = await ensureAdmin(app, "admin", given, (password) => keepSecret(path, password));
  if (!made?.generated) return;
  process.stderr.write(`first start: user "admin" with password "${made.password}" (kept in ${path})\n`);
}

function keepSecret(path: string, secret: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(path, `${secret}\n`, { mode: 0o600 });
  chmodSync(path, 0o600);
}

/** Resolves with the first signal. A second one means it: nobody is waited for. */
function stopSignal(log: BootedApp["log"]): Promise<string> {
  return new Promise((resolve) => {
    onStopSignals(resolve, (signal) => {
      log.warn("stopping at once", { signal });
      process.exit(EXIT.failed);
    });
  });
}

async function drain(listeners: readonly Listener[], log: BootedApp["log"]): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), DRAIN_MS);
  });
  const done = Promise.all(listeners.map((listener) => listener.drain())).then(() => "done" as const);
  if ((await Promise.race([done, late])) === "late") {
    log.warn("transfers were still running and have been cut", { afterMs: DRAIN_MS });
    await Promise.all(listeners.map((listener) => listener.cut()));
  }
  clearTimeout(timer);
}
