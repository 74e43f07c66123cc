import { expect, test } from "bun:test";
import { RegistryError } from "../../errors.ts";
import { PassingFailure, retryAfterMs, retrying } from "./retry.ts";

/** Waits for nothing and remembers how long it should have. */
function waits() {
  const delays: number[] = [];
  return { delays, sleep: async (delayMs: number) => void delays.push(delayMs) };
}

function failing(times: number, error: () => Error) {
  let calls = 0;
  const work = async (tries: number) => {
    calls++;
    expect(tries).toBe(calls);
    if (calls <= times) throw error();
    return "done";
  };
  return { work, calls: () => calls };
}

test("what fails in passing is tried again, after waits that grow and are drawn at random", async () => {
  const { delays, sleep } = waits();
  const { work } = failing(4, () => new PassingFailure("no"));
  expect(await retrying(work, { sleep, random: () => 0.5 })).toBe("done");
  expect(delays).toEqual([50, 100, 200, 400]);
});

test("the fifth failure is the last", async () => {
  const { delays, sleep } = waits();
  const { work, calls } = failing(99, () => new PassingFailure("the store is away"));
  await expect(retrying(work, { sleep })).rejects.toMatchObject({ code: "unavailable", message: "the store is away" });
  expect(calls()).toBe(5);
  expect(delays).toHaveLength(4);
});

test("what is final is not tried again", async () => {
  for (const error of [new RegistryError("unavailable"), new Error("x")]) {
    const { work, calls } = failing(99, () => error);
    await expect(retrying(work)).rejects.toBe(error);
    expect(calls()).toBe(1);
  }
});

test("Retry-After is waited for, with jitter on top and a bound", async () => {
  const { delays, sleep } = waits();
  const asked = [2000, 600_000];
  const { work } = failing(2, () => new PassingFailure("slow down", { retryAfterMs: asked.shift() ?? 0 }));
  await retrying(work, { sleep, random: () => 0.5 });
  expect(delays).toEqual([2050, 10_000]);
});

test("no try begins after the deadline", async () => {
  const { delays, sleep } = waits();
  const { work, calls } = failing(99, () => new PassingFailure("no", { retryAfterMs: 5000 }));
  await expect(retrying(work, { sleep, deadlineMs: 1000 })).rejects.toBeInstanceOf(PassingFailure);
  expect([calls(), delays.length]).toEqual([1, 0]);
});

test("a wait ends with its signal", async () => {
  const controller = new AbortController();
  const reason = new Error("gone");
  const { work } = failing(99, () => new PassingFailure("no", { retryAfterMs: 5000 }));
  const running = retrying(work, {
    signal: controller.signal,
    onRetry: () => queueMicrotask(() => controller.abort(reason)),
  });
  await expect(running).rejects.toBe(reason);
});

test("Retry-After is read in seconds and as a date", () => {
  const nowMs = Date.UTC(2026, 0, 1);
  expect(retryAfterMs("3", nowMs)).toBe(3000);
  expect(retryAfterMs(" 0 ", nowMs)).toBe(0);
  expect(retryAfterMs("Thu, 01 Jan 2026 00:00:07 GMT", nowMs)).toBe(7000);
  expect(retryAfterMs("Thu, 01 Jan 2015 00:00:07 GMT", nowMs)).toBe(0);
  for (const text of [null, "", "soon", "99999999999999"]) expect(retryAfterMs(text, nowMs)).toBeUndefined();
});
