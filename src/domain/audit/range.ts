/** The dates that log views, counts and exports take. Source: quay-api reference, section 14. */

import { RegistryError } from "../../errors.ts";

export interface LogRange {
  /** Inclusive, epoch ms. */
  readonly startMs: number;
  /** Exclusive, epoch ms: the end of the day that was named. */
  readonly endMs: number;
}

const DAY_MS = 24 * 3600 * 1000;
/** A month of 31 days and the day that makes its end inclusive. */
const COUNTED_MAX_MS = 32 * DAY_MS;

/**
 * From `starttime` to the end of `endtime`, days as MM/DD/YYYY in UTC; by default from a day before now to a day after, as
 * Quay has it. Throws `invalid_request` for what is no day, and for an end before its start.
 */
export function parseLogRange(starttime: string | undefined, endtime: string | undefined, nowMs: number): LogRange {
  const startMs = starttime ? parseDay("starttime", starttime) : nowMs - DAY_MS;
  const endMs = (endtime ? parseDay("endtime", endtime) : nowMs) + DAY_MS;
  if (endMs >= startMs) return { startMs, endMs };
  throw new RegistryError("invalid_request", {
    message: `Invalid time span selected: the end "${endtime || "now"}" is before the start "${starttime}"`,
  });
}

/** Throws `invalid_request` with Quay's text when the range is longer than what is counted by day. */
export function requireCountable(range: LogRange): void {
  if (range.endMs - range.startMs <= COUNTED_MAX_MS) return;
  throw new RegistryError("invalid_request", { message: "Invalid date range for logs" });
}

/** The day of a time, as MM/DD/YYYY in UTC. */
export function formatDay(ms: number): string {
  const [year, month, day] = new Date(ms).toISOString().slice(0, 10).split("-");
  return `${month}/${day}/${year}`;
}

function parseDay(name: string, text: string): number {
  const match = /^(\d{1,2})\/(\d{1,2})\/(\d{4})$/.exec(text);
  const [month, day, year] = match ? match.slice(1).map(Number) : [];
  if (month !== undefined && day !== undefined && year !== undefined) {
    const ms = Date.UTC(year, month - 1, day);
    const date = new Date(ms);
    // Date.UTC takes 02/31 for 03/03, and two-digit years for 19xx.
    if (date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day) return ms;
  }
  throw new RegistryError("invalid_request", {
    message: `${name} "${text.slice(0, 40)}" is no day: it must be written as MM/DD/YYYY, in UTC`,
  });
}
