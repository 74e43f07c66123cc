/**
 * The small recurring work of one instance, in the main thread because each step is short: ending stale uploads. Heavy
 * kinds (GC, mirroring, scanning) get Bun workers with their issues.
 */

import type { App } from "../app.ts";
import { sweepUploads } from "../domain/upload/sweep.ts";
import { errorFields } from "../observe/logger.ts";

/** First sweep after the start-up rush is over. */
const FIRST_DELAY_MS = 30_000;

/** Starts the timers; the function it gives stops them and waits for a running step. */
export function startMaintenance(app: App): () => Promise<void> {
  let running: Promise<void> = Promise.resolve();
  let stopped = false;
  let timer = setTimeout(step, FIRST_DELAY_MS);

  function step(): void {
    running = sweepAll()
      .catch((error: unknown) => app.log.error("cannot sweep stale uploads", errorFields(error)))
      .finally(() => {
        if (!stopped) timer = setTimeout(step, app.config.BLOBUPLOAD_CLEANUP_FREQUENCY * 1000);
      });
  }

  async function sweepAll(): Promise<void> {
    while (!stopped && (await sweepUploads(app)) > 0);
  }

  return async () => {
    stopped = true;
    clearTimeout(timer);
    await running;
  };
}
