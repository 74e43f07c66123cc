/**
 * `bun test/crash/main.ts --kills 200 --seed 1 [--database postgres|cluster]`: the crash test at full length, with its
 * figures. A cluster is two instances on PostgreSQL and S3, which are killed in turn.
 */
import { parseArgs } from "node:util";
import { runCrashes } from "./run.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "200" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    database: { type: "string", default: "sqlite" },
  },
});
const kills = Number(values.kills);
const seed = Number(values.seed);
const { database } = values;
if (!Number.isSafeInteger(kills) || kills < 1)
  throw new Error(`--kills is "${values.kills}", it must be a number above 0`);
if (!Number.isSafeInteger(seed)) throw new Error(`--seed is "${values.seed}", it must be a whole number`);
if (database !== "sqlite" && database !== "postgres" && database !== "cluster") {
  throw new Error(`--database is "${database}", it must be "sqlite", "postgres" or "cluster"`);
}
process.env.TEST_DB = database;

const started = performance.now();
process.stdout.write(`${kills} kills on ${database}, seed ${seed}\n`);
const report = await runCrashes({
  kills,
  seed,
  database: database === "sqlite" ? "sqlite" : "postgres",
  onKill: (kill, { acknowledgedTotal, wrong }) => {
    if (kill % 10 === 0)
      process.stdout.write(`${kill} kills, ${acknowledgedTotal} acknowledged, ${wrong.length} wrong\n`);
  },
});
const seconds = ((performance.now() - started) / 1000).toFixed(0);
process.stdout.write(`${JSON.stringify({ ...report, database, seed, seconds: Number(seconds) }, null, 2)}\n`);
process.exit(report.wrong.length === 0 ? 0 : 1);
