/**
 * Starts the real `berth serve` as a process of its own in a temporary data directory, on ports it picks itself, and reads
 * the addresses from its first log line. `TEST_DB=postgres` puts its metadata on a fresh PostgreSQL database, and
 * `TEST_DB=cluster` starts two of them, which share a PostgreSQL database and a bucket and nothing else, behind a balancer
 * that has no sticky sessions.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { chooseServerDatabase, isCluster } from "./database.ts";
import { createMigratedDatabase, createTestDatabase } from "./postgres.ts";
import { type Memory, type RunningProcess, startProcess } from "./process.ts";
import { type RoundRobin, startRoundRobin } from "./round-robin.ts";
import { chooseStore, folderStore, type TestStore } from "./store.ts";
import { makeTempDir } from "./temp-dir.ts";

export interface BerthOptions {
  /** Keys of config.yaml. Without any, Berth starts on its embedded default, with the first admin. */
  config?: Record<string, unknown>;
  /** Keys over the embedded default, by QUAY_OVERRIDE_CONFIG. */
  overrides?: Record<string, unknown>;
  env?: Record<string, string | undefined>;
  /** Password of the zero-config superuser `admin`; default `defaultAdminPassword`. */
  adminPassword?: string;
  /** Where metadata lives: "sqlite" in the data directory, or a `postgresql://` URI. Default: by TEST_DB. */
  database?: "sqlite" | (string & {});
  /** Default `127.0.0.1:0`. */
  listen?: string;
  /** A built binary instead of the sources; default TEST_BERTH_BINARY, else `src/main.ts` under this Bun. */
  binary?: string;
  /** Keeps data here instead of a temporary directory, and does not remove it. */
  dataDir?: string;
  /** More arguments after `serve`. */
  args?: readonly string[];
  /** Why this must be one server also where TEST_DB asks for a cluster; its blobs are in a bucket all the same. */
  alone?: string;
  /** Why its blobs must be on this machine's disk even then, which only one server can have. */
  onDisk?: string;
}

/** One process that serves. */
export interface Instance {
  readonly url: string;
  readonly pid: number;
  readonly metricsUrl: string | undefined;
  /** SIGKILL to this one alone. */
  kill(): Promise<void>;
  /** Starts this one again, at its address; shuts it down first when it still runs. */
  restart(): Promise<void>;
}

export interface BerthServer {
  /** `http://127.0.0.1:PORT`, the first address. */
  readonly url: string;
  readonly urls: readonly string[];
  /** `127.0.0.1:PORT`, as image names have it. */
  readonly host: string;
  readonly metricsUrl: string | undefined;
  /** Of the first instance. */
  readonly dataDir: string;
  /** Where the blobs are, unless the config names another store. */
  readonly store: TestStore;
  /** For `berth` commands and Apps beside a server without a config.yaml: with `dataDir` its whole config. */
  readonly environment: Record<string, string>;
  readonly adminPassword: string;
  readonly pid: number;
  /** The server itself, or the servers behind the balancer. */
  readonly instances: readonly Instance[];
  /** All of stderr since the first start. */
  logs(): string;
  memory(): Memory;
  resetPeak(): void;
  /** SIGTERM and exit code, keeping the data: for `restart` afterwards. */
  shutDown(): Promise<number>;
  /** SIGKILL, keeping the data. */
  kill(): Promise<void>;
  /** Starts again on the same data and port; shuts down first when it still runs. */
  restart(): Promise<void>;
  /** Ends it and removes its temporary data. */
  stop(): Promise<void>;
}

export const defaultAdminPassword = "berth-test-password";

const startTimeoutMs = 30_000;
const clusterSize = 2;
/**
 * What one instance acknowledged another hears within milliseconds, which on a busy machine is later than a test's next
 * request: each asks to be answered from what is committed. How long it takes without is tested by itself.
 */
const FRESH = "cache-control: no-cache";
const mainFile = join(import.meta.dir, "..", "..", "src", "main.ts");

