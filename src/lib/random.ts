/** Random texts for tokens and passwords. */

const UPPER_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/** `length` characters of A–Z and 0–9, each drawn evenly: 5.17 bits a character. */
export function randomText(length: number): string {
  let text = "";
  while (text.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length * 2))) {
      // 252 is the largest multiple of 36 in a byte; taking more would favour the first letters.
      if (byte < 252 && text.length < length) text += UPPER_DIGITS[byte % 36];
    }
  }
  return text;
}
