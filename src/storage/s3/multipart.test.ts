import { expect, test } from "bun:test";
import { workAnswerMs } from "./multipart.ts";

test("a store that has little to copy is given up as soon as any other, one that has much is not", () => {
  expect(workAnswerMs(20_000)).toBe(30_010);
  expect(workAnswerMs(128 * 1024 * 1024)).toBeGreaterThan(90_000);
  expect(workAnswerMs(100 * 1024 ** 3)).toBe(300_000);
});
