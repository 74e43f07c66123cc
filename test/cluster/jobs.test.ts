/**
 * Background jobs with two instances whose clocks are a minute apart: a job that takes longer than its lease stays with who
 * has it, comes to the other when that one dies, and is done once.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import postgres from "postgres";
import { fixedBytes } from "../support/content.ts";
import { clockAhead } from "../support/faketime.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { digestOf } from "../support/registry-client.ts";
import { type S3Server, s3At, startS3 } from "../support/s3.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";
import { at, type Cluster, type Instance, patienceMs, startCluster, until } from "./instances.ts";

setDefaultTimeout(2 * patienceMs);
const leaseSeconds = 3;
/** Of the large blob, which at this pace takes several leases. */
const slowBytesPerSecond = 400_000;
const large = fixedBytes(7_500_000, 31);
const repository = "admin/app";

let s3: S3Server;
let proxy: FaultProxy;
let dir: TempDir;
let outside: postgres.Sql;
let cluster: Cluster;
/** The large blob's job as the first instance took it. */
let taken: Job;

interface Job {
  readonly owner: string;
  readonly untilMs: number;
  readonly nowMs: number;
}

/** The oldest job that somebody has, with the database's clock. */
async function findTaken(): Promise<Job | undefined> {
  const [row] = await outside<{ lease_owner: string; lease_until_ms: string; now_ms: string }[]>`
    select lease_owner, lease_until_ms, (extract(epoch from clock_timestamp()) * 1000)::bigint as now_ms
    from job where queue = 'imagestoragereplication' and lease_until_ms is not null order by id limit 1`;
  return row && { owner: row.lease_owner, untilMs: Number(row.lease_until_ms), nowMs: Number(row.now_ms) };
}

/** Polls until a job is taken by somebody and looks as it should. */
async function takenWhere(what: string, isIt: (job: Job) => boolean): Promise<Job> {
  let found: Job | undefined;
  await until(what, async () => {
    found = await findTaken();
    return found !== undefined && isIt(found);
  });
  if (!found) throw new Error("nobody has a job");
  return found;
}

async function push(instance: Instance, content: Uint8Array): Promise<string> {
  const client = instance.client("admin", instance.berth.adminPassword);
  expect((await client.pushBlob(repository, content)).status).toBe(201);
  return digestOf(content);
}

/** Which blobs are in both stores. */
async function copied(digests: readonly string[]): Promise<number> {
  const rows = await outside`
    select b.id from blob b join blob_placement p on p.blob_id = b.id
    where b.digest = any(${digests as string[]}) group by b.id having count(*) = 2`;
  return rows.length;
}

/** Copies that an instance counts as its own. */
async function copiesBy(instance: Instance): Promise<number> {
  const text = await (await fetch(`${instance.berth.metricsUrl}/metrics`)).text();
  return Number(/^berth_replication_blobs_total\{[^}]*location="far"[^}]*\} (\d+)$/m.exec(text)?.[1] ?? 0);
}

beforeAll(async () => {
  const database = await createTestDatabase();
  outside = postgres(database, { max: 1, onnotice: () => undefined });
  s3 = await startS3();
  proxy = await startFaultProxy({ host: "127.0.0.1", port: s3.port });
  dir = makeTempDir("near");
  const far = s3At(s3, `http://127.0.0.1:${proxy.port}`).engineConfig(await s3.createBucket());
  proxy.faults.bytesPerSecond.toServer = slowBytesPerSecond;
  cluster = await startCluster({
    database,
    config: {
      DISTRIBUTED_STORAGE_CONFIG: { near: ["LocalStorage", { storage_path: join(dir.path, "blobs") }], far },
      DISTRIBUTED_STORAGE_PREFERENCE: ["near", "far"],
      DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: ["near", "far"],
      FEATURE_STORAGE_REPLICATION: true,
      STORAGE_REPLICATION_PROCESSING_SECONDS: leaseSeconds,
    },
    instances: [{}, { env: await clockAhead(60) }],
    async before(index, [first]) {
      if (index !== 1 || !first) return;
      await push(first, large);
      taken = await takenWhere("the first instance copies", () => true);
    },
  });
}, 2 * patienceMs);
afterAll(async () => {
  await cluster?.stop();
  await proxy?.stop();
  await s3?.stop();
  await outside?.end();
  dir?.remove();
}, patienceMs);

test("a copy that takes several leases stays with who began it, and goes on elsewhere when that one is killed", async () => {
  const renewed = await takenWhere(
    "the lease was renewed past its first end",
    (job) => job.owner !== taken.owner || job.nowMs > taken.untilMs + leaseSeconds * 1000,
  );
  expect(renewed.owner).toBe(taken.owner);
  expect(await copied([digestOf(large)])).toBe(0);
  const [first, second] = [at(cluster, 0), at(cluster, 1)];
  await first.berth.kill();
  // What the database holds of it now is what the other waits for, whatever its own clock says.
  const left = await takenWhere("the dead one's lease", () => true);
  expect(left.owner).toBe(taken.owner);
  const again = await takenWhere("the other has it", (job) => job.owner !== taken.owner);
  expect(again.nowMs).toBeGreaterThanOrEqual(left.untilMs);
  proxy.faults.clear();
  await until("the blob is in both stores", async () => (await copied([digestOf(large)])) === 1);
  await until("the copy is counted", async () => (await copiesBy(second)) === 1);
  await first.berth.restart();
});

test("of many jobs each is done once, whoever does it", async () => {
  const count = 40;
  const before = await Promise.all(cluster.instances.map(copiesBy));
  const contents = Array.from({ length: count }, (_, index) => fixedBytes(10_000, 100 + index));
  const digests = await Promise.all(contents.map((content, index) => push(at(cluster, index % 2), content)));
  await until("all blobs are in both stores", async () => (await copied(digests)) === count);
  await until("all jobs are over", async () => (await outside`select id from job`).length === 0);
  const sum = async () =>
    (await Promise.all(cluster.instances.map(copiesBy))).reduce(
      (total, made, index) => total + made - (before[index] ?? 0),
      0,
    );
  await until("all copies are counted", async () => (await sum()) >= count);
  expect(await sum()).toBe(count);
});
