import { afterEach, beforeEach, expect, jest, test } from "bun:test";
import { RegistryError } from "../errors.ts";
import { createLogger } from "../observe/logger.ts";
import { LocationHealth } from "./health.ts";

const log = createLogger({ clock: { nowMs: () => 0 }, level: "error", format: "text", write: () => undefined });
const away = () => new RegistryError("unavailable", { message: "away" });

// Steps of time stay below the ten seconds after which a probe has failed.
beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

/** Lets what is pending go on, without time. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await Promise.resolve();
}

test("a store is probed on when a call fails while a probe has no answer yet", async () => {
  const probes: PromiseWithResolvers<void>[] = [];
  const probe = () => {
    probes.push(Promise.withResolvers<void>());
    return (probes.at(-1) as PromiseWithResolvers<void>).promise;
  };
  const health = new LocationHealth({ location: "us", probe, log });
  health.watch();
  expect(probes).toHaveLength(1);
  health.failed(away());
  expect(health.isUp).toBe(false);
  // The timer of the failure goes off beside the first probe, which only then fails as well.
  jest.advanceTimersByTime(5000);
  expect(probes).toHaveLength(1);
  probes[0]?.reject(away());
  await settle();
  expect(health.isDown).toBe(true);
  jest.advanceTimersByTime(5000);
  expect(probes).toHaveLength(2);
  probes[1]?.resolve();
  await settle();
  expect(health.isUp).toBe(true);
  health.close();
});
