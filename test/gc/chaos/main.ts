/**
 * `bun test/gc/chaos/main.ts --seconds 600 --seed N [--db sqlite|postgres] [--store disk|s3] [--instances N] [--workers N]
 * [--ageing]`: the chaos run at full length, with its figures. Without `--ageing` all leases last as long as they do.
 */
import { parseArgs } from "node:util";
import { runChaos } from "./run.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "600" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    db: { type: "string", default: "sqlite" },
    store: { type: "string", default: "disk" },
    instances: { type: "string", default: "1" },
    workers: { type: "string", default: "1" },
    ageing: { type: "boolean", default: false },
  },
});

function whole(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new Error(`--${option} is "${text}", it must be a whole number from ${min} to ${max}`);
}

function oneOf<Choice extends string>(option: string, text: string, choices: readonly Choice[]): Choice {
  const found = choices.find((choice) => choice === text);
  if (found === undefined) throw new Error(`--${option} is "${text}", it must be one of ${choices.join(", ")}`);
  return found;
}

const options = {
  seconds: whole("seconds", values.seconds, 1, 100_000),
  seed: whole("seed", values.seed, 0, 2 ** 32),
  database: oneOf("db", values.db, ["sqlite", "postgres"]),
  store: oneOf("store", values.store, ["disk", "s3"]),
  instances: whole("instances", values.instances, 1, 7),
  workers: whole("workers", values.workers, 0, 7),
  ageing: values.ageing,
};
if (options.instances > 1 && options.database === "sqlite") throw new Error("several instances need --db postgres");

const startedMs = performance.now();
process.stdout.write(`${JSON.stringify(options)}\n`);
const report = await runChaos({
  ...options,
  onKill: ({ kills, acknowledged, refused, blobsEver, wrong }) => {
    if ((kills.servers + kills.workers) % 10 !== 0) return;
    const images = acknowledged["push image"] ?? 0;
    process.stdout.write(
      `${kills.servers} + ${kills.workers} kills, ${images} images, ${refused} refused, ${blobsEver} blobs ever, ${wrong.length} wrong\n`,
    );
  },
});
const seconds = Math.round((performance.now() - startedMs) / 1000);
process.stdout.write(`${JSON.stringify({ ...report, ...options, tookSeconds: seconds }, null, 2)}\n`);
process.exit(report.wrong.length === 0 ? 0 : 1);
