/** What somebody typed into a search box, as ranges of names: small letters, and only what a name can hold. */

import { BEYOND } from "../repository/visible.ts";

/** Names have up to 255 characters; a longer text finds nothing. */
const QUERY_CHARS_MAX = 512;
/** Further words narrow nothing down that matters. */
const TERMS_MAX = 5;

/** Texts that begin with `prefix`: from it on, and before `before`. */
export interface PrefixRange {
  readonly prefix: string;
  readonly before: string;
}

/** The words of a query, the longest first: it is the one to look up. Undefined when no name can match them. */
export function termsOf(query: string): string[] | undefined {
  const terms = query.slice(0, QUERY_CHARS_MAX).toLowerCase().split(/\s+/).filter(Boolean).slice(0, TERMS_MAX);
  if (query.length > QUERY_CHARS_MAX || !terms.every((term) => /^[a-z0-9._/-]+$/.test(term))) return undefined;
  // A word begins with a letter or digit: what a term has before that is a separator.
  const bare = terms.map((term) => term.replace(/^[^a-z0-9]+/, "")).filter(Boolean);
  return [...new Set(bare)].sort((a, b) => b.length - a.length);
}

/** A beginning of account, robot or team names; undefined when no name begins so. */
export function namePrefixOf(text: string): PrefixRange | undefined {
  const prefix = text.trim().toLowerCase();
  return prefix.length <= QUERY_CHARS_MAX && /^[a-z0-9][a-z0-9._+-]*$/.test(prefix) ? rangeOf(prefix) : undefined;
}

export function rangeOf(prefix: string): PrefixRange {
  return { prefix, before: prefix + BEYOND };
}

/** How near a name is to what was asked for, from 0.5 to 1: the same, its beginning, the beginning of one of its words. */
export function nearness(name: string, query: string): number {
  const wanted = query.trim().toLowerCase();
  if (name === wanted) return 1;
  const share = Math.min(1, wanted.length / Math.max(1, name.length));
  if (name.startsWith(wanted)) return 0.8 + 0.2 * share;
  const isWord = name.split(/[._/+-]/).some((_, index, words) => words.slice(index).join("-").startsWith(wanted));
  return isWord ? 0.6 + 0.2 * share : 0.5;
}
