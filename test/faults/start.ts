/**
 * Starts what a fault run needs: a PostgreSQL that keeps its word and, where it is asked for, an S3 server, a proxy before
 * each, and one or several instances of Berth behind those. Where this machine allows it each instance is a host of its own,
 * so that packets can be lost on its wire.
 */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type BerthServer, defaultAdminPassword, startBerth } from "../support/berth.ts";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.ts";
import { type NetHost, type Network, networkProblem, openNetwork } from "../support/net-namespace.ts";
import { startOwnPostgres } from "../support/postgres.ts";
import { type RoundRobin, startRoundRobin } from "../support/round-robin.ts";
import { type S3Kind, type S3Server, s3At, startOwnS3 } from "../support/s3.ts";
import { makeTempDir, type TempDir } from "../support/temp-dir.ts";

export type OwnPostgres = Awaited<ReturnType<typeof startOwnPostgres>>;

export interface FaultyDatabase {
  readonly server: OwnPostgres;
  readonly proxy: FaultProxy;
  /** Address of an empty database through the proxy. */
  readonly uri: string;
  stop(): Promise<void>;
}

/** What a server that is killed must still know, and what tests switch off elsewhere for speed. */
export const DURABLE = { synchronous_commit: "on" } as const;

export async function startFaultyDatabase(
  settings: Record<string, string | number> = {},
  listenOn?: string,
): Promise<FaultyDatabase> {
  const server = await startOwnPostgres({ settings: { ...DURABLE, ...settings } });
  const listen = listenOn === undefined ? {} : { listenOn };
  const proxy = await startFaultProxy({ host: "127.0.0.1", port: server.port, ...listen });
  return {
    server,
    proxy,
    uri: through(proxy, await server.createDatabase()),
    stop: async () => {
      await proxy.stop();
      await server.stop();
    },
  };
}

/** The same database by way of the proxy. Without TLS, so that the proxy sees what is said. */
export function through(proxy: FaultProxy, uri: string): string {
  const address = new URL(uri);
  address.hostname = proxy.host;
  address.port = String(proxy.port);
  return `${address.href}?sslmode=disable`;
}

export function startBerthOn(uri: string, config: Record<string, unknown> = {}): Promise<BerthServer> {
  return startBerth({
    database: uri,
    env: { QUAY_OVERRIDE_CONFIG: JSON.stringify({ DB_URI: uri, ...config }) },
    alone: "its faults are those of one instance",
  });
}

export interface FaultyStore {
  readonly proxy: FaultProxy;
  /** An engine of DISTRIBUTED_STORAGE_CONFIG on a bucket, through the proxy. */
  readonly engine: [string, Record<string, unknown>];
  /** What can be done to the server itself, where it is one process of which all outlives a kill. */
  readonly process: StoreProcess | undefined;
  stop(): Promise<void>;
}

export interface StoreProcess {
  pid(): number;
  /** Kills the server as a power cut of its process would. */
  crash(): Promise<void>;
  /** Starts it again on the same port and data. */
  restart(): Promise<void>;
}

/** An S3 server behind a proxy. */
async function startFaultyStore(kind: S3Kind, seed: number, listenOn?: string): Promise<FaultyStore> {
  if (kind === "ceph") {
    const server = await startOwnS3("ceph");
    return behindProxy({ server, seed, listenOn, stop: () => server.stop(), process: undefined });
  }
  const dir = makeTempDir("faulty-store");
  const dataDir = join(dir.path, "buckets");
  let server: S3Server = await startOwnS3("versitygw", { dataDir });
  const { port } = server;
  const pid = () => {
    if (server.pid === undefined) throw new Error("the S3 server is not ours");
    return server.pid;
  };
  return behindProxy({
    server,
    seed,
    listenOn,
    process: {
      pid,
      async crash() {
        process.kill(pid(), "SIGKILL");
        await server.stop();
      },
      restart: async () => {
        server = await startOwnS3("versitygw", { dataDir, port });
      },
    },
    async stop() {
      await server.stop();
      dir.remove();
    },
  });
}

interface Unproxied {
  readonly server: S3Server;
  readonly seed: number;
  readonly listenOn: string | undefined;
  readonly process: StoreProcess | undefined;
  stop(): Promise<void>;
}

