/**
 * The one Bun worker file: builds what its kind of work needs from the config it is sent, with database connections of its
 * own, and runs until it is told to stop. It shares nothing with the main thread.
 */

import type { App } from "../app.ts";
import { bootDatabase, bootLogger, bootStorage } from "../boot-parts.ts";
import { systemClock } from "../lib/clock.ts";
import { errorFields } from "../observe/logger.ts";
import { startGc } from "./gc.ts";
import type { FromWorker, ToWorker, WorkerConfig, WorkerEvent, WorkerKind } from "./messages.ts";
import { startQuota } from "./quota.ts";
import { startReplication } from "./replication.ts";
import type { Looping } from "./rounds.ts";
import { startScrubOnce } from "./scrub.ts";

/** What the work and its leases need at once; the main thread has the rest of what the operator allows. */
const CONNECTIONS_MAX: Record<WorkerKind, number> = { replication: 6, gc: 3, quota: 2, scrub: 4 };

/** What was done to jobs is told this often. */
const TELL_JOBS_MS = 10_000;

type WorkApp = Pick<App, "config" | "db" | "storage" | "clock" | "log">;
type Work = (app: WorkApp, report: (event: WorkerEvent) => void) => Looping;

const WORKS: Record<WorkerKind, Work> = {
  replication: (app, report) => startReplication(app, (event) => report({ of: "replication", event })),
  gc: startGc,
  quota: startQuota,
  scrub: startScrubOnce,
};

declare const self: Worker;

let stop: (() => Promise<void>) | undefined;
let starting: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "start") starting = start(data);
  // A start that failed has been reported as the worker's error; there is nothing to stop then.
  else void starting.then(() => stop?.()).then(tellStopped, tellStopped);
};

async function start({ work, loaded, isShared }: Extract<ToWorker, { kind: "start" }>): Promise<void> {
  const { config } = loaded;
  const log = bootLogger(config, { isShared });
  const db = await bootDatabase(withFewConnections(config, CONNECTIONS_MAX[work]), log);
  const storage = await bootStorage(loaded, log);
  const running = WORKS[work]({ config, db, storage, clock: systemClock, log }, (event) =>
    tell({ kind: "event", event }),
  );
  const tellJobs = (): void => {
    const figures = db.stats.jobs.take();
    if (figures) tell({ kind: "event", event: { of: "jobs", figures } });
  };
  const timer = setInterval(tellJobs, TELL_JOBS_MS);
  stop = async () => {
    clearInterval(timer);
    try {
      await running.stop();
      tellJobs();
      storage.close();
      await db.close();
    } catch (error) {
      log.error("cannot stop background work in order", { work, ...errorFields(error) });
    }
    log.flush();
  };
}

function withFewConnections(config: WorkerConfig["config"], most: number): WorkerConfig["config"] {
  const args = config.DB_CONNECTION_ARGS;
  const allowed = Math.min(args.max_connections ?? most, most);
  return { ...config, DB_CONNECTION_ARGS: { ...args, max_connections: allowed } };
}

function tellStopped(): void {
  tell({ kind: "stopped" });
}

function tell(message: FromWorker): void {
  self.postMessage(message);
}
