/**
 * Trying again what failed in passing: a store that throttles, restarts or loses a connection. Which failures are of that
 * kind is told by their class, `PassingFailure`; everything else is final and comes out at once.
 */

import { RegistryError, type RegistryErrorOptions } from "../../errors.ts";

/**
 * A store did not answer, or said that it cannot now: the same request may be sent again. Left over after the last try, it
 * is the `unavailable` that the client sees.
 */
export class PassingFailure extends RegistryError {
  /** How long the store asks to be left alone, when it said so. */
  readonly retryAfterMs: number | undefined;

  constructor(message: string, options: Omit<RegistryErrorOptions, "message"> & { retryAfterMs?: number } = {}) {
    const { retryAfterMs, ...rest } = options;
    super("unavailable", { ...rest, message });
    this.name = "PassingFailure";
    this.retryAfterMs = retryAfterMs;
  }
}

export interface RetryOptions {
  /** Tries in all. */
  readonly triesMax?: number;
  /** No try begins later than this after the first: a client waits for the answer. */
  readonly deadlineMs?: number;
  /** Ends the waiting between tries; its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Told before each wait, with the number of the try that failed, from 1. */
  readonly onRetry?: (failure: PassingFailure, tries: number, delayMs: number) => void;
  /** A number from 0 up to 1, and a wait: other ones for tests. */
  readonly random?: () => number;
  readonly sleep?: (delayMs: number, signal?: AbortSignal) => Promise<void>;
}

export const retryDefaults = { triesMax: 5, deadlineMs: 60_000 } as const;

/** Bound of the first wait; it doubles with each one. */
const FIRST_DELAY_MS = 100;
/** Bound of every wait, also of one that the store asks for. */
const DELAY_MAX_MS = 10_000;

/**
 * Runs `work` until it succeeds, at most `triesMax` times. Waits a random time below 100 ms, 200 ms, 400 ms … between (full
 * jitter: instances that failed together must not come back together), or what the store's `Retry-After` says and some.
 * `work` is given the number of its try, from 1. Throws what the last try threw.
 */
export async function retrying<T>(work: (tries: number) => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const { triesMax, deadlineMs } = { ...retryDefaults, ...options };
  const random = options.random ?? Math.random;
  const sleep = options.sleep ?? sleepFor;
  const startMs = performance.now();
  for (let tries = 1; ; tries++) {
    try {
      return await work(tries);
    } catch (error) {
      if (!(error instanceof PassingFailure) || tries >= triesMax || options.signal?.aborted) throw error;
      const jitterMs = random() * Math.min(DELAY_MAX_MS, FIRST_DELAY_MS * 2 ** (tries - 1));
      const delayMs = Math.min(DELAY_MAX_MS, (error.retryAfterMs ?? 0) + jitterMs);
      if (performance.now() - startMs + delayMs > deadlineMs) throw error;
      options.onRetry?.(error, tries, delayMs);
      await sleep(delayMs, options.signal);
    }
  }
}

/** Milliseconds that a `Retry-After` header asks for, given in seconds or as a date; undefined when it is neither. */
export function retryAfterMs(header: string | null, nowMs: number): number | undefined {
  if (header === null) return undefined;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const atMs = Date.parse(text);
  return Number.isNaN(atMs) ? undefined : Math.max(0, atMs - nowMs);
}

function sleepFor(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, delayMs);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
