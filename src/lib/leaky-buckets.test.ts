import { describe, expect, test } from "bun:test";
import { LeakyBuckets } from "./leaky-buckets.ts";

const startMs = 1_800_000_000_000;

/** How many of `count` requests at one moment get through. */
function taken(buckets: LeakyBuckets, count: number, nowMs: number, key = "k"): number {
  let passed = 0;
  for (let i = 0; i < count; i++) if (buckets.take(key, nowMs) === 0) passed++;
  return passed;
}

describe("a leaky bucket", () => {
  const rates: [ratePerSecond: number, burst: number][] = [
    [5, 25],
    [5, 2],
    [30, 2],
    [50, 10],
    [60, 20],
    [1, 0],
  ];
  test.each(rates)("of %p a second takes the burst of %p and one at once, then its rate", (ratePerSecond, burst) => {
    const buckets = new LeakyBuckets({ ratePerSecond, burst, keysMax: 10 });
    expect(taken(buckets, 1000, startMs)).toBe(burst + 1);
    // Ten seconds of asking twice as often as allowed; what was refused has cost nothing.
    let passed = 0;
    const stepMs = 500 / ratePerSecond;
    for (let step = 1; step <= 20 * ratePerSecond; step++) passed += taken(buckets, 1, startMs + step * stepMs);
    expect(passed).toBe(10 * ratePerSecond);
    // Left alone for long enough it is empty again, and not more than empty.
    expect(taken(buckets, 1000, startMs + 3_600_000)).toBe(burst + 1);
  });

  test("says how long to wait, and lets in who waited", () => {
    const buckets = new LeakyBuckets({ ratePerSecond: 5, burst: 1, keysMax: 10 });
    expect(taken(buckets, 2, startMs)).toBe(2);
    expect(buckets.take("k", startMs)).toBeCloseTo(200, 6);
    expect(buckets.take("k", startMs + 150)).toBeCloseTo(50, 6);
    expect(buckets.take("k", startMs + 200)).toBe(0);
  });

  test("does not know other keys", () => {
    const buckets = new LeakyBuckets({ ratePerSecond: 1, burst: 0, keysMax: 10 });
    expect([taken(buckets, 5, startMs, "a"), taken(buckets, 5, startMs, "b")]).toEqual([1, 1]);
    expect([buckets.has("a"), buckets.has("c")]).toEqual([true, false]);
  });

  test("does not punish a clock that was set back", () => {
    const buckets = new LeakyBuckets({ ratePerSecond: 1, burst: 2, keysMax: 10 });
    expect(taken(buckets, 5, startMs)).toBe(3);
    const backMs = startMs - 3_600_000;
    expect(taken(buckets, 5, backMs)).toBe(0);
    expect(taken(buckets, 5, backMs + 1000)).toBe(1);
    expect(taken(buckets, 5, backMs + 60_000)).toBe(3);
  });

  test("keeps no more keys than it may", () => {
    const buckets = new LeakyBuckets({ ratePerSecond: 1, burst: 0, keysMax: 100 });
    for (let i = 0; i < 10_000; i++) buckets.take(`k${i}`, startMs);
    expect(Array.from({ length: 10_000 }, (_, i) => buckets.has(`k${i}`)).filter(Boolean).length).toBeLessThanOrEqual(
      100,
    );
    // Who keeps asking is not forgotten among those who do not.
    const steady = new LeakyBuckets({ ratePerSecond: 1, burst: 0, keysMax: 100 });
    expect(steady.take("steady", startMs)).toBe(0);
    for (let i = 0; i < 10_000; i++) {
      steady.take(`k${i}`, startMs);
      expect(steady.take("steady", startMs)).toBeGreaterThan(0);
    }
  });
});
