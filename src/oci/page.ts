/** Paging of lists on /v2: the `n` and `last` parameters, and the `Link` to the next page. */

import { RegistryError } from "../errors.ts";
import { quoteValue } from "./quote.ts";

export interface Page {
  /** Most items to answer with, 0 to the limit. With 0 the answer is an empty list, without a Link. */
  readonly limit: number;
  /** Answer with what sorts after this; undefined from the start. */
  readonly last: string | undefined;
}

export interface PageRules {
  /** Items when `n` is absent, and the most whatever `n` says. */
  readonly limitDefault: number;
  readonly limitMax: number;
}

/** Longest `last`: a repository path has 511 characters. */
const LAST_LENGTH_MAX = 512;

/** More digits than this cannot be told from "as many as you have". */
const DIGITS_MAX = 400;

/**
 * Reads `n` and `last`. `n` above the maximum is clamped, because a client that asks for more only wants all of it. Throws
 * `invalid_request` when `n` is negative or no whole number, or `last` is not something that a list can hold. Spec:
 * distribution-spec "Listing Tags".
 */
export function parsePage(query: { n?: string | undefined; last?: string | undefined }, rules: PageRules): Page {
  return { limit: parseLimit(query.n, rules), last: parseLast(query.last) };
}

/** A `Link` value to the next page (RFC 8288). `path` is the list's own path, already encoded; undefined values are left out. */
export function linkHeader(path: string, params: Readonly<Record<string, string | number | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined) query.append(name, String(value));
  }
  const target = query.size === 0 ? encodePath(path) : `${encodePath(path)}?${query}`;
  return `<${target}>; rel="next"`;
}

function parseLimit(n: string | undefined, rules: PageRules): number {
  if (n === undefined) return rules.limitDefault;
  if (n.length > DIGITS_MAX || !/^\d+$/.test(n)) {
    throw new RegistryError("invalid_request", {
      message: `invalid n ${quoteValue(n)}: expected a whole number from 0 to ${rules.limitMax}`,
    });
  }
  return Math.min(Number(n), rules.limitMax);
}

function parseLast(last: string | undefined): string | undefined {
  if (last === undefined || last === "") return undefined;
  // Nothing listed has other characters, and a NUL would be an error in the database instead of here.
  if (last.length <= LAST_LENGTH_MAX && /^[\x21-\x7e]+$/.test(last)) return last;
  throw new RegistryError("invalid_request", {
    message: `invalid last ${quoteValue(last)}: expected the last item of the page before`,
  });
}

/** Keeps what may stand in a path and in `<…>`; everything else is percent-encoded, so that no value can end the link. */
function encodePath(path: string): string {
  return path.toWellFormed().replace(/[^A-Za-z0-9\-._~!$&'()*+,;=:@/%]/gu, encodeURIComponent);
}
