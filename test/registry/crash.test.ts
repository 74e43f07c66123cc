/** A few kills on every run; two hundred with `bun test/crash/main.ts`. The seed is printed and can be given again. */
import { expect, test } from "bun:test";
import { runCrashes } from "../crash/run.ts";
import { chosenEngines } from "../support/database.ts";

const KILLS = 8;

test(`after ${KILLS} kills at random moments everything acknowledged is there and nothing is half written`, async () => {
  const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);
  const database = chosenEngines()[0] ?? "sqlite";
  console.log(`crash test with TEST_SEED=${seed} on ${process.env.TEST_DB || database}`);
  const report = await runCrashes({ kills: KILLS, seed, database });
  expect(report.wrong).toEqual([]);
  // A load that does nothing would lose nothing either.
  expect(report.acknowledgedTotal).toBeGreaterThan(KILLS * 10);
  expect(report.store?.blobRows).toBeGreaterThan(0);
}, 120_000);
