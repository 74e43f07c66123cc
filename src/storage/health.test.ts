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

/** A watched store whose probes end when the test says so. */
function watched(): { health: LocationHealth; probes: PromiseWithResolvers<void>[] } {
  const probes: PromiseWithResolvers<void>[] = [];
  const probe = () => {
    const begun = Promise.withResolvers<void>();
    probes.push(begun);
    return begun.promise;
  };
  const health = new LocationHealth({ location: "us", probe, log });
  health.watch();
  return { health, probes };
}

test("a store is probed on when a call fails while a probe has no answer yet", async () => {
  const { health, probes } = watched();
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

test("a store is watched on when somebody else finds it well while a probe has no answer yet", async () => {
  const { health, probes } = watched();
  probes[0]?.resolve();
  await settle();
  health.failed(away());
  jest.advanceTimersByTime(1000);
  expect(probes).toHaveLength(2);
  const asked = health.check();
  probes[2]?.resolve();
  await asked;
  expect(health.isUp).toBe(true);
  // The next turn goes off beside the probe that hangs, which ends well after all.
  jest.advanceTimersByTime(6000);
  expect(probes).toHaveLength(3);
  probes[1]?.resolve();
  await settle();
  jest.advanceTimersByTime(6000);
  expect(probes).toHaveLength(4);
  health.close();
});
