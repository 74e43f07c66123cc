/**
 * `npm test`: everything that can be held against Berth on this machine. Installs what is missing, then runs checks, unit
 * tests and every suite of test/: what clients meet on SQLite and a disk, and again on two instances with PostgreSQL and S3
 * behind a balancer. Names of parts as arguments run only those; the last line says how many tests passed and failed.
 */
import { join } from "node:path";
import { startOwnPostgres } from "../test/support/postgres.ts";
import { type S3Server, startOwnS3 } from "../test/support/s3.ts";
import { canInstallS3Server } from "../test/support/setup.ts";
import { buildBinary } from "./build.ts";
import { okParts } from "./ok.ts";
import {
  closingLine,
  describeOutcome,
  killParts,
  type Part,
  rootDir,
  runParts,
  testCommand,
  testFilesIn,
} from "./parts.ts";

type Database = "sqlite" | "postgres" | "cluster";

/** Folders whose tests do not meet the metadata database, or bring it themselves. Every other runs on both. */
const WITHOUT_DATABASE: ReadonlySet<string> = new Set(["bench", "binary", "faults", "move", "readme", "support"]);
/** Sites that are apart share no file, and instances need a server that tells of changes: on PostgreSQL alone. */
const ON_POSTGRES_ALONE: ReadonlySet<string> = new Set(["geo", "cluster"]);
/** What clients meet, and must meet alike on two instances with PostgreSQL and S3. Every other runs on PostgreSQL and a disk. */
const IN_CLUSTER: ReadonlySet<string> = new Set(["api", "clients", "conformance", "registry"]);
/** Of those, tests that bring stores of their own: they have a part for themselves, on one instance. */
const WITH_OWN_STORES: ReadonlySet<string> = new Set([
  "test/registry/azure.test.ts",
  "test/registry/s3.test.ts",
  "test/registry/swift.test.ts",
  "test/scrub/s3.test.ts",
]);
/** Folders whose files are named by the engine that they start: a part for each, so that slow ones run side by side. */
const BY_ENGINE: ReadonlySet<string> = new Set(["storage"]);
/** The server runs from the sources here, on SQLite. Elsewhere it is the single binary, which starts in a third of the time. */
const FROM_SOURCES: ReadonlySet<string> = new Set(["registry"]);
/** These take both engines in one run, and the older PostgreSQL in another. */
const CHOOSES_DATABASES: ReadonlySet<string> = new Set(["db"]);
/** The oldest and the newest PostgreSQL that we promise; what names no version here is tested on the newest. */
const POSTGRES_VERSIONS = [15, 18] as const;
const ON_OLDER_POSTGRES: ReadonlySet<string> = new Set(["api", "cli"]);
/** These use programs that only Go brings, whose first build takes minutes: they run when those are there. */
const WITH_GO: ReadonlySet<string> = new Set(["clients", "conformance"]);
/** And these the S3 server, which is built beside them. */
const WITH_S3: ReadonlySet<string> = new Set(["cluster", "faults", "readme", "storage"]);
/** Longest first, so that none of them is left over at the end; folders that are not named here come before these. */
const ORDER = [
  ...["registry", "storage", "api", "faults", "cluster", "move", "cli", "geo", "gc", "scrub"],
  ...["clients", "binary", "readme", "db", "conformance", "support", "bench"],
];
/** Two cores, and half of the time goes by in waiting for servers that start, freeze or are to be given up. */
const AT_ONCE = 3;
/** The whole run has 25 minutes; one part that takes this long hangs. */
const PART_TIMEOUT_SECONDS = 15 * 60;

