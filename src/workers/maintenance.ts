/**
 * The small recurring work of one instance, in the main thread because each step is short: ending stale uploads, removing
 * tokens and codes that are over. Heavy kinds (GC, mirroring, scanning) get Bun workers with their issues.
 */

import type { App } from "../app.ts";
import { sweepAppTokens } from "../domain/app-token/app-token.ts";
import { sweepOauth } from "../domain/oauth/token.ts";
import { sweepUploads } from "../domain/upload/sweep.ts";
import { errorFields } from "../observe/logger.ts";

/** First sweep after the start-up rush is over. */
const FIRST_DELAY_MS = 30_000;

/** Each does a bounded step and gives how much it found; 0 ends its turn. */
const SWEEPS: Readonly<Record<string, (app: App) => Promise<number>>> = {
  "stale uploads": sweepUploads,
  "expired app-specific tokens": sweepAppTokens,
  "expired OAuth codes and tokens": sweepOauth,
};

/** Starts the timers; the function it gives stops them and waits for a running step. */
export function startMaintenance(app: App): () => Promise<void> {
  let running: Promise<void> = Promise.resolve();
  let stopped = false;
  let timer = setTimeout(step, FIRST_DELAY_MS);

  function step(): void {
    running = sweepAll().finally(() => {
      if (!stopped) timer = setTimeout(step, app.config.BLOBUPLOAD_CLEANUP_FREQUENCY * 1000);
    });
  }

  async function sweepAll(): Promise<void> {
    for (const [what, sweep] of Object.entries(SWEEPS)) {
      try {
        while (!stopped && (await sweep(app)) > 0);
      } catch (error) {
        // One that fails must not keep the others from their turn.
        app.log.error(`cannot sweep ${what}`, errorFields(error));
      }
    }
  }

  return async () => {
    stopped = true;
    clearTimeout(timer);
    await running;
  };
}
