/**
 * The small recurring work of one instance, in the main thread because each step is short: ending stale uploads, removing
 * keys that nobody wants and sessions that are over, finishing a count that another instance left. Heavy kinds (GC, mirroring, scanning) get Bun
 * workers with their issues.
 */

import type { App } from "../app.ts";
import { sweepCodes } from "../domain/recovery/email-code.ts";
import { sweepServiceKeys } from "../domain/service-key/service-key.ts";
import { sweepSessions } from "../domain/session/session.ts";
import { countRegistrySize } from "../domain/superuser/registry-size.ts";
import { sweepUploads } from "../domain/upload/sweep.ts";
import { errorFields } from "../observe/logger.ts";

/** First sweep after the start-up rush is over. */
const FIRST_DELAY_MS = 30_000;
/** Rows removed in one transaction. */
const BATCH = 100;

/** A bounded step; gives how much it found, and is called again until that is nothing. */
type Step = (app: App) => Promise<number>;

const STEPS: Readonly<Record<string, Step>> = {
  "sweep stale uploads": sweepUploads,
  "sweep sessions": (app) => sweepSessions(app, BATCH),
  "sweep codes of mails": (app) => sweepCodes(app, BATCH),
  "sweep service keys": (app) => sweepServiceKeys(app, BATCH),
  "count the registry's size": async (app) => {
    await countRegistrySize(app, false);
    return 0;
  },
};

/** Starts the timers; the function it gives stops them and waits for a running step. */
export function startMaintenance(app: App): () => Promise<void> {
  let running: Promise<void> = Promise.resolve();
  let stopped = false;
  let timer = setTimeout(round, FIRST_DELAY_MS);

  function round(): void {
    running = runAll().finally(() => {
      if (!stopped) timer = setTimeout(round, app.config.BLOBUPLOAD_CLEANUP_FREQUENCY * 1000);
    });
  }

  /** One that fails does not keep the others from their work. */
  async function runAll(): Promise<void> {
    for (const [name, step] of Object.entries(STEPS)) {
      try {
        while (!stopped && (await step(app)) > 0);
      } catch (error) {
        app.log.error(`cannot ${name}`, errorFields(error));
      }
    }
  }

  return async () => {
    stopped = true;
    clearTimeout(timer);
    await running;
  };
}
