/**
 * Has a Bun worker as long as there is work for it: a registry where nothing happens keeps the memory of one, and asks from
 * time to time with one cheap query.
 */

import type { App } from "../app.ts";
import { errorFields } from "../observe/logger.ts";
import type { WorkerEvent } from "./messages.ts";
import { type SpawnOptions, spawnWorker } from "./spawn.ts";

/** Rounds that find nothing, one after the other, before the worker gives its memory back. */
const IDLE_ROUNDS = 10;

export interface WorkWhenDue extends SpawnOptions {
  readonly everyMs: number;
  /** Asked while there is no worker. */
  readonly isDue: () => Promise<boolean>;
}

/** Looks every `everyMs` until the function it gives is called, which resolves when nothing of the work runs any more. */
export function workWhenDue(app: Pick<App, "log">, { everyMs, isDue, ...options }: WorkWhenDue): () => Promise<void> {
  let stopWorker: (() => Promise<void>) | undefined;
  let ending: Promise<void> | undefined;
  let idleRounds = 0;
  let isOver = false;

  function heard(event: WorkerEvent): void {
    options.onEvent(event);
    // Looking for jobs is no work.
    if (event.of === "jobs") return;
    idleRounds = "isIdle" in event && event.isIdle ? idleRounds + 1 : 0;
    if (idleRounds < IDLE_ROUNDS || !stopWorker) return;
    const stop = stopWorker;
    stopWorker = undefined;
    ending = stop().finally(() => {
      ending = undefined;
    });
  }

  async function look(): Promise<void> {
    if (stopWorker || ending) return;
    try {
      if (!(await isDue()) || isOver || stopWorker) return;
      idleRounds = 0;
      stopWorker = spawnWorker(app, { ...options, onEvent: heard });
    } catch (error) {
      app.log.warn("cannot ask whether there is background work", { work: options.work, ...errorFields(error) });
    }
  }

  const timer = setInterval(() => void look(), everyMs);
  return async () => {
    isOver = true;
    clearInterval(timer);
    await Promise.all([stopWorker?.(), ending]);
  };
}
