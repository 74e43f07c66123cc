/** Time as a dependency: everything that asks for the time or waits asks a `Clock`, so that tests can hold it. */

export interface Clock {
  /** Milliseconds since the epoch. */
  nowMs(): number;
}

export const systemClock: Clock = { nowMs: () => Date.now() };
