/**
 * The small recurring work of one instance, in the main thread because each step is short: ending stale uploads, removing
 * keys that nobody wants and sessions that are over, exporting and archiving the action log, finishing a count that another
 * instance left. Heavy kinds (GC, mirroring, scanning) get Bun workers with their issues.
 */

import type { App } from "../app.ts";
import { sweepAppTokens } from "../domain/app-token/app-token.ts";
import { runExports, sweepExports } from "../domain/audit/export-run.ts";
import { rotateLogs } from "../domain/audit/rotate.ts";
import { sweepCodes } from "../domain/recovery/email-code.ts";
import { sweepServiceKeys } from "../domain/service-key/service-key.ts";
import { sweepSessions } from "../domain/session/session.ts";
import { countRegistrySize } from "../domain/superuser/registry-size.ts";
import { cleanStores, sweepUploads } from "../domain/upload/sweep.ts";
import { errorFields } from "../observe/logger.ts";

/** First sweep after the start-up rush is over. */
const FIRST_DELAY_MS = 30_000;
/** Rows removed in one transaction. */
const BATCH = 100;
/** Who has a lease of this process. */
const OWNER = crypto.randomUUID();
/** Asking whether archiving is due costs a query. */
const ROTATION_POLL_MS = 10 * 60_000;

/** A bounded step; gives how much it found, and is called again until that is nothing. */
type Step = (app: App) => Promise<number>;

/** A step that goes on by itself until there is nothing left. */
function once(work: (app: App) => Promise<void>): Step {
  return async (app) => {
    await work(app);
    return 0;
  };
}

interface Loop {
  readonly firstMs: number;
  readonly everyMs: number;
  readonly steps: Readonly<Record<string, Step>>;
}

function loopsOf({ config }: App): Loop[] {
  const frequencyMs = config.ACTION_LOG_ROTATION_FREQUENCY * 1000;
  const exportsMs = config.EXPORT_ACTION_LOGS_WORKER_POLL_PERIOD * 1000;
  return [
    {
      firstMs: FIRST_DELAY_MS,
      everyMs: config.BLOBUPLOAD_CLEANUP_FREQUENCY * 1000,
      steps: {
        "sweep stale uploads": sweepUploads,
        "clean the stores": once(cleanStores),
        "sweep sessions": (app) => sweepSessions(app, BATCH),
        "sweep codes of mails": (app) => sweepCodes(app, BATCH),
        "sweep expired app tokens": sweepAppTokens,
        "sweep service keys": (app) => sweepServiceKeys(app, BATCH),
        "count the registry's size": once((app) => countRegistrySize(app, false)),
      },
    },
    {
      firstMs: Math.min(FIRST_DELAY_MS, exportsMs),
      everyMs: exportsMs,
      steps: {
        "export action logs": (app) => runExports(app, OWNER),
        "remove exported action logs": sweepExports,
      },
    },
    {
      firstMs: Math.min(FIRST_DELAY_MS, frequencyMs),
      everyMs: Math.min(ROTATION_POLL_MS, frequencyMs),
      steps: { "archive action logs": (app) => rotateLogs(app, OWNER) },
    },
  ];
}

/** Starts the timers; the function it gives stops them and waits for running steps. */
export function startMaintenance(app: App): () => Promise<void> {
  const stops = loopsOf(app).map((loop) => startLoop(app, loop));
  return async () => {
    await Promise.all(stops.map((stop) => stop()));
  };
}

function startLoop(app: App, loop: Loop): () => Promise<void> {
  let running: Promise<void> = Promise.resolve();
  let stopped = false;
  let timer = setTimeout(round, loop.firstMs);

  function round(): void {
    running = runAll().finally(() => {
      if (!stopped) timer = setTimeout(round, loop.everyMs);
    });
  }

  /** One that fails does not keep the others from their work. */
  async function runAll(): Promise<void> {
    for (const [name, step] of Object.entries(loop.steps)) {
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
