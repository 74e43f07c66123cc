/** The frame of background loops: rounds with pauses between them, until somebody has them stop. */

import { setTimeout as delay } from "node:timers/promises";

export interface Looping {
  /** Resolves when the round under way has ended, which its signal asked it to. */
  stop(): Promise<void>;
}

/** Runs `round`, which never throws, every `everyMs` from now on. */
export function startRounds(everyMs: number, round: (signal: AbortSignal) => Promise<void>): Looping {
  const stopped = new AbortController();
  const { signal } = stopped;

  async function loop(): Promise<void> {
    while (!signal.aborted) {
      await round(signal);
      await pause(everyMs, signal);
    }
  }

  const looping = loop();
  return {
    async stop() {
      stopped.abort(new Error("the worker stops"));
      await looping;
    },
  };
}

/** About `ms` or until `signal` says to stop: never exactly the same, so that instances do not look in step. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms * (0.75 + Math.random() / 2), undefined, { signal }).catch(() => undefined);
}