/** Starts Berth and waits until it listens. Throws with its output when it ends before. */
export async function startBerth(options: BerthOptions = {}): Promise<BerthServer> {
  const dir = makeTempDir("test");
  const dataDir = options.dataDir ?? join(dir.path, "data");
  mkdirSync(dataDir, { recursive: true });
  const adminPassword = options.adminPassword ?? defaultAdminPassword;
  const database = options.database ?? (isCluster() ? await clusterDatabase() : await chooseServerDatabase());
  const binary = options.binary ?? process.env.TEST_BERTH_BINARY;
  const command = binary ? [resolve(binary)] : [process.execPath, mainFile];
  const isOnDisk = database === "sqlite" || options.onDisk !== undefined;
  const isMany = isCluster() && options.alone === undefined && !isOnDisk;
  const store = isOnDisk ? folderStore(join(dataDir, "blobs")) : await chooseStore(dataDir);
  const place = { ...(database === "sqlite" ? {} : { DB_URI: database }), ...store.config };
  const configArgs = options.config === undefined ? [] : writeConfig(dir.path, { ...place, ...options.config });
  const overrides = { ...(options.config === undefined ? place : {}), ...options.overrides };
  const environment: Record<string, string> =
    Object.keys(overrides).length === 0 ? {} : { QUAY_OVERRIDE_CONFIG: JSON.stringify(overrides) };

  const launch = async (listen: string, index: number): Promise<Launched> => {
    const [program = "", ...programArgs] = command;
    const child = startProcess({
      command: program,
      args: [
        ...programArgs,
        "serve",
        "--data",
        index === 0 ? dataDir : join(dir.path, `data-${index + 1}`),
        "--listen",
        listen,
        "--metrics-listen",
        "127.0.0.1:0",
        ...configArgs,
        ...(options.args ?? []),
      ],
      cwd: dir.path,
      env: { BERTH_ADMIN_PASSWORD: adminPassword, ...environment, ...options.env },
      name: "berth",
    });
    const line = await child.waitForLine(isListening, startTimeoutMs).catch(async (error: unknown) => {
      await child.kill();
      throw error;
    });
    return { child, ...parseAddresses(line) };
  };

  const launchAll = (listens: readonly string[]) => allOrNone(listens.map(launch));
  const loopback = "127.0.0.1:0";
  const listens = isMany ? Array(clusterSize).fill(loopback) : [options.listen ?? loopback];
  let current = await launchAll(listens).catch((error: unknown) => {
    dir.remove();
    throw error;
  });
  const hosts = () => current.map(({ urls }) => new URL(urls[0] ?? "").host);
  const balancer: RoundRobin | undefined = isMany
    ? await startRoundRobin({ targets: hosts(), addHeader: FRESH, listen: addressOf(options.listen ?? loopback) })
    : undefined;
  let earlierLogs = "";
  const logs = () => current.map(({ child }) => child.stderr()).join("");
  const shutDown = async () => {
    const codes = await Promise.all(current.map(({ child }) => child.stop(startTimeoutMs)));
    return codes.find((code) => code !== 0) ?? 0;
  };
  const restartOne = async (index: number) => {
    const { child, urls } = launchedAt(current, index);
    await child.stop(startTimeoutMs);
    earlierLogs += child.stderr();
    const again = await launch(new URL(urls[0] ?? "").host, index);
    current = current.with(index, again);
  };
  const firstUrl = () => balancer?.url ?? current[0]?.urls[0] ?? "";
  return {
    get url() {
      return firstUrl();
    },
    get urls() {
      return balancer ? [balancer.url] : (current[0]?.urls ?? []);
    },
    get host() {
      return new URL(firstUrl()).host;
    },
    get metricsUrl() {
      return current[0]?.metricsUrl;
    },
    dataDir,
    store,
    environment,
    adminPassword,
    get pid() {
      return current[0]?.child.pid ?? 0;
    },
    get instances() {
      return current.map(({ child, urls, metricsUrl }, index) => ({
        url: urls[0] ?? "",
        pid: child.pid,
        metricsUrl,
        kill: () => launchedAt(current, index).child.kill(),
        restart: () => restartOne(index),
      }));
    },
    logs: () => earlierLogs + logs(),
    memory: () => sumMemory(current.map(({ child }) => child.memory())),
    resetPeak: () => {
      for (const { child } of current) child.resetPeak();
    },
    shutDown,
    kill: async () => {
      await Promise.all(current.map(({ child }) => child.kill()));
    },
    restart: async () => {
      await shutDown();
      earlierLogs += logs();
      current = await launchAll(hosts());
    },
    stop: async () => {
      await shutDown();
      await balancer?.stop();
      dir.remove();
    },
  };
}

interface Launched {
  readonly child: RunningProcess;
  readonly urls: string[];
  readonly metricsUrl: string | undefined;
}

let isFirstCluster = true;

/** The first one of a test process starts on an empty database, which both instances bring up to date; that takes its time. */
function clusterDatabase(): Promise<string> {
  const isFirst = isFirstCluster;
  isFirstCluster = false;
  return isFirst ? createTestDatabase() : createMigratedDatabase();
}

/** `::` of `[::]:0`. */
function addressOf(listen: string): string {
  return listen.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
}

function launchedAt(launched: readonly Launched[], index: number): Launched {
  const found = launched[index];
  if (!found) throw new Error(`there is no instance ${index}`);
  return found;
}

/** All of them, or an error and none left running. */
async function allOrNone(launches: readonly Promise<Launched>[]): Promise<Launched[]> {
  const results = await Promise.allSettled(launches);
  const failed = results.find((result) => result.status === "rejected");
  const launched = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  if (!failed) return launched;
  await Promise.all(launched.map(({ child }) => child.kill()));
  throw failed.reason;
}

/** True for the log line that names the addresses: `{"msg":"listening","http":"http://…","metrics":"http://…"}`. */
function isListening(line: string): boolean {
  return line.startsWith("{") && /"msg":\s*"listening"/.test(line);
}

function parseAddresses(line: string): { urls: string[]; metricsUrl: string | undefined } {
  const fields = JSON.parse(line) as { http?: string | string[]; https?: string | string[]; metrics?: string };
  const urls = [fields.http ?? [], fields.https ?? []].flat();
  if (urls.length === 0) throw new Error(`the listening line of berth names no address: ${line}`);
  return { urls, metricsUrl: fields.metrics };
}

/** Writes config.yaml (JSON is YAML). What it leaves out, Berth keeps in the data directory by itself. */
function writeConfig(dir: string, config: Record<string, unknown>): string[] {
  const configDir = join(dir, "config");
  mkdirSync(configDir, { recursive: true });
  writeFileSync(join(configDir, "config.yaml"), JSON.stringify(config, null, 2));
  return ["--config", configDir];
}

/** What several servers are as one. */
function sumMemory(parts: readonly Memory[]): Memory {
  const sum = (of: (memory: Memory) => number) => parts.reduce((total, part) => total + of(part), 0);
  return { rssBytes: sum((part) => part.rssBytes), peakRssBytes: sum((part) => part.peakRssBytes) };
}
