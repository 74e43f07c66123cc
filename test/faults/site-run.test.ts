/**
 * Faults between two instances and their S3 store once each, and packets lost on the way to store or database, under load: one
 * half of them if the seed is even, the other if it is odd, or all of them with TEST_THOROUGH=1.
 * One instance redirects pulls to the store, the other pipes them. The database's own faults are in `database-run.test.ts`;
 * all of them together, for longer: `bun test/faults/main.ts --instances 2 --store versitygw`. The seed is printed.
 */
import { expect, test } from "bun:test";
import { findGoTool } from "../support/go-tools.ts";
import { everySecond } from "../support/thorough.ts";
import { findTool } from "../support/tools.ts";
import { partitionFaults } from "./partition-faults.ts";
import { runFaults } from "./run.ts";
import { startSite } from "./start.ts";
import { STORE_ANSWER_WITHIN_MS, storeFaults } from "./store-faults.ts";

// The S3 server is a program that only Go brings.
const s3Server = await findGoTool("versitygw");
const hasNone = s3Server.kind === "missing" && findTool("go") === undefined;
if (hasNone) console.log(`faults between instances and their store: ${s3Server.reason}`);

test.skipIf(hasNone)(
  "under every fault of the store and the wire nothing acknowledged is lost, nothing wrong is served",
  async () => {
    const seed = Number(process.env.TEST_SEED ?? Date.now() % 1_000_000);
    const site = await startSite({ instances: 2, s3: "versitygw", seed });
    try {
      // Half of the partitions, to save time: the database away for one of two, the store for both.
      const partitions = partitionFaults(site).filter(({ name }) => /database, one|store, every/.test(name));
      const faults = everySecond([...(site.store ? storeFaults(site.store) : []), ...partitions], seed);
      if (site.noHosts !== undefined)
        console.log(`not run: partitions between instances and their stores (${site.noHosts})`);
      const report = await runFaults({
        site,
        faults,
        seed,
        seconds: 0,
        mayBreak: true,
        large: true,
        answerWithinMs: STORE_ANSWER_WITHIN_MS,
      });
      const { slowest: _, ...figures } = report;
      console.log(`TEST_SEED=${seed} ${JSON.stringify(figures)}`);
      expect(report.wrong).toEqual([]);
      expect(report.lost).toBe(0);
      expect(report.faultsTotal).toBe(faults.length);
      // A load that does nothing would lose nothing either, and faults that nobody notices are none.
      expect(report.acknowledged).toBeGreaterThan(50);
      expect(report.unavailable).toBeGreaterThan(0);
      expect(Object.keys(site.store?.proxy.http.struck() ?? {})).not.toEqual([]);
    } finally {
      await site.stop();
    }
  },
  900_000,
);
