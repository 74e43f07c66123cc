import { expect, test } from "bun:test";
import { toBoolean, toNumber } from "./decode.ts";

test("booleans of both engines become booleans, nothing else does", () => {
  expect([1, true].map(toBoolean)).toEqual([true, true]);
  expect([0, false].map(toBoolean)).toEqual([false, false]);
  for (const other of ["t", "true", 2, null, undefined]) expect(() => toBoolean(other)).toThrow("boolean was expected");
});

test("numbers come out exact or not at all", () => {
  expect([7, "7", 7n, "-9007199254740991", 1.5, "0.25"].map(toNumber)).toEqual([7, 7, 7, -9007199254740991, 1.5, 0.25]);
  for (const other of ["9007199254740993", 2 ** 53, 2n ** 60n, "", " ", "x", null, undefined, Number.NaN, true]) {
    expect(() => toNumber(other)).toThrow("number up to 2^53 - 1 was expected");
  }
});
