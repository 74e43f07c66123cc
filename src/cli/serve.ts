/**
 * `berth serve`: boots the App, listens, and stops in order: no new connections, a bounded time for what runs, then the
 * database.
 */

import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type BootedApp, boot, bootLogger } from "../boot.ts";
import type { LoadedConfig } from "../config/load.ts";
import { ensureBootstrapToken } from "../domain/oauth/bootstrap.ts";
import { ensureAdmin } from "../domain/user/first-user.ts";
import { createMetricsHandler } from "../http/metrics.ts";
import { createForwarding } from "../http/middleware/client-address.ts";
import { createHttp, type Listener, listen } from "../http/server.ts";
import { VERSION } from "../version.ts";
import { startMaintenance } from "../workers/maintenance.ts";
import { restWhileMoved } from "../workers/rest-while-moved.ts";
import { complain, EXIT, type Invocation } from "./invocation.ts";
import { mainAddress, metricsAddressOf } from "./listen-address.ts";
import { dataDirOf, loadFor, text } from "./load.ts";

/**
 * After SIGTERM /health/instance says 503 for this long while everything else is still answered: a load balancer that
 * polls every second has looked twice before connections are refused.
 */
const GRACE_MS = 2_000;
/** Who has not asked for health for this long does not poll, and there is nobody to wait for. */
const POLL_PAUSE_MS = 30_000;
/** How long running transfers may take to end after that. */
const DRAIN_MS = 25_000;
/** A terminal sends Ctrl-C to npm and to us, and npm passes it on: two signals this close together are one. */
const SAME_SIGNAL_MS = 500;

export async function serve(invocation: Invocation): Promise<number> {
  const processes = text(invocation.options.processes) ?? "1";
  if (processes !== "1") return complain("berth serve: --processes above 1 is not in this build yet", EXIT.usage);
  const loaded = loadFor(invocation);
  const { config, tls } = loaded;
  const address = mainAddress(invocation, loaded);
  const metricsAddress = metricsAddressOf(invocation, loaded);

  const log = bootLogger(config);
  // From here on: whoever starts us may have second thoughts before we listen.
  const signalled = stopSignal(log);
  const app = await boot(loaded, log);
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
    const main = listen((request, client) => http.fetch(request, client), { ...address, tls, forwarding });
    listeners.push(main);
    const metrics = metricsAddress && listen(createMetricsHandler(app), { ...metricsAddress, tls: undefined });
    if (metrics) listeners.push(metrics);
    // Whoever started us reads the addresses from the first line.
    log.info("listening", {
      http: main.url,
      metrics: metrics?.url ?? "off",
      version: VERSION,
      database: app.db.engine,
    });
    for (const warning of loaded.warnings) log.warn(warning);
    log.flush();
  } catch (error) {
    for (const listener of listeners) await listener.cut();
    await app.close();
    throw error;
  }
  const stopMaintenance = restWhileMoved(app, () => startMaintenance(app));
  const signal = await Promise.race([signalled, asked]);
  log.info("stopping", { signal });
  app.state.draining = true;
  const { healthAskedMs } = app.state;
  const isPolled = healthAskedMs !== undefined && app.clock.nowMs() - healthAskedMs < POLL_PAUSE_MS;
  await Promise.all([stopMaintenance(), isPolled ? Bun.sleep(GRACE_MS) : undefined]);
  await drain(listeners, log);
  await app.close();
  return EXIT.ok;
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
    let firstMs: number | undefined;
    const onSignal = (signal: string) => {
      const nowMs = performance.now();
      if (firstMs === undefined) {
        firstMs = nowMs;
        resolve(signal);
      } else if (nowMs - firstMs > SAME_SIGNAL_MS) {
        log.warn("stopping at once", { signal });
        process.exit(EXIT.failed);
      }
    };
    process.on("SIGTERM", onSignal);
    process.on("SIGINT", onSignal);
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
