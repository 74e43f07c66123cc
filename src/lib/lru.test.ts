import { describe, expect, test } from "bun:test";
import { Lru } from "./lru.ts";

describe("Lru", () => {
  test("keeps what is used and forgets what is not", () => {
    const lru = new Lru<number, string>(100);
    for (let i = 0; i < 1000; i++) {
      lru.set(i, String(i));
      expect(lru.get(0)).toBe("0");
      expect(lru.size).toBeLessThanOrEqual(100);
    }
    expect(lru.get(999)).toBe("999");
    expect(lru.get(500)).toBeUndefined();
  });

  test("bounds the sum of weights", () => {
    const lru = new Lru<string, string>(1000);
    lru.set("heavy", "x", 501);
    expect(lru.get("heavy")).toBeUndefined();
    for (let i = 0; i < 50; i++) lru.set(`k${i}`, "x", 100);
    expect(lru.size).toBeLessThanOrEqual(10);
  });

  test("a replaced value is never seen again, whichever generation it was in", () => {
    const lru = new Lru<string, number>(4);
    lru.set("a", 1);
    lru.set("b", 1);
    lru.set("c", 1);
    lru.set("a", 2);
    expect(lru.get("a")).toBe(2);
    lru.delete("a");
    expect(lru.get("a")).toBeUndefined();
    lru.clear();
    expect(lru.size).toBe(0);
  });
});
