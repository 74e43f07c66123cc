/** The main thread's side of a Bun worker: starts it, hears its figures, starts it again when it dies. */

import type { App } from "../app.ts";
import type { FromWorker, ToWorker, WorkerConfig, WorkerEvent, WorkerKind } from "./messages.ts";

/** How long a stopping worker may take before it is ended; what it held comes back when its lease is over. */
const STOP_MS = 10_000;
/** A worker that dies is started again after this long, twice as long each time it dies young. */
const RESTART_MS = 1000;
const RESTART_MS_MAX = 60_000;
const STEADY_MS = 60_000;

/** In the single binary, files lie below its root as they lie below src. */
const ENTRY = import.meta.url.startsWith("file:///$bunfs/")
  ? "./workers/entry.ts"
  : new URL("./entry.ts", import.meta.url).href;

type SpawnApp = Pick<App, "log">;

export interface SpawnOptions {
  readonly work: WorkerKind;
  readonly loaded: WorkerConfig;
  /** Other processes write into the same log. */
  readonly isShared: boolean;
  readonly onEvent: (event: WorkerEvent) => void;
}

/** Runs the worker until the function it gives is called, which resolves when nothing of it runs any more. */
export function spawnWorker(app: SpawnApp, { work, loaded, isShared, onEvent }: SpawnOptions): () => Promise<void> {
  let current: Worker | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  let isOver = false;

  function start(): void {
    const startedMs = performance.now();
    const worker = new Worker(ENTRY, { name: work });
    current = worker;
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      if (data.kind === "event") onEvent(data.event);
    };
    const died = (reason: string): void => {
      if (current !== worker || isOver) return;
      current = undefined;
      worker.terminate();
      failures = performance.now() - startedMs > STEADY_MS ? 0 : failures + 1;
      const afterMs = Math.min(RESTART_MS * 2 ** failures, RESTART_MS_MAX);
      app.log.error("a background worker died and is started again", { work, reason, afterMs });
      timer = setTimeout(start, afterMs);
    };
    worker.onerror = (event) => died(event.message);
    worker.addEventListener("close", () => died("it ended"));
    const { config, extraCaPaths } = loaded;
    send(worker, { kind: "start", work, loaded: { config, extraCaPaths }, isShared });
  }

  start();
  return async () => {
    isOver = true;
    clearTimeout(timer);
    const worker = current;
    if (!worker) return;
    await ended(worker, onEvent);
    worker.terminate();
  };
}

/** Resolves when the worker has stopped, or has had its time to. */
function ended(worker: Worker, onEvent: SpawnOptions["onEvent"]): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, STOP_MS);
  worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
    if (data.kind === "stopped") resolve();
    else onEvent(data.event);
  };
  worker.onerror = () => resolve();
  worker.addEventListener("close", () => resolve());
  send(worker, { kind: "stop" });
  return promise.finally(() => clearTimeout(timer));
}

function send(worker: Worker, message: ToWorker): void {
  worker.postMessage(message);
}
