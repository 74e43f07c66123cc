import { expect, test } from "bun:test";
import { quoteValue, showValue } from "./quote.ts";

test.each([
  ["plain", '"plain"'],
  ['a"b\\c', '"a\\"b\\\\c"'],
  ["a\u0000b\r\n\u007f", '"a\\x00b\\x0d\\x0a\\x7f"'],
  ["\u202egpj.exe\u2028", '"\\u{202e}gpj.exe\\u{2028}"'],
  ["\ud800", '"\\u{d800}"'],
  ["grün 😀", '"grün 😀"'],
])("%j is shown as %s", (value, shown) => {
  expect(quoteValue(value)).toBe(shown);
});

test("long values are cut, also when escaping makes them long", () => {
  expect(showValue("x".repeat(100))).toBe("x".repeat(100));
  expect(showValue("x".repeat(101))).toBe(`${"x".repeat(100)}…`);
  for (const value of ["\u0000".repeat(1_000_000), "😀".repeat(1000), `x${"😀".repeat(1000)}`, '"'.repeat(1000)]) {
    expect(quoteValue(value).length).toBeLessThanOrEqual(103);
    expect(quoteValue(value).isWellFormed()).toBe(true);
  }
});
