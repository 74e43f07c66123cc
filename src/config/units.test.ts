import { describe, expect, test } from "bun:test";
import { durationMs, sizeBytes } from "./units.ts";

describe("durationMs", () => {
  const good: [string, number][] = [
    ["0s", 0],
    ["45s", 45_000],
    ["30m", 1_800_000],
    ["12h", 43_200_000],
    ["1d", 86_400_000],
    ["2w", 1_209_600_000],
    ["104w", 62_899_200_000],
  ];
  for (const [text, ms] of good) test(`${text} is ${ms} ms`, () => expect(durationMs(text)).toBe(ms));

  for (const text of ["", "2", "w", "2 w", "-1d", "1.5h", "2W", "1y", "2w1d", " 2w", "2w\n", "99999999999999w"]) {
    test(`${JSON.stringify(text)} is no duration`, () => expect(() => durationMs(text)).toThrow(RangeError));
  }
});

describe("sizeBytes", () => {
  const good: [string, number][] = [
    ["20G", 20_000_000_000],
    ["500M", 500_000_000],
    ["1Gi", 1_073_741_824],
    ["1GiB", 1_073_741_824],
    ["2T", 2_000_000_000_000],
    ["64kB", 64_000],
    ["4096", 4096],
  ];
  for (const [text, bytes] of good) test(`${text} is ${bytes} bytes`, () => expect(sizeBytes(text)).toBe(bytes));

  for (const text of ["", "G", "-1G", "1.5G", "20 G", "20X", "99999999P"]) {
    test(`${JSON.stringify(text)} is no size`, () => expect(() => sizeBytes(text)).toThrow(RangeError));
  }
});
