/**
 * `npm test`: everything that can be held against Berth on this machine. Installs what is missing, then runs checks, unit
 * tests and every suite of test/ on SQLite and, where the database matters, on PostgreSQL. Names of parts as arguments run
 * only those; the last line says how many tests passed and failed.
 */
import { join } from "node:path";
import { startOwnPostgres } from "../test/support/postgres.ts";
import { buildBinary } from "./build.ts";
import { okParts } from "./ok.ts";
import {
  closingLine,
  describeOutcome,
  killParts,
  type Outcome,
  type Part,
  rootDir,
  runParts,
  testCommand,
  testFilesIn,
} from "./parts.ts";

type Database = "sqlite" | "postgres" | "both";

/** Folders whose tests do not meet the metadata database, or bring it themselves. Every other runs on both. */
const WITHOUT_DATABASE: ReadonlySet<string> = new Set([
  "bench",
  "binary",
  "faults",
  "move",
  "readme",
  "storage",
  "support",
]);
/** Sites that are apart share no file, and instances need a server that tells of changes: on PostgreSQL alone. */
const ON_POSTGRES_ALONE: ReadonlySet<string> = new Set(["geo", "cluster"]);
/** These take both engines in one run, and the older PostgreSQL in another. */
const CHOOSES_DATABASES: ReadonlySet<string> = new Set(["db"]);
/** The oldest and the newest PostgreSQL that we promise; what names no version here is tested on the newest. */
const POSTGRES_VERSIONS = [15, 18] as const;
const ON_OLDER_POSTGRES: ReadonlySet<string> = new Set(["api", "cli"]);
/** These use programs that only Go brings, whose first build takes minutes: they run when the others are done. */
const WITH_GO: ReadonlySet<string> = new Set(["cluster", "storage", "readme", "clients", "conformance"]);
/** Longest first, so that none of them is left over at the end; folders that are not named here come before these. */
const ORDER = ["geo", "registry", "crash", "cli", "binary", "db", "api", "bench", "support", ...WITH_GO];
/** Two cores: a third part at once takes as long and makes what measures time less sure. */
const AT_ONCE = 2;
/** The whole run has 25 minutes; one part that takes this long hangs. */
const PART_TIMEOUT_SECONDS = 15 * 60;

export interface Ground {
  /** A server that all parts share; without one each starts its own. */
  readonly postgresUri?: string | undefined;
  /** The same of the older version. */
  readonly olderPostgresUri?: string | undefined;
  /** The single binary, as it is released. */
  readonly binary?: string;
}

/** Every part of the full run. Each test file below test/ is in at least one. */
export function allParts(ground: Ground = {}): Part[] {
  const folders = [...new Set(testFilesIn("test").map((file) => file.split("/")[1] ?? ""))];
  folders.sort((a, b) => ORDER.indexOf(a) - ORDER.indexOf(b));
  const layer = databaseLayer("database layer", "src/db", ground);
  return [...okParts(), ...layer, ...folders.flatMap((folder) => folderParts(folder, ground))];
}

/** Tests that choose their engines themselves, once more on the older PostgreSQL. */
function databaseLayer(name: string, folder: string, ground: Ground): Part[] {
  const part = { command: testCommand(testFilesIn(folder)), isTest: true, timeoutSeconds: PART_TIMEOUT_SECONDS };
  const [older, newer] = POSTGRES_VERSIONS;
  return [
    { ...part, name, env: { ...postgresOf(newer, ground), TEST_DB: "both" } },
    { ...part, name: `${name} (postgres ${older})`, env: { ...postgresOf(older, ground), TEST_DB: "postgres" } },
  ];
}

/** The shared server of a version, and the version of those that tests start for themselves. */
function postgresOf(version: (typeof POSTGRES_VERSIONS)[number], ground: Ground): Record<string, string | undefined> {
  const uri = version === POSTGRES_VERSIONS[0] ? ground.olderPostgresUri : ground.postgresUri;
  return { TEST_POSTGRES_URI: uri, TEST_POSTGRES_VERSION: String(version) };
}

