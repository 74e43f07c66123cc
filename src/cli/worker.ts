/**
 * `berth worker [KIND…]`: background work without a registry beside it, for a machine of its own. Without a kind it does all
 * that the config turns on. Any number of them may run: jobs are leased.
 */

import { type BootedApp, boot, bootLogger } from "../boot.ts";
import { countsTotals } from "../domain/quota/due.ts";
import { createMetricsHandler } from "../http/metrics.ts";
import { type Listener, listen } from "../http/server.ts";
import { VERSION } from "../version.ts";
import { countWork } from "../workers/count.ts";
import { collectsAnything, startGc } from "../workers/gc.ts";
import { startMaintenance } from "../workers/maintenance.ts";
import { startQuotaLater } from "../workers/quota.ts";
import { startReplication } from "../workers/replication.ts";
import { restWhileMoved } from "../workers/rest-while-moved.ts";
import { startScrub } from "../workers/scrub.ts";
import { scrubsAnything } from "../workers/scrub-due.ts";
import { EXIT, type Invocation, UsageError } from "./invocation.ts";
import { metricsAddressOf } from "./listen-address.ts";
import { loadFor } from "./load.ts";

type Stop = () => Promise<void>;

interface Kind {
  isOn(app: BootedApp): boolean;
  start(app: BootedApp): Stop;
}

const KINDS: Record<string, Kind> = {
  storagereplication: {
    isOn: ({ config, storage }) => config.FEATURE_STORAGE_REPLICATION && storage.locations.length > 1,
    start: (app) => startReplication(app, (event) => countWork(app, { of: "replication", event })).stop,
  },
  gc: { isOn: collectsAnything, start: (app) => startGc(app, (event) => countWork(app, event)).stop },
  quota: { isOn: countsTotals, start: (app) => startQuotaLater(app, (event) => countWork(app, event)).stop },
  scrub: { isOn: scrubsAnything, start: (app) => startScrub(app, (event) => countWork(app, event)).stop },
  maintenance: { isOn: () => true, start: startMaintenance },
};

export async function worker(invocation: Invocation): Promise<number> {
  const unknown = invocation.positionals.find((name) => !Object.hasOwn(KINDS, name));
  if (unknown !== undefined) {
    throw new UsageError(`there is no work "${unknown}", use some of ${Object.keys(KINDS).join(", ")}`);
  }
  const loaded = loadFor(invocation);
  const log = bootLogger(loaded.config);
  const stopped = new Promise<string>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => resolve(signal));
  });
  const app = await boot(loaded, log);
  const metrics = listenForMetrics(app, invocation, loaded);
  try {
    const asked = invocation.positionals.length > 0 ? invocation.positionals : undefined;
    const kinds = asked ?? Object.keys(KINDS).filter((name) => KINDS[name]?.isOn(app));
    const stop = restWhileMoved(app, () => start(app, kinds));
    log.info("working", { kinds, metrics: metrics?.url ?? "off", version: VERSION, database: app.db.engine });
    for (const warning of loaded.warnings) log.warn(warning);
    log.flush();
    log.info("stopping", { signal: await stopped });
    await stop();
  } finally {
    await metrics?.cut();
    await app.close();
  }
  return EXIT.ok;
}

function start(app: BootedApp, kinds: readonly string[]): Stop {
  const stops = kinds.map((name) => KINDS[name]?.start(app));
  return async () => {
    await Promise.all(stops.map((stop) => stop?.()));
  };
}

/** Only where it is asked for: beside a registry on one machine, the port is that one's. */
function listenForMetrics(
  app: BootedApp,
  invocation: Invocation,
  loaded: Parameters<typeof metricsAddressOf>[1],
): Listener | undefined {
  const address = invocation.options["metrics-listen"] === undefined ? undefined : metricsAddressOf(invocation, loaded);
  return address && listen(createMetricsHandler(app), { ...address, tls: undefined });
}
