/**
 * Where an authorization may send a browser: the one place that compares a `redirect_uri` with what an application
 * registered. Quay compares the beginnings of the texts; here the parts of the addresses are compared, because
 * `https://good.example` is also how `https://good.example.evil` begins.
 */

import { RegistryError } from "../../errors.ts";
import { quoteValue } from "../../oci/quote.ts";

const URI_CHARS_MAX = 2000;
/** What an address is made of (RFC 3986); a parser would repair or drop other characters, each in its own way. */
const URI_TEXT = /^https?:\/\/[A-Za-z0-9._~:/?#[\]@!$&'()*+,;=%-]+$/;
/** A dot segment or a slash in disguise: what a server behind makes of them is its own affair. */
const DISGUISED = /%(2e|2f|5c|00)/i;

/** What answers carry in a query. */
const ANSWER_FIELDS = ["code", "state", "error", "error_description", "access_token"] as const;

/**
 * The parts of an absolute http or https address without user name, fragment, dot segments or empty segments; undefined
 * for anything else.
 */
function parseUri(text: string): URL | undefined {
  if (text.length > URI_CHARS_MAX || !URI_TEXT.test(text) || text.includes("#")) return undefined;
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  if (url.username !== "" || url.password !== "" || text.split("?")[0]?.includes("@")) return undefined;
  const path = pathOf(text);
  if (DISGUISED.test(path) || path.includes("//")) return undefined;
  if (path.split("/").some((segment) => segment === "." || segment === "..")) return undefined;
  return url;
}

/** The path as it was written, before a parser could tidy it. */
function pathOf(text: string): string {
  const afterHost = text.replace(/^https?:\/\/[^/?#]*/, "");
  return afterHost.split("?")[0] ?? "";
}

/** Throws `invalid_request` for an address that an application cannot register; empty is allowed and matches nothing. */
export function requireRegistrable(redirectUri: string): void {
  if (redirectUri === "" || parseUri(redirectUri)) return;
  const message =
    `The redirect_uri ${quoteValue(redirectUri)} must be an absolute http or https address without user name, ` +
    `fragment, ".." or "//" in its path`;
  throw new RegistryError("invalid_request", { message });
}

/**
 * True when a browser may be sent to `asked` for an application that registered `registered`: same scheme, host and port,
 * and the same path or one below it. A query that was registered must be repeated as it is.
 */
export function isAllowedRedirect(registered: string, asked: string): boolean {
  const known = parseUri(registered);
  const url = parseUri(asked);
  if (!known || !url) return false;
  if (url.origin !== known.origin) return false;
  if (known.search !== "" && url.search !== known.search) return false;
  // Ours are put behind it: a client that reads the first of two would take the one that somebody else chose.
  if (ANSWER_FIELDS.some((field) => url.searchParams.has(field))) return false;
  const base = pathOf(registered).replace(/\/$/, "");
  const path = pathOf(asked);
  return path === base || path.startsWith(`${base}/`);
}

/** The address with fields added to its query or put into its fragment. */
export function withFields(
  redirectUri: string,
  place: "query" | "fragment",
  fields: Readonly<Record<string, string | undefined>>,
): string {
  const given = Object.entries(fields).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const text = new URLSearchParams(given).toString();
  if (place === "fragment") return `${redirectUri}#${text}`;
  return redirectUri.includes("?") ? `${redirectUri}&${text}` : `${redirectUri}?${text}`;
}
