/**
 * How a value that came from outside is shown in a message: quoted, on one line, and short. Here because every parser in
 * this folder words its own errors; the caller decides nothing about the form.
 */

/** Most characters of a foreign value that a message repeats: enough to recognise it, too few to flood a log. */
const SHOWN_CHARACTERS_MAX = 100;

/** Controls, line and paragraph separators, bidirectional overrides, lone surrogates and other invisible characters. */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** The value with everything unprintable escaped and cut to 100 characters, without quotes. */
export function showValue(value: string): string {
  // Cut before escaping, so that the work is bounded too; cut after, because an escape is longer than its character.
  const escaped = value.slice(0, SHOWN_CHARACTERS_MAX + 1).replace(UNPRINTABLE, escapeCharacter);
  return escaped.length <= SHOWN_CHARACTERS_MAX ? escaped : `${escaped.slice(0, SHOWN_CHARACTERS_MAX).toWellFormed()}…`;
}

/** The same in double quotes, with quotes and backslashes inside escaped. */
export function quoteValue(value: string): string {
  return `"${showValue(value.slice(0, SHOWN_CHARACTERS_MAX + 1).replace(/["\\]/g, "\\$&"))}"`;
}

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code < 0x80 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
}
