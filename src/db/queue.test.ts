/** What the job queue promises its workers, on every engine that TEST_DB names. */

import { expect, test } from "bun:test";
import { withDatabases } from "../../test/support/database.ts";
import type { Database } from "./db.ts";
import { migrate } from "./migrate.ts";
import { migrations } from "./migrations.ts";
import {
  countJobs,
  countJobsUpTo,
  enqueue,
  failJob,
  finishJob,
  hastenJob,
  JOB_ATTEMPTS,
  type NewJob,
  postponeJob,
  renewJob,
  type TakenJob,
  takeJob,
  withdrawJob,
} from "./queue.ts";

const queue = "imagestoragereplication";
/** Longer than any test takes. */
const leaseMs = 10 * 60_000;
const timeoutMs = 120_000;

withDatabases("the job queue", (databases) => {
  const open = async (uri?: string): Promise<Database> => {
    const db = await databases.open(uri === undefined ? {} : { uri });
    await migrate(db, migrations);
    return db;
  };
  const put = (db: Database, job: Partial<NewJob> = {}) => db.tx((tx) => enqueue(tx, { queue, payload: {}, ...job }));
  const take = (db: Database, options: Partial<Parameters<typeof takeJob>[2]> = {}) =>
    takeJob(db, queue, { leaseMs, ...options });
  const finish = (db: Database, job: TakenJob) => db.tx((tx) => finishJob(tx, job));
  const must = async (job: Promise<TakenJob | undefined>): Promise<TakenJob> => {
    const taken = await job;
    if (!taken) throw new Error("no job was due");
    return taken;
  };

  test(
    "never gives one job to two workers, and each job to one of them",
    async () => {
      const uri = await databases.address();
      const instances = await Promise.all([open(uri), open(uri)]);
      const jobs = 200;
      await instances[0]?.tx(async (tx) => {
        for (let n = 0; n < jobs; n++) await enqueue(tx, { queue, payload: { n } });
      });
      const running = new Set<number>();
      const done: unknown[] = [];
      let overlaps = 0;
      const work = async (db: Database) => {
        for (let job = await take(db); job; job = await take(db)) {
          if (running.has(job.id)) overlaps++;
          running.add(job.id);
          await Bun.sleep(0);
          done.push(job.payload.n);
          running.delete(job.id);
          expect(await finish(db, job)).toBe(true);
        }
      };
      await Promise.all(Array.from({ length: 16 }, (_, index) => work(instances[index % 2] as Database)));
      expect(overlaps).toBe(0);
      expect(done.length).toBe(jobs);
      expect(new Set(done).size).toBe(jobs);
      expect(await countJobs(instances[0] as Database)).toEqual([]);
      const told = instances.flatMap((db) => db.stats.jobs.take() ?? []);
      const acquired = told.flatMap(({ gets }) => gets.filter(([, availability]) => availability === "acquired"));
      expect(acquired.reduce((sum, [, , count]) => sum + count, 0)).toBe(jobs);
      expect(told.flatMap(({ puts }) => puts).reduce((sum, [, count]) => sum + count, 0)).toBe(jobs);
      expect(told.reduce((sum, { deletes }) => sum + deletes, 0)).toBe(jobs);
      expect(instances.flatMap((db) => db.stats.jobs.take() ?? [])).toEqual([]);
    },
    timeoutMs,
  );

  test(
    "gives a dead worker's job to the next one, and nothing of it to the dead one",
    async () => {
      const db = await open();
      await put(db, { payload: { n: 1 } });
      const lost = await must(take(db, { leaseMs: 50 }));
      let found: TakenJob | undefined;
      while (!found) found = await take(db);
      expect(found.id).toBe(lost.id);
      expect(found.payload).toEqual({ n: 1 });
      expect(await renewJob(db, lost, leaseMs)).toBe(false);
      await failJob(db, lost, 0);
      await postponeJob(db, lost, 0);
      expect(await finish(db, lost)).toBe(false);
      expect(await renewJob(db, found, leaseMs)).toBe(true);
      expect(await finish(db, found)).toBe(true);
    },
    timeoutMs,
  );

  test("a lease that is renewed is not given away", async () => {
    const db = await open();
    await put(db);
    const job = await must(take(db, { leaseMs: 1 }));
    expect(await renewJob(db, job, leaseMs)).toBe(true);
    expect(await take(db)).toBeUndefined();
  });

  test("failing costs a try and a pause, the last try gives the job up, and asking again revives it", async () => {
    const db = await open();
    await put(db, { dedupeKey: "a" });
    for (let left = JOB_ATTEMPTS - 1; left >= 0; left--) {
      const job = await must(take(db));
      expect(job.attemptsLeft).toBe(left);
      expect(await failJob(db, job, 0)).toBe(left === 0 ? "given-up" : "waits");
    }
    expect(await take(db)).toBeUndefined();
    expect(await countJobs(db)).toMatchObject([{ total: 1, givenUp: 1, locked: 0 }]);
    await put(db, { dedupeKey: "a" });
    expect((await must(take(db))).attemptsLeft).toBe(JOB_ATTEMPTS - 1);
  });

  test("one that is never given up outlives more failures and more dead workers than it has tries", async () => {
    const db = await open();
    await put(db);
    const options = { isNeverGivenUp: true };
    for (let n = 1; n <= 2 * JOB_ATTEMPTS; n++) {
      const job = await must(take(db, options));
      expect(job.attemptsLeft).toBe(Math.max(1, JOB_ATTEMPTS - n));
      expect(await failJob(db, job, 0)).toBe("waits");
    }
    for (let n = 0; n < 2 * JOB_ATTEMPTS; n++) {
      await must(take(db, { ...options, leaseMs: 1 }));
      await Bun.sleep(5);
    }
    expect(await finish(db, await must(take(db, options)))).toBe(true);
  });

  test("a job that failed waits for its pause", async () => {
    const db = await open();
    await put(db);
    await failJob(db, await must(take(db)), leaseMs);
    expect(await take(db)).toBeUndefined();
    expect(await countJobs(db)).toMatchObject([{ total: 1, givenUp: 0, locked: 0 }]);
  });

  test("giving a job back costs no try", async () => {
    const db = await open();
    await put(db);
    for (let times = 0; times < JOB_ATTEMPTS + 2; times++) {
      const job = await must(take(db));
      expect(job.attemptsLeft).toBe(JOB_ATTEMPTS - 1);
      await postponeJob(db, job, 0);
    }
  });

  test("one that is asked for while it runs is due at once when it is given back for a while", async () => {
    const db = await open();
    await put(db, { dedupeKey: "a" });
    const job = await must(take(db));
    await put(db, { dedupeKey: "a" });
    await postponeJob(db, job, leaseMs);
    const again = await must(take(db));
    await postponeJob(db, again, leaseMs);
    expect(await take(db)).toBeUndefined();
  });

  test("one job waits for each key, and one that is asked for while it runs runs again", async () => {
    const db = await open();
    await put(db, { dedupeKey: "a" });
    await put(db, { dedupeKey: "a" });
    expect(await countJobs(db)).toMatchObject([{ total: 1 }]);
    const job = await must(take(db));
    await put(db, { dedupeKey: "a" });
    expect(await take(db)).toBeUndefined();
    expect(await finish(db, job)).toBe(true);
    const again = await must(take(db));
    expect(again.id).toBe(job.id);
    expect(await finish(db, again)).toBe(true);
    expect(await countJobs(db)).toEqual([]);
  });

  test("a job that kills its workers ends too", async () => {
    const db = await open();
    await put(db, { dedupeKey: "a" });
    for (let tries = 0; tries < JOB_ATTEMPTS; tries++) {
      let job: TakenJob | undefined;
      while (!job) job = await take(db, { leaseMs: 1 });
    }
    await Bun.sleep(10);
    expect(await take(db)).toBeUndefined();
  });

  test("a job that waits for later can be hastened, and taken back", async () => {
    const db = await open();
    for (const dedupeKey of ["soon", "never"]) await put(db, { dedupeKey, delayMs: leaseMs, payload: { dedupeKey } });
    expect(await take(db)).toBeUndefined();
    await db.tx((tx) => hastenJob(tx, queue, "soon"));
    const job = await must(take(db));
    expect(job.payload).toEqual({ dedupeKey: "soon" });
    // One that runs is left alone.
    await db.tx((tx) => hastenJob(tx, queue, "soon"));
    expect(await take(db)).toBeUndefined();
    await db.tx((tx) => withdrawJob(tx, queue, "never"));
    await db.tx((tx) => withdrawJob(tx, queue, "soon"));
    expect(await countJobs(db)).toEqual([]);
    expect(await renewJob(db, job, leaseMs)).toBe(false);
    expect(await finish(db, job)).toBe(false);
  });

  test("lanes do not wait for each other, and the one that is due longest comes first", async () => {
    const db = await open();
    await put(db, { lane: "eu", payload: { n: 1 } });
    await put(db, { lane: "us", payload: { n: 2 } });
    await put(db, { lane: "us", payload: { n: 3 } });
    await put(db, { lane: "us", payload: { n: 4 }, delayMs: leaseMs });
    expect((await must(take(db, { lane: "us" }))).payload).toEqual({ n: 2 });
    expect((await must(take(db, { lane: "us" }))).payload).toEqual({ n: 3 });
    expect(await take(db, { lane: "us" })).toBeUndefined();
    expect(await take(db)).toBeUndefined();
    expect(await countJobs(db)).toMatchObject([
      { queue, lane: "eu", total: 1, locked: 0 },
      { queue, lane: "us", total: 3, locked: 2 },
    ]);
    const upTo = async (lane: string, max = 10) => {
      const { total, due, locked } = await countJobsUpTo(db, queue, lane, max);
      return [total, due, locked];
    };
    // The one that is put off waits, and yet there is nothing to do for a worker.
    expect([await upTo("eu"), await upTo("us"), await upTo("nowhere")]).toEqual([
      [1, 1, 0],
      [3, 0, 2],
      [0, 0, 0],
    ]);
    await put(db, { lane: "eu", payload: { n: 5 } });
    expect(await upTo("eu", 1)).toEqual([1, 1, 0]);
  });
});
