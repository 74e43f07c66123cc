import { expect, test } from "bun:test";
import { TokenBucket } from "./token-bucket.ts";

/** A clock that goes on by sleeping, and by nothing else. */
function world(ratePerSecond: number, burstMs: number) {
  let nowMs = 1000;
  const bucket = new TokenBucket({
    ratePerSecond,
    burstMs,
    nowMs: () => nowMs,
    sleep: async (ms, signal) => {
      signal.throwIfAborted();
      nowMs += ms;
    },
  });
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { bucket, now: () => nowMs, pass };
}

const { signal } = new AbortController();

test("takes no more in a time than the rate and what was kept", async () => {
  const { bucket, now } = world(1000, 100);
  for (let taken = 0; taken < 10_000; taken += 50) await bucket.take(50, signal);
  expect(now() - 1000).toBeCloseTo(10_000 - 100, 6);
});

test("keeps only a moment's worth through a pause", async () => {
  const { bucket, now, pass } = world(1000, 100);
  await bucket.take(100, signal);
  expect(now()).toBe(1000);
  pass(60_000);
  await bucket.take(100, signal);
  expect(now()).toBe(61_000);
  await bucket.take(1, signal);
  expect(now()).toBeCloseTo(61_001, 6);
});

test("gives an amount that is larger than what it ever keeps, after its time", async () => {
  const { bucket, now } = world(10, 100);
  await bucket.take(50, signal);
  expect(now() - 1000).toBeCloseTo(4900, 6);
});

test("several who take share one rate", async () => {
  const bucket = new TokenBucket({ ratePerSecond: 100_000, burstMs: 0 });
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: 4 }, () => bucket.take(5000, signal)));
  // A timer may end up to a millisecond early.
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(195);
});

test("a wait that was ended has taken nothing", async () => {
  const stopped = new AbortController();
  const bucket = new TokenBucket({ ratePerSecond: 1, burstMs: 1000 });
  const waiting = bucket.take(3600, stopped.signal);
  stopped.abort(new Error("enough"));
  expect(waiting).rejects.toThrow();
  await waiting.catch(() => undefined);
  const startedMs = performance.now();
  await bucket.take(0.5, signal);
  expect(performance.now() - startedMs).toBeLessThan(60_000);
});

test("refuses a rate of nothing", () => {
  expect(() => new TokenBucket({ ratePerSecond: 0, burstMs: 0 })).toThrow("must be above 0");
});
