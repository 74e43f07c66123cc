/** The text of an OAuth token: 40 characters, of which 20 find its row and the hash of the others proves it. */

import { randomText } from "../../lib/random.ts";

/** Source: quay-behaviour reference, section 1. */
const TOKEN_CHARS = 40;
const NAME_CHARS = 20;
const TOKEN = /^[A-Za-z0-9]{40}$/;

export function makeToken(): { token: string; name: string; hash: string } {
  const token = randomText(TOKEN_CHARS);
  return { token, name: token.slice(0, NAME_CHARS), hash: hashToken(token.slice(NAME_CHARS)) };
}

/** Undefined for a text that cannot be a token. */
export function splitToken(token: string): { name: string; secret: string } | undefined {
  return TOKEN.test(token) ? { name: token.slice(0, NAME_CHARS), secret: token.slice(NAME_CHARS) } : undefined;
}

/** SHA-256 in hex: the secret is 100 random bits, so nothing slower is needed. */
export function hashToken(secret: string): string {
  return new Bun.CryptoHasher("sha256").update(secret).digest("hex");
}
