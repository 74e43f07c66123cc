/**
 * Faults of the database once each, under load: one half of them if the seed is even, the other if it is odd, or all of them
 * with TEST_THOROUGH=1. Longer with `bun test/faults/main.ts`. The seed is printed.
 */
import { expect, test } from "bun:test";
import { everySecond } from "../support/thorough.ts";
import { databaseFaults } from "./database-faults.ts";
import { runFaults } from "./run.ts";
import { startBerthOn, startFaultyDatabase } from "./start.ts";

test("under every fault of the database nothing acknowledged is lost, and all comes back by itself", async () => {
  const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);
  const database = await startFaultyDatabase();
  const berth = await startBerthOn(database.uri);
  try {
    const faults = everySecond(databaseFaults(database), seed);
    const report = await runFaults({ site: berth, faults, seed, seconds: 0, mayBreak: false });
    const { slowest: _, ...figures } = report;
    console.log(`TEST_SEED=${seed} ${JSON.stringify(figures)}`);
    expect(report.wrong).toEqual([]);
    expect(report.lost).toBe(0);
    expect(report.faultsTotal).toBe(faults.length);
    // A load that does nothing would lose nothing either, and faults that nobody notices are none.
    expect(report.acknowledged).toBeGreaterThan(50);
    expect(report.unavailable).toBeGreaterThan(0);
  } finally {
    await berth.stop();
    await database.stop();
  }
}, 600_000);
