/**
 * Pushes of layers that are just being collected, with kills of server and worker: what was acknowledged is there, and at the
 * end nothing else is. The seed is printed; the full run is `bun test/gc/chaos/main.ts --seconds 600`.
 */
import { expect, test } from "bun:test";
import { chosenEngines } from "../support/database.ts";
import { runChaos } from "./chaos/run.ts";

const SECONDS = Number(process.env.TEST_GC_CHAOS_SECONDS ?? 25);

test(`after ${SECONDS} s of pushes, collection and kills the store holds exactly what was acknowledged`, async () => {
  const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);
  const database = chosenEngines()[0] ?? "sqlite";
  const site = { database, store: "disk", instances: database === "postgres" ? 2 : 1, workers: 1 } as const;
  const report = await runChaos({ ...site, seconds: SECONDS, seed, ageing: true });
  console.log(`TEST_SEED=${seed} ${JSON.stringify(report)}`);
  expect(report.wrong).toEqual([]);
  // A run in which nothing is pushed, collected or killed would lose nothing either.
  expect(report.acknowledged["push image"]).toBeGreaterThan(10);
  expect(report.kills.servers + report.kills.workers).toBeGreaterThan(1);
  expect(report.blobsEver).toBeGreaterThan(report.settled?.blobs ?? 0);
}, 900_000);
