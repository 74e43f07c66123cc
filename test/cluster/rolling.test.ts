/**
 * Every instance is restarted while images are pushed and pulled through a balancer without sticky sessions, and no client is
 * refused anything: by two instances behind a balancer that asks for health or does not, and by processes that share a port.
 */
import { afterAll, afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { processTree } from "../support/process.ts";
import { type RoundRobin, startRoundRobin } from "../support/round-robin.ts";
import { at, type Cluster, patienceMs, startCluster, until } from "./instances.ts";
import { makeStore, type StoreName, stopStores } from "./stores.ts";
import { startTraffic, type Traffic } from "./traffic.ts";

setDefaultTimeout(3 * patienceMs);
const clients = 4;
let cluster: Cluster | undefined;
let balancer: RoundRobin | undefined;
let traffic: Traffic | undefined;

afterEach(async () => {
  await traffic?.stop();
  await balancer?.stop();
  await cluster?.stop();
  [cluster, balancer, traffic] = [undefined, undefined, undefined];
}, patienceMs);

afterAll(stopStores, patienceMs);

/** Waits until each client has pushed and pulled some more. */
async function more(going: Traffic): Promise<void> {
  const enough = going.pushes() + clients;
  await until("some more was pushed", () => going.pushes() >= enough || going.failures.length > 0);
}

/** All clients at once could wait in a socket that is being closed; more than these would not be chance. */
const RESET_MAX = 6;

/**
 * What the kernel resets when a socket that listens is closed: connections that had come and were not taken yet. A balancer
 * that asks for health sends none there any more; others, and clients of a port that processes share, may meet one now and
 * then. Source: listen(2), and net.ipv4.tcp_migrate_req in the kernel's ip-sysctl documentation.
 */
function expectAlmostNone(failures: readonly string[]): void {
  expect(failures.filter((failure) => !failure.includes("ECONNRESET"))).toEqual([]);
  expect(failures.length).toBeLessThanOrEqual(RESET_MAX);
}

async function behindBalancer(store: StoreName, healthEveryMs?: number) {
  const { config } = await makeStore(store);
  cluster = await startCluster({ config });
  const first = at(cluster, 0).berth;
  balancer = await startRoundRobin({
    targets: cluster.instances.map(({ berth }) => berth.host),
    ...(healthEveryMs === undefined ? {} : { healthEveryMs }),
  });
  traffic = startTraffic({ url: balancer.url, username: "admin", password: first.adminPassword, clients });
  return { cluster, balancer, traffic };
}

describe.each<[string, StoreName, number | undefined]>([
  ["that asks for health", "a bucket", 200],
  ["that does not", "a folder", undefined],
])("behind a balancer %s", (_, store, healthEveryMs) => {
  test("all instances are restarted one after the other, and nobody is refused", async () => {
    const { traffic, cluster, balancer } = await behindBalancer(store, healthEveryMs);
    await more(traffic);
    for (const { berth } of cluster.instances) {
      const { pid } = berth;
      await berth.restart();
      expect(berth.pid).not.toBe(pid);
      await more(traffic);
    }
    await traffic.stop();
    if (healthEveryMs === undefined) expectAlmostNone(traffic.failures);
    else expect(traffic.failures).toEqual([]);
    for (const count of balancer.counts()) expect(count).toBeGreaterThan(traffic.requests() / 10);
  });
});

test("processes that share a port are replaced one after the other, and nobody is refused", async () => {
  cluster = await startCluster({ instances: [{ args: ["--processes", "2"] }] });
  const { berth } = at(cluster, 0);
  traffic = startTraffic({ url: berth.url, username: "admin", password: berth.adminPassword, clients });
  await more(traffic);
  const before = processTree(berth.pid).slice(1);
  expect(before).toHaveLength(2);
  process.kill(berth.pid, "SIGHUP");
  await until("the processes were replaced", () => berth.logs().includes("replaced the processes"));
  await more(traffic);
  await traffic.stop();
  expectAlmostNone(traffic.failures);
  expect(processTree(berth.pid).filter((pid) => before.includes(pid))).toEqual([]);
});
