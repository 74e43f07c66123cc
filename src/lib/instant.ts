/** An instant as people and programs write it: RFC 3339, or seconds since 1970. */

const RFC_3339 = /^(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/;
/** Seconds of the year 9999 have eleven digits. */
const SECONDS = /^\d{1,11}(\.\d{1,9})?$/;

/**
 * Epoch ms, rounded down; undefined for anything else, such as a date without a time or the 30th of February. A blank before
 * the offset is a "+" that came through a query without being escaped.
 */
export function parseInstant(text: string): number | undefined {
  if (SECONDS.test(text)) return Math.floor(Number(text) * 1000);
  const found = RFC_3339.exec(text.replace(/ (\d\d:\d\d)$/, "+$1"));
  if (!found) return undefined;
  const [, day = "", time = "", fraction = "", offset = ""] = found;
  const ms = Date.parse(`${day}T${time}${fraction.slice(0, 4)}${offset.toUpperCase()}`);
  // A day that the month has not got is taken for one of the next month.
  const isDay = Number(day.slice(8)) === new Date(Date.parse(`${day}T00:00:00Z`)).getUTCDate();
  return Number.isNaN(ms) || !isDay ? undefined : ms;
}
