/**
 * What is taken back or deleted on one instance is gone on the other within one second, however warm its caches are; and with
 * its very next answer while the connection is cut on which it hears of such things.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { image, publish } from "../support/content.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { type Issuer, startIssuer } from "../support/oidc-issuer.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { pullScope } from "../support/registry-client.ts";
import { at, type Cluster, patienceMs, startCluster, until } from "./instances.ts";
import { accepted, type Trial, trials } from "./revocations.ts";

/** What is promised to whoever takes something back. */
const seenWithinMs = 1000;
const everMs = Number.MAX_SAFE_INTEGER;

setDefaultTimeout(2 * patienceMs);
let proxy: FaultProxy;
let issuer: Issuer;
let cluster: Cluster;
let outside: postgres.Sql;
let before: number[] = [];

beforeAll(async () => {
  const database = await createTestDatabase();
  const address = new URL(database);
  proxy = await startFaultProxy({ host: "127.0.0.1", port: Number(address.port || 5432) });
  address.host = `${proxy.host}:${proxy.port}`;
  issuer = await startIssuer();
  outside = postgres(database, { max: 1, onnotice: () => undefined });
  cluster = await startCluster({
    database,
    config: { SUPER_USERS: ["admin"], SSRF_ALLOWED_HOSTS: ["127.0.0.1"], FEATURE_REPO_MIRROR: true },
    instances: [{}, { config: { DB_URI: address.href } }],
    before: async (index) => {
      if (index === 1) before = await listeners();
    },
  });
}, 2 * patienceMs);
afterAll(async () => {
  await cluster?.stop();
  await issuer?.stop();
  await proxy?.stop();
  await outside?.end();
}, patienceMs);

/** Sessions of the database that hear of changes. */
async function listeners(): Promise<number[]> {
  const rows = await outside<{ pid: number }[]>`
    select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
      and (query like 'listen %' or query like '%changes.heartbeat%')`;
  return rows.map(({ pid }) => pid);
}

/** Cuts what the second instance hears by, and each try to hear again, until the function it gives is called. */
async function deafen(): Promise<() => Promise<void>> {
  const second = at(cluster, 1);
  const lines = (text: string) => second.berth.logs().split(text).length - 1;
  const [cuts, returns] = [lines(cutLine), lines(backLine)];
  proxy.faults.loseAnswers = { text: "listen berth_changed", times: everMs };
  for (const pid of await listeners()) if (!before.includes(pid)) await outside`select pg_terminate_backend(${pid})`;
  await until("the second instance hears nothing", () => lines(cutLine) > cuts);
  return async () => {
    proxy.faults.clear();
    await until("the second instance hears again", () => lines(backLine) > returns);
  };
}
const cutLine = "Changes of other instances are not heard";
const backLine = "Changes of other instances are heard again";

const answers = ({ probes }: Trial) => Promise.all(probes.map((probe) => probe()));
const isGood = (status: number) => status >= 200 && status < 300;

/** Prepares a trial and asks often enough that whatever keeps answers has kept these. */
async function warm(name: string): Promise<Trial> {
  const trial = await trials[name]?.({ cluster, issuer });
  if (!trial) throw new Error(`no trial "${name}"`);
  for (let turn = 0; turn < 3; turn++) {
    expect((await answers(trial)).filter((status) => !isGood(status))).toEqual([]);
  }
  return trial;
}

describe("is seen on the other instance within a second", () => {
  test.each(Object.keys(trials))("%s", async (name) => {
    const trial = await warm(name);
    await trial.revoke();
    const revokedMs = performance.now();
    for (;;) {
      const askedMs = performance.now();
      const stale = (await answers(trial)).filter(isGood);
      if (stale.length === 0) break;
      // Asked later than promised, and answered as if nothing had happened.
      expect(askedMs - revokedMs).toBeLessThan(seenWithinMs);
    }
  });
});

describe("is seen with the next answer while the other instance does not hear of changes", () => {
  let hearAgain: () => Promise<void>;
  beforeAll(async () => {
    hearAgain = await deafen();
  }, patienceMs);
  afterAll(() => hearAgain(), patienceMs);

  test.each(Object.keys(trials))("%s", async (name) => {
    const trial = await warm(name);
    await trial.revoke();
    expect((await answers(trial)).filter(isGood)).toEqual([]);
  });
});

test("an instance that stood still does not answer first and hear then", async () => {
  const [first, second] = [at(cluster, 0), at(cluster, 1)];
  const admin = await first.browser("admin");
  const { adminPassword } = first.berth;
  for (let round = 0; round < 3; round++) {
    const path = `admin/still-${round}`;
    await publish(first.client("admin", adminPassword), path, image(path), "v1");
    const authorization = await second.bearer("admin", adminPassword, pullScope(path));
    const pull = () => second.status(`/v2/${path}/manifests/v1`, { authorization });
    for (let turn = 0; turn < 3; turn++) expect(await pull()).toBe(200);
    process.kill(second.berth.pid, "SIGSTOP");
    try {
      await accepted(admin.delete(`/repository/${path}/tag/v1`));
      await Bun.sleep(seenWithinMs);
      const pulls = [pull(), pull(), pull()];
      // They wait beside the news when it wakes up.
      await Bun.sleep(100);
      process.kill(second.berth.pid, "SIGCONT");
      expect(await Promise.all(pulls)).toEqual([404, 404, 404]);
    } finally {
      process.kill(second.berth.pid, "SIGCONT");
    }
  }
});

describe("caches", () => {
  async function published(path: string) {
    const content = image(path);
    await publish(at(cluster, 0).client("admin", at(cluster, 0).berth.adminPassword), path, content, "v1");
    const second = at(cluster, 1);
    const authorization = await second.bearer("admin", second.berth.adminPassword, pullScope(path));
    return { pull: () => second.status(`/v2/${path}/manifests/v1`, { authorization }) };
  }
  /** Ends the tag past every instance, so that nobody is told. */
  const endTag = (path: string) => outside`
    update tag set end_ms = start_ms + 1 from repository r join account a on a.id = r.namespace_id
    where tag.repository_id = r.id and a.username || '/' || r.name = ${path} and tag.end_ms is null`;

  test("do answer while changes are heard: what nobody tells of is not seen", async () => {
    const { pull } = await published("admin/untold");
    expect(await pull()).toBe(200);
    expect(await pull()).toBe(200);
    expect((await endTag("admin/untold")).count).toBe(1);
    expect(await pull()).toBe(200);
    // It is the telling that makes the tests above pass.
    await outside`select pg_notify('berth_changed', 'everything')`;
    await until("the tag is gone", async () => (await pull()) === 404);
  });

  test("are off while they are not, and forget when they are heard again", async () => {
    const { pull } = await published("admin/deaf");
    expect(await pull()).toBe(200);
    const hearAgain = await deafen();
    const { hits } = await at(cluster, 1).lookups();
    for (let turn = 0; turn < 3; turn++) expect(await pull()).toBe(200);
    expect((await at(cluster, 1).lookups()).hits).toBe(hits);
    expect((await endTag("admin/deaf")).count).toBe(1);
    expect(await pull()).toBe(404);
    await hearAgain();
    expect(await pull()).toBe(404);
    const after = await published("admin/heard");
    expect(await after.pull()).toBe(200);
    expect(await after.pull()).toBe(200);
    const { misses } = await at(cluster, 1).lookups();
    expect(await after.pull()).toBe(200);
    expect((await at(cluster, 1).lookups()).misses).toBe(misses);
  });
});
