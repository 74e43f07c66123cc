/**
 * Garbage collection by the worker of a real server: how many blobs it deletes in a minute, what pushes feel of it, and what a
 * round costs that finds nothing to do, however much there is.
 */
import { join } from "node:path";
import type { Database } from "../../../src/db/db.ts";
import { openDatabase } from "../../../src/db/open.ts";
import { runRound } from "../../../src/workers/gc-round.ts";
import { bootBeside } from "../../registry/harness.ts";
import { type BerthOptions, startBerth } from "../../support/berth.ts";
import { startOwnPostgres } from "../../support/postgres.ts";
import { startOwnS3 } from "../../support/s3.ts";
import { makeTempDir } from "../../support/temp-dir.ts";
import { berth, startBerthServer } from "../contenders.ts";
import { below, type Cell, median, type Row, type Target } from "../report.ts";
import { blobsLeft, endImages, seedImages, tagsLeft, writeBlobs } from "../seed-gc.ts";
import type { Settings } from "../settings.ts";
import { settle, type Workload } from "../workload.ts";
import { authorizePushes, type PushTimes, pushImages } from "./image-push.ts";

type Engine = "sqlite" | "postgres";
/** Gives the address of a fresh PostgreSQL database. */
type MakeDatabase = () => Promise<string>;

const COLLECTING = { GARBAGE_COLLECTION_FREQUENCY: 1 } as const;
const STORE_PATH = "datastorage/registry";
const BLOBS_PER_MINUTE = 10_000;
const SLOWER_MAX = 1.2;
const POLL_MS = 20;
const GIVE_UP_MS = 10 * 60_000;
/** As many as keep the server busy and leave the generator room. */
const PUSHERS = 4;
/** Of one slice of pushes: some seconds' worth. */
const SLICE_IMAGES = 1000;
const SMALL = 1000;
/** Idle rounds of which the median is told, and those before. */
const IDLE = { rounds: 200, warmUps: 20 } as const;

export const gc: Workload = {
  name: "gc",
  about: "blobs collected a minute, pushes meanwhile, and rounds with nothing to do",
  run: async ({ settings, contenders }) => {
    if (!contenders.includes(berth)) return [];
    const postgres = await startOwnPostgres({ settings: { synchronous_commit: "on", fsync: "on" } });
    try {
      const database = () => postgres.createDatabase();
      return [await collected(settings, database), await pushed(settings), ...(await idle(settings, database))];
    } finally {
      await postgres.stop();
    }
  },
};

/** From the first answer of a server that starts on a heap of garbage until all of it is gone. */
export async function collected(settings: Settings, database: MakeDatabase): Promise<Row> {
  const images = settings.gcBlobs / 2;
  const cells: Record<string, Cell> = {
    "berth, SQLite and disk": await rounds(settings, () => collectAll("sqlite", images, undefined, database)),
  };
  const dir = makeTempDir("bench-gc-s3");
  const s3 = await startOwnS3("versitygw", { dataDir: dir.path });
  try {
    cells["berth, PostgreSQL and S3"] = await rounds(settings, async () => {
      const bucket = await s3.createBucket();
      const engine = s3.engineConfig(bucket);
      return collectAll("postgres", images, { engine, folder: join(dir.path, bucket, STORE_PATH) }, database);
    });
  } finally {
    await s3.stop();
    dir.remove();
  }
  const disk = cells["berth, SQLite and disk"]?.median ?? 0;
  const target: Target = {
    text: `≥ ${BLOBS_PER_MINUTE} on disk (is ${Math.round(disk)})`,
    met: disk >= BLOBS_PER_MINUTE,
  };
  const notes = [
    `${settings.gcBlobs} blobs of 4 KiB in images of two, whose tags left the time machine: tags, manifests, links, blobs, files`,
    "versitygw on the same disk and cores; a further figure, not a target",
  ];
  return { work: "garbage collected", unit: "blobs/min", cells, targets: [target], notes };
}

async function rounds({ rounds: count }: Settings, measure: () => Promise<number>): Promise<Cell> {
  const figures: number[] = [];
  for (let round = 0; round < count; round++) figures.push(await measure());
  return { median: median(figures), rounds: figures };
}

