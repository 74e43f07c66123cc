/**
 * `bun test/faults/main.ts --seconds 600 --seed 1 [--instances 2] [--store versitygw|ceph] [--only WORDS]`: the fault run at full length,
 * with its figures. `--only` takes the faults whose names hold these words, `--logs FILE` keeps what the instances logged.
 */
import { parseArgs } from "node:util";
import { databaseFaults } from "./database-faults.ts";
import { partitionFaults } from "./partition-faults.ts";
import { runFaults } from "./run.ts";
import { startSite } from "./start.ts";
import { STORE_ANSWER_WITHIN_MS, storeFaults } from "./store-faults.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "300" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    instances: { type: "string", default: "1" },
    store: { type: "string", default: "local" },
    only: { type: "string", default: "" },
    logs: { type: "string" },
  },
});
const seconds = Number(values.seconds);
const seed = Number(values.seed);
const count = Number(values.instances);
const s3 = (["versitygw", "ceph"] as const).find((kind) => kind === values.store);
if (!(seconds >= 0)) throw new Error(`--seconds is "${values.seconds}", it must be a number`);
if (!Number.isSafeInteger(seed)) throw new Error(`--seed is "${values.seed}", it must be a whole number`);
if (!(Number.isSafeInteger(count) && count >= 1 && count <= 7)) {
  throw new Error(`--instances is "${values.instances}", it must be from 1 to 7`);
}
if (!s3 && values.store !== "local") {
  throw new Error(`--store is "${values.store}", it must be "local", "versitygw" or "ceph"`);
}

const site = await startSite({ instances: count, s3, seed });
try {
  if (site.noHosts !== undefined) process.stdout.write(`not run: partitions (${site.noHosts})\n`);
  const all = [
    ...databaseFaults(site.database),
    ...(site.store ? storeFaults(site.store) : []),
    ...partitionFaults(site),
  ];
  const faults = all.filter(({ name }) => name.includes(values.only));
  if (faults.length === 0) throw new Error(`no fault is named "${values.only}"`);
  process.stdout.write(
    `${faults.length} kinds of faults for ${seconds} s, seed ${seed}, instances: ${count}, store: ${values.store}\n`,
  );
  const report = await runFaults({
    site,
    faults,
    seed,
    seconds,
    mayBreak: s3 !== undefined,
    together: true,
    large: s3 !== undefined,
    ...(s3 ? { answerWithinMs: STORE_ANSWER_WITHIN_MS } : {}),
    onFault: (name, { requests, unavailable, lost, wrong }) => {
      process.stdout.write(
        `${name}: ${requests} requests, ${unavailable} refused, ${lost} lost, ${wrong.length} wrong\n`,
      );
    },
  });
  const { proxy } = site.store ?? {};
  const answersSpoilt = proxy?.http.struck() ?? {};
  const connectionsBroken = site.database.proxy.broken() + (proxy?.broken() ?? 0);
  const figures = { ...report, answersSpoilt, connectionsBroken, seed, seconds, instances: count, store: values.store };
  process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
  process.exitCode = report.wrong.length === 0 ? 0 : 1;
} finally {
  if (values.logs !== undefined) await Bun.write(values.logs, site.instances.map((each) => each.logs()).join("\n"));
  await site.stop();
}
process.exit();
