/** The model test; TEST_GC_STEPS makes it longer, BERTH_TEST_SEED repeats a run. */

import { expect, test } from "bun:test";
import { runModel } from "./model-run.ts";

const STEPS = Number(process.env.TEST_GC_STEPS ?? 400);

test(
  `after ${STEPS} random steps exactly what the model keeps is there, with two collectors at once`,
  async () => {
    const report = await runModel(STEPS, 2);
    console.log(`model: ${JSON.stringify(report)}`);
    expect(report.collections).toBeGreaterThan(0);
    expect(report.blobs).toBeGreaterThan(0);
  },
  600_000 + STEPS * 100,
);
