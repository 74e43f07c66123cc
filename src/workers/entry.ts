/**
 * The one Bun worker file: builds what copying needs from the config it is sent, with database connections of its own, and
 * runs until it is told to stop. It shares nothing with the main thread.
 */

import { bootDatabase, bootLogger, bootStorage } from "../boot-parts.ts";
import { errorFields } from "../observe/logger.ts";
import type { FromWorker, ToWorker, WorkerConfig } from "./messages.ts";
import { type ReplicationWorker, startReplication } from "./replication.ts";

/** What copies and their leases need at once; the main thread has the rest of what the operator allows. */
const CONNECTIONS_MAX = 6;

declare const self: Worker;

let stop: (() => Promise<void>) | undefined;
let starting: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "start") starting = start(data.loaded, data.isShared);
  // A start that failed has been reported as the worker's error; there is nothing to stop then.
  else void starting.then(() => stop?.()).then(tellStopped, tellStopped);
};

async function start(loaded: WorkerConfig, isShared: boolean): Promise<void> {
  const { config } = loaded;
  const log = bootLogger(config, { isShared });
  const db = await bootDatabase(withFewConnections(config), log);
  const storage = await bootStorage(loaded, log);
  const worker: ReplicationWorker = startReplication({ config, db, storage, log }, (event) =>
    tell({ kind: "event", event }),
  );
  stop = async () => {
    try {
      await worker.stop();
      storage.close();
      await db.close();
    } catch (error) {
      log.error("cannot stop replication in order", errorFields(error));
    }
    log.flush();
  };
}

function withFewConnections(config: WorkerConfig["config"]): WorkerConfig["config"] {
  const args = config.DB_CONNECTION_ARGS;
  const allowed = Math.min(args.max_connections ?? CONNECTIONS_MAX, CONNECTIONS_MAX);
  return { ...config, DB_CONNECTION_ARGS: { ...args, max_connections: allowed } };
}

function tellStopped(): void {
  tell({ kind: "stopped" });
}

function tell(message: FromWorker): void {
  self.postMessage(message);
}
