/** Text of strangers on its way into the log: without control characters, and no longer than it is worth. */

/** Source of both bounds: Quay's columns for names and agents. */
export const NAME_SHOWN_MAX = 255;
export const MESSAGE_SHOWN_MAX = 512;

/** The text on one line and at most `charsMax` long; a cut one ends in `…`. */
export function printable(text: string, charsMax: number = NAME_SHOWN_MAX): string {
  // A little more than is shown, so that a megabyte is not searched for what is then cut off.
  const clean = text
    .slice(0, charsMax * 2)
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, " ")
    .toWellFormed();
  return clean.length <= charsMax ? clean : `${clean.slice(0, charsMax - 1).toWellFormed()}…`;
}
