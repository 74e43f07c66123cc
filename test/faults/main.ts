/**
 * `bun test/faults/main.ts --seconds 600 --seed 1 [--only WORDS]`: the fault run at full length, with its figures. `--only`
 * takes the faults whose names hold these words.
 */
import { parseArgs } from "node:util";
import { databaseFaults } from "./database-faults.ts";
import { runFaults } from "./run.ts";
import { startBerthOn, startFaultyDatabase } from "./start.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "300" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    only: { type: "string", default: "" },
  },
});
const seconds = Number(values.seconds);
const seed = Number(values.seed);
if (!(seconds >= 0)) throw new Error(`--seconds is "${values.seconds}", it must be a number`);
if (!Number.isSafeInteger(seed)) throw new Error(`--seed is "${values.seed}", it must be a whole number`);

const database = await startFaultyDatabase();
const berth = await startBerthOn(database.uri);
try {
  const faults = databaseFaults(database).filter(({ name }) => name.includes(values.only));
  if (faults.length === 0) throw new Error(`no fault is named "${values.only}"`);
  process.stdout.write(`${faults.length} kinds of faults for ${seconds} s, seed ${seed}\n`);
  const report = await runFaults({
    berth,
    faults,
    seed,
    seconds,
    mayBreak: false,
    onFault: (name, { requests, unavailable, lost, wrong }) => {
      process.stdout.write(
        `${name}: ${requests} requests, ${unavailable} refused, ${lost} lost, ${wrong.length} wrong\n`,
      );
    },
  });
  process.stdout.write(`${JSON.stringify({ ...report, seed, seconds }, null, 2)}\n`);
  process.exitCode = report.wrong.length === 0 ? 0 : 1;
} finally {
  await berth.stop();
  await database.stop();
}
process.exit();
