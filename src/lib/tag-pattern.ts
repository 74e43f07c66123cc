/** Patterns of tags, as policies and the config have them. */

import { compileLinearRegex, type LinearRegex } from "./linear-regex.ts";
import { PatternError } from "./regex-parser.ts";

/** Compiles one of at most 256 characters. Throws `PatternError` with what is wrong with it. */
export function compileTagPattern(pattern: string): LinearRegex {
  if (!/^[\x20-\x7e]*$/.test(pattern)) {
    throw new PatternError("tags have no characters but ASCII's, so a pattern has none either");
  }
  return compileLinearRegex(pattern);
}