/** Gives blobs in a minute. */
async function collectAll(
  engine: Engine,
  images: number,
  s3: { engine: unknown; folder: string } | undefined,
  database: MakeDatabase,
): Promise<number> {
  const dir = makeTempDir("bench-gc");
  const overrides = { ...COLLECTING, ...(s3 ? { DISTRIBUTED_STORAGE_CONFIG: { default: s3.engine } } : {}) };
  const options = { ...(await placeOf(engine, dir.path, database)), overrides };
  try {
    const db = await prepared(options);
    try {
      const seeded = await seedImages(db, "garbage", images);
      await writeBlobs(db, seeded, s3?.folder ?? join(dir.path, "blobs"));
      await endImages(db, seeded);
      await settle();
      const server = await startBerthServer(options);
      try {
        const startedMs = performance.now();
        await until(async () => (await blobsLeft(db, seeded)) === 0);
        return (seeded.blobs / (performance.now() - startedMs)) * 60_000;
      } finally {
        await server.stop();
      }
    } finally {
      await db.close();
    }
  } finally {
    dir.remove();
  }
}

/**
 * Pushes while the same server's worker collects, in turn with pushes while it has nothing to do: in short slices, so that
 * what else the machine does falls on both.
 */
export async function pushed(settings: Settings): Promise<Row> {
  const dir = makeTempDir("bench-gc");
  const options: Place = { dataDir: dir.path, database: "sqlite", overrides: COLLECTING };
  const server = await startBerthServer(options);
  const db = await openDatabase({ uri: uriOf(options) });
  const slices: Slice[] = [];
  try {
    const authorization = await authorizePushes(server);
    const push: Push = (seconds, isOver) =>
      pushImages(server, authorization, { ...settings, imagePushers: PUSHERS, seconds }, isOver);
    await push(1);
    for (let number = 0; number < settings.rounds * settings.seconds; number++) {
      const { beside, seconds, rate } = await pushWhileCollecting(db, dir.path, number, push);
      await settle();
      slices.push({ alone: await push(seconds), beside, rate });
    }
  } finally {
    await db.close();
    await server.stop();
    dir.remove();
  }
  return pushRow(slices);
}

type Push = (seconds: number, isOver?: () => boolean) => Promise<PushTimes>;

/** As long with collection as without. */
interface Slice {
  readonly alone: PushTimes;
  readonly beside: PushTimes;
  /** Blobs collected in a minute meanwhile. */
  readonly rate: number;
}

/** Pushes from the first tag that goes until the last blob is gone. */
async function pushWhileCollecting(
  db: Database,
  dataDir: string,
  number: number,
  push: Push,
): Promise<{ beside: PushTimes; seconds: number; rate: number }> {
  const seeded = await seedImages(db, `garbage-${number}`, SLICE_IMAGES);
  await writeBlobs(db, seeded, join(dataDir, "blobs"));
  await settle();
  await endImages(db, seeded);
  await until(async () => (await tagsLeft(db, seeded)) < SLICE_IMAGES);
  const startedMs = performance.now();
  let isOver = false;
  const gone = until(async () => (await blobsLeft(db, seeded)) === 0).finally(() => {
    isOver = true;
  });
  const beside = await push(GIVE_UP_MS / 1000, () => isOver);
  await gone;
  const seconds = (performance.now() - startedMs) / 1000;
  return { beside, seconds, rate: (seeded.blobs / seconds) * 60 };
}

function pushRow(slices: readonly Slice[]): Row {
  const alone = slices.map((slice) => slice.alone);
  const beside = slices.map((slice) => slice.beside);
  const cell = (times: readonly PushTimes[]): Cell => ({
    median: median(times.map(({ meanMs }) => meanMs)),
    rounds: times.map(({ meanMs }) => meanMs),
    p50Ms: median(times.map(({ p50Ms }) => p50Ms)),
    p99Ms: median(times.map(({ p99Ms }) => p99Ms)),
  });
  const cells = { "berth, nothing to collect": cell(alone), "berth, while collecting": cell(beside) };
  const slower = median(slices.map((slice) => slice.beside.meanMs / slice.alone.meanMs));
  const p95 = (times: readonly PushTimes[]) => median(times.map(({ p95Ms }) => p95Ms)).toFixed(2);
  const rate = median(slices.map((slice) => slice.rate));
  const targets: Target[] = [
    {
      text: `≤ ${SLOWER_MAX} × the slice without collection beside it (median is ${slower.toFixed(2)})`,
      met: slower <= SLOWER_MAX,
    },
    {
      text: `≥ ${BLOBS_PER_MINUTE} blobs/min beside the pushes (is ${Math.round(rate)})`,
      met: rate >= BLOBS_PER_MINUTE,
    },
  ];
  const notes = [
    `means of whole pushes in slices as long as ${SLICE_IMAGES} images take to be collected, ${PUSHERS} at once; p95 ${p95(alone)} ms without and ${p95(beside)} ms with collection`,
    "one server on SQLite and disk, which in turn collects and has nothing to collect",
  ];
  return { work: "image push, 1 MB, beside collection", unit: "ms", cells, targets, notes };
}

