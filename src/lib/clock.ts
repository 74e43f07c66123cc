/** Time as a dependency: everything that asks for the time or waits asks a `Clock`, so that tests can hold it. */

export interface Clock {
  /** Milliseconds since the epoch. */
  nowMs(): number;
}

/** Whether something was done less than `withinMs` ago. A clock that was set back must not make it recent for as long. */
export function isRecent(doneMs: number, nowMs: number, withinMs: number): boolean {
  return doneMs <= nowMs && nowMs - doneMs < withinMs;
}

export const systemClock: Clock = { nowMs: () => Date.now() };
