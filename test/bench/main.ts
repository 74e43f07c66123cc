/**
 * The benchmarks of DESIGN section 9: Berth and its peers side by side in one run, as a table and a JSON file.
 *
 *   bun test/bench/main.ts [--quick] [--only NAME,…] [--peers docker-registry,zot|none] [--no-berth]
 *                          [--seconds N] [--rounds N] [--blob-mib N] [--memory-mib N] [--out FILE] [--help]
 */
import { mkdirSync, statfsSync, writeFileSync } from "node:fs";
import { arch, cpus, tmpdir, totalmem } from "node:os";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { berth, findPeers } from "./contenders.ts";
import { formatRows, type Row } from "./report.ts";
import { fullSettings, quickSettings, type Settings } from "./settings.ts";
import type { Workload } from "./workload.ts";
import { apiLists } from "./workloads/api-lists.ts";
import { blobPull } from "./workloads/blob-pull.ts";
import { blobPush } from "./workloads/blob-push.ts";
import { coldStart } from "./workloads/cold-start.ts";
import { gc } from "./workloads/gc.ts";
import { imagePush } from "./workloads/image-push.ts";
import { listPages } from "./workloads/lists.ts";
import { manifestGet } from "./workloads/manifest-get.ts";
import { memory } from "./workloads/memory.ts";
import { processes } from "./workloads/processes.ts";
import { s3 } from "./workloads/s3.ts";
import { s3Memory } from "./workloads/s3-memory.ts";

const workloads: Workload[] = [
  ...[manifestGet, imagePush, blobPush, blobPull, listPages, apiLists, memory, coldStart],
  ...[processes, s3, s3Memory, gc],
];

const mib = 1024 * 1024;
/** Source: statfs(2). */
const tmpfsMagic = 0x01021994;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    peers: { type: "string", default: "docker-registry,zot" },
    "no-berth": { type: "boolean", default: false },
    seconds: { type: "string" },
    rounds: { type: "string" },
    "blob-mib": { type: "string" },
    "memory-mib": { type: "string" },
    out: { type: "string", default: "test-results/bench.json" },
    help: { type: "boolean", default: false },
  },
});

if (values.help) console.log(usage());
else process.exitCode = await main();

function usage(): string {
  const list = workloads.map(({ name, about }) => `  ${name.padEnd(14)}${about}`).join("\n");
  return `npm run bench -- [--quick] [--only NAME,…] [--peers docker-registry,zot|none] [--no-berth]
                 [--seconds N] [--rounds N] [--blob-mib N] [--memory-mib N] [--out FILE]

  --quick     smaller sizes and one second a round: a first look in some minutes
  --only      these workloads alone
  --seconds   length of a measured round of a load (${fullSettings.seconds})
  --rounds    measured rounds, of which the median is told (${fullSettings.rounds})
  --blob-mib  size of the one large blob (${fullSettings.blobBytes / mib})
  --memory-mib
              size of each of many large pushes at once (${fullSettings.memoryPushBytes / mib})
  --out       the figures as JSON (${values.out})

workloads:
${list}`;
}

async function main(): Promise<number> {
  const settings = chooseSettings();
  const chosen = chooseWorkloads(values.only);
  const peers = await findPeers(values.peers === "none" ? [] : values.peers.split(","));
  const contenders = [...(values["no-berth"] ? [] : [berth]), ...peers.contenders];
  const rows: Row[] = [];
  const failures: string[] = [];
  for (const workload of chosen) {
    const start = performance.now();
    try {
      rows.push(...(await workload.run({ settings, contenders })));
    } catch (error) {
      // one broken workload must not cost the figures of the others; it still fails the run
      failures.push(`${workload.name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
    console.error(`${workload.name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
  const machine = `${cpus().length} × ${cpus()[0]?.model}, ${arch()}, ${Math.round(totalmem() / 2 ** 30)} GiB`;
  const program = process.env.TEST_BERTH_BINARY ? "berth as a single binary" : "berth from its sources";
  // fsync costs nothing on tmpfs: a reader must know
  const disk = statfsSync(tmpdir()).type === tmpfsMagic ? "memory (tmpfs)" : "disk";
  const about = [`${machine}; Bun ${Bun.version}; ${program}; data on ${disk}, TMPDIR chooses`];
  about.push(...contenders.map(({ name, note }) => `${name}: ${note}`), ...peers.missing);
  console.log(`${about.map((line) => `- ${line}`).join("\n")}\n\n${formatRows(rows)}`);
  for (const failure of failures) console.error(`FAILED ${failure}`);
  const result = { time: new Date().toISOString(), settings, about, rows, failures };
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
  console.error(`written to ${values.out}`);
  return failures.length === 0 ? 0 : 1;
}

function chooseSettings(): Settings {
  const base = values.quick ? quickSettings : fullSettings;
  return {
    ...base,
    seconds: positive("--seconds", values.seconds, base.seconds),
    rounds: positive("--rounds", values.rounds, base.rounds),
    blobBytes: positive("--blob-mib", values["blob-mib"], base.blobBytes / mib) * mib,
    memoryPushBytes: positive("--memory-mib", values["memory-mib"], base.memoryPushBytes / mib) * mib,
  };
}

function positive(option: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`${option} is "${text}"; it must be a whole number from 1 on`);
  return value;
}

function chooseWorkloads(only: string | undefined): Workload[] {
  if (only === undefined) return workloads;
  return only.split(",").map((name) => {
    const found = workloads.find((workload) => workload.name === name);
    const known = workloads.map((workload) => workload.name).join(", ");
    if (found === undefined) throw new Error(`--only names "${name}"; known are ${known}`);
    return found;
  });
}
