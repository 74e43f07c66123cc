/** Comparing secrets without telling by the time it takes how much of a guess was right. */

import { timingSafeEqual } from "node:crypto";

/** True when both texts are the same, whatever their lengths. */
export function isSameSecret(a: string, b: string): boolean {
  return timingSafeEqual(sha256(a), sha256(b));
}

function sha256(text: string): Uint8Array {
  return new Bun.CryptoHasher("sha256").update(text).digest();
}
