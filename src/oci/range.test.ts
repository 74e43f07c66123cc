import { describe, expect, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import { formatContentRange, formatUploadRange, parseContentRange, parseRange } from "./range.ts";

describe("Content-Range of a chunk", () => {
  test.each([
    ["0-0", 0, 0],
    ["0-1023", 0, 1023],
    ["bytes 5-9/10", 5, 9],
    ["bytes 5-9/*", 5, 9],
    ["bytes=5-9", 5, 9],
    ["Bytes 5-9/10", 5, 9],
    [" 7-7 ", 7, 7],
    ["9007199254740990-9007199254740991", 9007199254740990, 9007199254740991],
  ])("%j", (header, start, end) => {
    expect(parseContentRange(header)).toEqual({ start, end });
  });

  test.each([
    "",
    "-",
    "5-",
    "-5",
    "9-5",
    "a-b",
    "0-9007199254740992",
    "1e3-2e3",
    "0x0-0x9",
    "99999999999999999999-99999999999999999999",
    "0-999999999999999999999",
    "0-5,6-9",
    "bytes */10",
    "items 0-5",
    "0--5",
    "+0-5",
    "0-5\u0000",
    `0-${"9".repeat(100_000)}`,
  ])("refuses %j", (header) => {
    try {
      parseContentRange(header);
      throw new Error("was taken");
    } catch (error) {
      expect(error).toBeInstanceOf(RegistryError);
      expect((error as RegistryError).code).toBe("range_invalid");
    }
  });

  test("is optional", () => {
    expect(parseContentRange(undefined)).toBeUndefined();
    expect(parseContentRange(null)).toBeUndefined();
  });
});

describe("Range of a pull of 1000 bytes", () => {
  test.each([
    ["bytes=0-0", 0, 0],
    ["bytes=0-999", 0, 999],
    ["bytes=500-", 500, 999],
    ["bytes=-500", 500, 999],
    ["bytes=-5000", 0, 999],
    ["bytes=200-5000", 200, 999],
    ["bytes=999-1e3".replace("1e3", "1000000000000000000"), 999, 999],
    ["bytes=0-99999999999999999999", 0, 999],
    [`bytes=0-${"9".repeat(200)}`, 0, 999],
    ["bytes=-99999999999999999999", 0, 999],
    ["BYTES = 1 - 2", 1, 2],
  ])("%j gives a part", (header, start, end) => {
    expect(parseRange(header, 1000)).toEqual({ start, end });
  });

  test.each([
    undefined,
    null,
    "",
    "bytes=",
    "bytes=-",
    "bytes=0-1,3-4",
    "items=0-1",
    "bytes=a-b",
    "bytes=1e1-",
    "bytes=--5",
    "bytes 0-1",
    `bytes=0-${"9".repeat(1000)}`,
  ])("%j gives all of it", (header) => {
    expect(parseRange(header, 1000)).toBeUndefined();
  });

  test.each(["bytes=1000-", "bytes=1000-2000", "bytes=99999999999999999999-", "bytes=-0", "bytes=500-0"])(
    "%j cannot be satisfied",
    (header) => {
      try {
        parseRange(header, 1000);
        throw new Error("was taken");
      } catch (error) {
        expect(error).toBeInstanceOf(RegistryError);
        expect((error as RegistryError).code).toBe("range_invalid");
        expect((error as RegistryError).headers).toEqual({ "Content-Range": "bytes */1000" });
      }
    },
  );

  test("nothing of an empty blob can be ranged", () => {
    for (const header of ["bytes=0-", "bytes=0-0", "bytes=-1"]) {
      expect(() => parseRange(header, 0)).toThrow(RegistryError);
    }
  });
});

test("ranges are written as clients expect them", () => {
  expect(formatContentRange({ start: 5, end: 9 }, 10)).toBe("bytes 5-9/10");
  expect([0, 1, 2, 1024].map(formatUploadRange)).toEqual(["0-0", "0-0", "0-1", "0-1023"]);
});