/** On SQLite the server runs from the sources, on PostgreSQL it is the single binary: both are held to every test. */
function folderParts(folder: string, ground: Ground): Part[] {
  const part = (name: string, database: Database): Part => ({
    name,
    command: testCommand(testFilesIn(`test/${folder}`)),
    env: {
      ...postgresOf(POSTGRES_VERSIONS[ON_OLDER_POSTGRES.has(folder) ? 0 : 1], ground),
      TEST_DB: database,
      ...(database === "postgres" ? { TEST_BERTH_BINARY: ground.binary } : {}),
    },
    isTest: true,
    timeoutSeconds: PART_TIMEOUT_SECONDS,
  });
  if (CHOOSES_DATABASES.has(folder)) return databaseLayer(folder, `test/${folder}`, ground);
  if (WITHOUT_DATABASE.has(folder)) return [part(folder, "sqlite")];
  if (ON_POSTGRES_ALONE.has(folder)) return [part(`${folder} (postgres)`, "postgres")];
  return (["sqlite", "postgres"] as const).map((database) => part(`${folder} (${database})`, database));
}

/** One half of the set-up: what is still missing after it is named by the tests that need it. */
async function setUp(half: "packages" | "go"): Promise<void> {
  // Compilers take what the tests beside them leave: a test must not run into its timeout because of them.
  const command = ["nice", "-n", "10", process.execPath, join(rootDir, "scripts", "setup-test.ts"), half];
  const child = Bun.spawn(command, { cwd: rootDir, stdio: ["ignore", "inherit", "inherit"] });
  setUps.add(child);
  await child.exited;
  setUps.delete(child);
}
const setUps = new Set<Bun.Subprocess>();

function needsGo({ name }: Part): boolean {
  return WITH_GO.has(name.split(" ")[0] ?? "");
}

function choose(parts: readonly Part[], names: readonly string[]): Part[] {
  for (const name of names) {
    if (!parts.some((part) => part.name.startsWith(name))) {
      throw new Error(`there is no part "${name}", use one of: ${parts.map((part) => part.name).join(", ")}`);
    }
  }
  return parts.filter((part) => names.length === 0 || names.some((name) => part.name.startsWith(name)));
}

async function main(names: readonly string[]): Promise<number> {
  const startedMs = performance.now();
  const isGoNeeded = choose(allParts(), names).some(needsGo);
  await setUp("packages");
  const goIsThere = isGoNeeded ? setUp("go") : undefined;
  // One server of each version for all parts; tests that crash or reconfigure theirs start their own.
  const given = process.env.TEST_POSTGRES_URI;
  const [older, newer] = given
    ? []
    : await Promise.all(POSTGRES_VERSIONS.map((version) => startOwnPostgres({ version })));
  try {
    const ground = {
      binary: await buildBinary(),
      postgresUri: given ?? newer?.uri,
      olderPostgresUri: given ?? older?.uri,
    };
    const parts = choose(allParts(ground), names);
    const report = (outcome: Outcome) => console.log(describeOutcome(outcome));
    const outcomes = await runParts(
      parts.filter((part) => !needsGo(part)),
      AT_ONCE,
      report,
    );
    await goIsThere;
    outcomes.push(...(await runParts(parts.filter(needsGo), AT_ONCE, report)));
    const notes = new Set(outcomes.flatMap((outcome) => outcome.notes));
    for (const note of notes) console.log(note);
    console.log(`${outcomes.length} parts in ${((performance.now() - startedMs) / 1000).toFixed(0)} s`);
    console.log(closingLine(outcomes));
    return outcomes.some(({ failed }) => failed > 0) ? 1 : 0;
  } finally {
    await Promise.all([older?.stop(), newer?.stop()]);
  }
}

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      killParts();
      for (const child of setUps) child.kill();
      process.exit(1);
    });
  }
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    console.log(error instanceof Error ? error.message : String(error));
    console.log("0 passed, 1 failed");
    process.exitCode = 1;
  }
}