/** Rounds of the worker's own code on databases in which nothing is due. */
export async function idle(settings: Settings, database: MakeDatabase): Promise<Row[]> {
  const large = settings.blobRows;
  const rows: Row[] = [];
  for (const engine of ["sqlite", "postgres"] as const) {
    const times = await idleRounds(engine, [SMALL, large], database);
    const cells = Object.fromEntries(
      times.map(({ blobs, medianMs, thirdsMs }) => [
        `berth, ${blobs.toLocaleString("en-US")} blobs`,
        { median: medianMs, rounds: thirdsMs },
      ]),
    );
    const [small, big] = times;
    if (!small || !big) continue;
    rows.push({
      work: `round with nothing to do, ${engine === "sqlite" ? "SQLite" : "PostgreSQL"}`,
      unit: "ms",
      cells,
      targets: [
        below("with many blobs, times the one with few", big.medianMs / small.medianMs, 1.5, "×"),
        {
          text: `the same queries and rows (${small.queries} and ${small.rows}, ${big.queries} and ${big.rows})`,
          met: small.queries === big.queries && small.rows === big.rows,
        },
      ],
      notes: [`medians of ${IDLE.rounds} rounds, taken in turn; two blobs, two links and one tag to a manifest`],
    });
  }
  return rows;
}

interface IdleTimes {
  readonly blobs: number;
  readonly medianMs: number;
  /** Medians of three parts of the rounds. */
  readonly thirdsMs: number[];
  /** In one round. */
  readonly queries: number;
  readonly rows: number;
}

async function idleRounds(engine: Engine, sizes: readonly number[], database: MakeDatabase): Promise<IdleTimes[]> {
  const dirs = sizes.map(() => makeTempDir("bench-gc"));
  const seats: { blobs: number; app: Awaited<ReturnType<typeof bootBeside>>; times: number[] }[] = [];
  const { signal } = new AbortController();
  try {
    for (const [index, blobs] of sizes.entries()) {
      const options = { ...(await placeOf(engine, dirs[index]?.path ?? "", database)), overrides: COLLECTING };
      const db = await prepared(options);
      await seedImages(db, "kept", blobs / 2);
      // What a database does by itself after a while, or after a load.
      await db.tx((tx) => tx.script("analyze"), { timeLimits: false });
      await db.close();
      const keys = { ...COLLECTING, ...(engine === "postgres" ? { DB_URI: options.database } : {}) };
      const app = await bootBeside(options.dataDir, { QUAY_OVERRIDE_CONFIG: JSON.stringify(keys) });
      await runRound(app, signal);
      seats.push({ blobs, app, times: [] });
    }
    for (let round = -IDLE.warmUps; round < IDLE.rounds; round++) {
      for (const { app, times } of round % 2 === 0 ? seats : seats.toReversed()) {
        const startedMs = performance.now();
        const tally = await runRound(app, signal);
        if (!tally.isEmpty) throw new Error("a round that should have nothing to do found something");
        if (round >= 0) times.push(performance.now() - startedMs);
      }
    }
    const results: IdleTimes[] = [];
    for (const { blobs, app, times } of seats) {
      const { queries, rows } = app.db.stats;
      await runRound(app, signal);
      const third = Math.floor(times.length / 3);
      const thirdsMs = [0, 1, 2].map((part) => median(times.slice(part * third, (part + 1) * third)));
      const cost = { queries: app.db.stats.queries - queries, rows: app.db.stats.rows - rows };
      results.push({ blobs, medianMs: median(times), thirdsMs, ...cost });
    }
    return results;
  } finally {
    for (const { app } of seats) await app.close();
    for (const dir of dirs) dir.remove();
  }
}

type Place = BerthOptions & { readonly database: string; readonly dataDir: string };

async function placeOf(engine: Engine, dataDir: string, database: MakeDatabase): Promise<Place> {
  const alone = "one server is measured";
  return { dataDir, alone, database: engine === "postgres" ? await database() : "sqlite" };
}

function uriOf({ database, dataDir }: Place): string {
  return database === "sqlite" ? `sqlite:///${join(dataDir, "berth.db")}` : database;
}

/** The database after a first start, which makes schema and admin. */
async function prepared(options: Place): Promise<Database> {
  const server = await startBerth(options);
  await server.stop();
  return openDatabase({ uri: uriOf(options) });
}

async function until(probe: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + GIVE_UP_MS;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`still not so after ${GIVE_UP_MS} ms`);
    await Bun.sleep(POLL_MS);
  }
}