export interface Ground {
  /** A server that all parts share; without one each starts its own. */
  readonly postgresUri?: string | undefined;
  /** The same of the older version. */
  readonly olderPostgresUri?: string | undefined;
  /** The single binary, as it is released. */
  readonly binary?: string;
  /** The S3 server that all parts share, once it is there; null where none can be had. */
  readonly s3?: Promise<Readonly<Record<string, string>>> | null;
  /** Resolves when the other programs that only Go brings are built. */
  readonly go?: Promise<unknown>;
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

function folderParts(folder: string, ground: Ground): Part[] {
  const files = testFilesIn(`test/${folder}`).filter((file) => !WITH_OWN_STORES.has(file));
  const part = (name: string, database: Database): Part => {
    const after = prerequisite(folder, database, ground);
    return {
      name,
      command: testCommand(files),
      env: {
        ...postgresOf(POSTGRES_VERSIONS[ON_OLDER_POSTGRES.has(folder) ? 0 : 1], ground),
        TEST_DB: database,
        ...(database === "sqlite" && FROM_SOURCES.has(folder) ? {} : { TEST_BERTH_BINARY: ground.binary }),
      },
      ...(after ? { after } : {}),
      isTest: true,
      timeoutSeconds: PART_TIMEOUT_SECONDS,
    };
  };
  if (BY_ENGINE.has(folder)) {
    const byEngine = Map.groupBy(files, (file) => /([a-z0-9]+)[^/]*$/.exec(file)?.[1] ?? "");
    return [...byEngine].map(([engine, own]) => ({
      ...part(`${folder} (${engine})`, "sqlite"),
      command: testCommand(own),
    }));
  }
  if (CHOOSES_DATABASES.has(folder)) return databaseLayer(folder, `test/${folder}`, ground);
  if (WITHOUT_DATABASE.has(folder)) return [part(folder, "sqlite")];
  if (ON_POSTGRES_ALONE.has(folder)) return [part(`${folder} (postgres)`, "postgres")];
  const other = IN_CLUSTER.has(folder) && ground.s3 !== null ? "cluster" : "postgres";
  const both = (["sqlite", other] as const).map((database) => part(`${folder} (${database})`, database));
  return [...both, ...ownStores(folder, ground)];
}

/** The tests of a folder that bring stores of their own, on SQLite; an S3 server is among what they start. */
function ownStores(folder: string, ground: Ground): Part[] {
  const files = testFilesIn(`test/${folder}`).filter((file) => WITH_OWN_STORES.has(file));
  if (files.length === 0) return [];
  const after = ground.s3 ? { after: ground.s3 } : {};
  const run = { command: testCommand(files), isTest: true, timeoutSeconds: PART_TIMEOUT_SECONDS };
  const env = { TEST_DB: "sqlite", TEST_BERTH_BINARY: ground.binary };
  return [{ ...run, ...after, name: `${folder} (own stores)`, env }];
}

/** What the tests of a folder have to wait for. */
function prerequisite(folder: string, database: Database, ground: Ground): Part["after"] {
  const s3 = (database === "cluster" || WITH_S3.has(folder)) && ground.s3 ? ground.s3 : undefined;
  const go = WITH_GO.has(folder) ? ground.go : undefined;
  return go ? go.then(() => s3 ?? {}) : s3;
}

/** A share of the set-up: what is still missing after it is named by the tests that need it. */
async function setUp(share: "packages" | "s3" | "go"): Promise<void> {
  // Compilers take what the tests beside them leave: a test must not run into its timeout because of them.
  const command = ["nice", "-n", "10", process.execPath, join(rootDir, "scripts", "setup-test.ts"), share];
  const child = Bun.spawn(command, { cwd: rootDir, stdio: ["ignore", "inherit", "inherit"] });
  setUps.add(child);
  await child.exited;
  setUps.delete(child);
}
const setUps = new Set<Bun.Subprocess>();

/** Builds and starts the S3 server; where that fails, the tests that need one say why. */
async function startSharedS3(started: (server: S3Server) => void): Promise<Record<string, string>> {
  const given = process.env.TEST_S3_URI;
  if (given) return { TEST_S3_URI: given };
  await setUp("s3");
  try {
    const server = await startOwnS3();
    started(server);
    return { TEST_S3_URI: server.uri };
  } catch (error) {
    console.log(`set-up: ${error instanceof Error ? error.message : String(error)}`);
    return {};
  }
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
  const never = Promise.resolve({});
  const wanted = choose(allParts({ s3: canInstallS3Server() ? never : null, go: never }), names);
  await setUp("packages");
  let s3Server: S3Server | undefined;
  // Both are built beside the tests that need neither; most parts wait for the first.
  const isS3Wanted = wanted.some(({ name, env }) => env?.TEST_DB === "cluster" || WITH_S3.has(folderOf(name)));
  const keep = (server: S3Server) => {
    s3Server = server;
  };
  const s3 = isS3Wanted ? startSharedS3(keep) : never;
  const go = wanted.some(({ name }) => WITH_GO.has(folderOf(name))) ? s3.then(() => setUp("go")) : never;
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
      s3: canInstallS3Server() ? s3 : null,
      go,
    };
    const parts = choose(allParts(ground), names);
    const outcomes = await runParts(parts, AT_ONCE, (outcome) => console.log(describeOutcome(outcome)));
    const notes = new Set(outcomes.flatMap((outcome) => outcome.notes));
    if (ground.s3 === null) notes.add("not run: needs Go (two instances on PostgreSQL and S3)");
    for (const note of notes) console.log(note);
    console.log(`${outcomes.length} parts in ${((performance.now() - startedMs) / 1000).toFixed(0)} s`);
    console.log(closingLine(outcomes));
    return outcomes.some(({ failed }) => failed > 0) ? 1 : 0;
  } finally {
    await Promise.all([older?.stop(), newer?.stop(), s3Server?.stop()]);
  }
}

function folderOf(partName: string): string {
  return partName.split(" ")[0] ?? "";
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
