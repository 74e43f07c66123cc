/** How an organization's address is masked. */

import { expect, test } from "bun:test";
import { mask } from "./recovery.ts";

test.each([
  ["", ""],
  ["a", "•"],
  ["ab", "••"],
  ["abc", "a•c"],
  ["abcdef", "a••••f"],
  ["office@acme.example", "offic•••••••••ample"],
])("%j becomes %j", (text, masked) => {
  expect(mask(text)).toBe(masked);
});