async function behindProxy({ server, seed, listenOn, process, stop }: Unproxied): Promise<FaultyStore> {
  const bucket = await server.createBucket();
  const listen = listenOn === undefined ? {} : { listenOn };
  const proxy = await startFaultProxy({ host: server.host, port: server.port, http: true, seed, ...listen });
  return {
    proxy,
    engine: s3At(server, `http://${proxy.host}:${proxy.port}`).engineConfig(bucket),
    process,
    async stop() {
      await proxy.stop();
      await stop();
    },
  };
}

export interface SiteOptions {
  readonly instances: number;
  /** Which S3 server has the blobs; undefined for the instance's folder, which several instances cannot share. */
  readonly s3: S3Kind | undefined;
  /** Which faults of HTTP strike. */
  readonly seed: number;
}

export interface FaultySite {
  /** Of the balancer, or of the only instance. */
  readonly url: string;
  readonly adminPassword: string;
  readonly instances: readonly BerthServer[];
  readonly database: FaultyDatabase;
  readonly store: FaultyStore | undefined;
  /** The instances' hosts; none where `noHosts` says why. */
  readonly hosts: readonly NetHost[];
  readonly noHosts: string | undefined;
  stop(): Promise<void>;
}

/** How instance number `index`, from 0, is configured beside its stores: one redirects pulls, the next pipes them. */
function configOf(index: number, instances: number): Record<string, unknown> {
  return {
    FEATURE_PROXY_STORAGE: index % 2 === 1,
    // What is acknowledged at one is asked for at the other: an instance that alone is cut off may not go by what it knew.
    ...(instances > 1 ? { DB_OUTAGE_PULL_SECONDS: 0 } : {}),
  };
}

export async function startSite({ instances: count, s3, seed }: SiteOptions): Promise<FaultySite> {
  if (count > 1 && !s3) throw new Error("several instances share a store: they need S3");
  const noHosts = await networkProblem();
  const network: Network | undefined = noHosts === undefined ? openNetwork() : undefined;
  const dir = makeTempDir("fault-site");
  const stops: (() => Promise<void> | void)[] = [() => dir.remove(), () => network?.stop()];
  const stop = async () => {
    for (const each of stops.splice(0).reverse()) await each();
  };
  try {
    const hosts: NetHost[] = [];
    for (let index = 0; network && index < count; index++) hosts.push(await network.addHost());
    const database = await startFaultyDatabase({}, network?.address);
    stops.push(() => database.stop());
    const store = s3 ? await startFaultyStore(s3, seed, network?.address) : undefined;
    if (store) stops.push(() => store.stop());
    const instances: BerthServer[] = [];
    for (let index = 0; index < count; index++) {
      const keys = {
        DB_URI: database.uri,
        ...(store ? { DISTRIBUTED_STORAGE_CONFIG: { default: store.engine } } : {}),
        ...configOf(index, count),
      };
      const host = hosts[index];
      const berth = await startBerth({
        database: database.uri,
        env: { QUAY_OVERRIDE_CONFIG: JSON.stringify(keys) },
        alone: "each instance is a host of its own",
        ...(host ? { listen: `${host.address}:0`, binary: writeLauncher(dir, index, host) } : {}),
      });
      instances.push(berth);
      stops.push(() => berth.stop());
    }
    const targets = instances.map(({ url }) => new URL(url).host);
    // Each answers from what is committed, whichever instance it was committed at.
    const balancer: RoundRobin | undefined =
      count > 1 ? await startRoundRobin({ targets, addHeader: "cache-control: no-cache" }) : undefined;
    if (balancer) stops.push(() => balancer.stop());
    const url = balancer?.url ?? instances[0]?.url ?? "";
    return { url, adminPassword: defaultAdminPassword, instances, database, store, hosts, noHosts, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A program that becomes the server, on that host. */
function writeLauncher(dir: TempDir, index: number, host: NetHost): string {
  const built = process.env.TEST_BERTH_BINARY;
  const server = built ? [resolve(built)] : [process.execPath, resolve(import.meta.dir, "../../src/main.ts")];
  const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  mkdirSync(dir.path, { recursive: true });
  const path = join(dir.path, `berth-${index + 1}`);
  writeFileSync(path, `#!/bin/sh\nexec ${[...host.prefix, ...server].map(quote).join(" ")} "$@"\n`);
  chmodSync(path, 0o700);
  return path;
}
