/**
 * What a chaos run stands on: one server or several behind a balancer, workers of their own for the collection, a database
 * and a store that are left in peace; and the hand that kills servers and workers and starts them again.
 */
import { join, resolve } from "node:path";
import type { BootedApp } from "../../../src/boot.ts";
import { startSession } from "../../../src/domain/session/session.ts";
import { findAccount } from "../../../src/domain/user/account.ts";
import { csrfToken } from "../../../src/http/auth/session.ts";
import { ApiClient } from "../../api/harness.ts";
import { deadSessionsGone } from "../../crash/dead-sessions.ts";
import type { Random } from "../../crash/random.ts";
import { bootBeside } from "../../registry/harness.ts";
import { type BerthServer, startBerth } from "../../support/berth.ts";
import { createTestDatabase } from "../../support/postgres.ts";
import { type RunningProcess, startProcess } from "../../support/process.ts";
import { type RoundRobin, startRoundRobin } from "../../support/round-robin.ts";
import { bucketStore, type TestStore } from "../../support/store.ts";
import { makeTempDir } from "../../support/temp-dir.ts";

export interface SiteOptions {
  readonly database: "sqlite" | "postgres";
  readonly store: "disk" | "s3";
  readonly instances: number;
  /** Processes that only collect, beside what the servers do. */
  readonly workers: number;
}

/** Nothing is restorable, leases are short, everything is looked at each second. */
const CONFIG = {
  DEFAULT_TAG_EXPIRATION: "0s",
  TAG_EXPIRATION_OPTIONS: ["0s"],
  PUSH_TEMP_TAG_EXPIRATION_SEC: 3,
  GARBAGE_COLLECTION_FREQUENCY: 1,
  FEATURE_GARBAGE_COLLECTION: true,
  FEATURE_REPOSITORY_GARBAGE_COLLECTION: true,
  FEATURE_NAMESPACE_GARBAGE_COLLECTION: true,
  // An index whose images were collected before it came is refused, as an image is whose layers were.
  FEATURE_SPARSE_INDEX: false,
  BLOBUPLOAD_DELETION_DATE_THRESHOLD: 1,
  BLOBUPLOAD_CLEANUP_FREQUENCY: 1,
  // What is counted is changed by everything that happens here, and counted from nothing by whoever comes first.
  FEATURE_QUOTA_MANAGEMENT: true,
  QUOTA_TOTAL_DELAY_SECONDS: 0,
  QUOTA_BACKFILL_POLL_PERIOD: 1,
} as const;

const START_MS = 60_000;
const mainFile = resolve(import.meta.dir, "../../../src/main.ts");

export class ChaosSite {
  readonly databaseUri: string;
  readonly dataDir: string;
  readonly store: TestStore;
  /** The same database and store, in this process. */
  readonly app: BootedApp;
  readonly kills = { servers: 0, workers: 0 };
  readonly #servers: readonly BerthServer[];
  readonly #workers: RunningProcess[];
  readonly #startWorker: () => Promise<RunningProcess>;
  readonly #balancer: RoundRobin | undefined;
  readonly #remove: () => void;
  #api: ApiClient | undefined;
  #steady: Promise<void> = Promise.resolve();

  private constructor(parts: {
    databaseUri: string;
    store: TestStore;
    app: BootedApp;
    servers: BerthServer[];
    workers: RunningProcess[];
    startWorker: () => Promise<RunningProcess>;
    balancer: RoundRobin | undefined;
    remove: () => void;
  }) {
    this.databaseUri = parts.databaseUri;
    this.store = parts.store;
    this.app = parts.app;
    this.#servers = parts.servers;
    this.#workers = parts.workers;
    this.#startWorker = parts.startWorker;
    this.#balancer = parts.balancer;
    this.#remove = parts.remove;
    this.dataDir = this.#first.dataDir;
  }

  static async start({ database, store: kind, instances, workers }: SiteOptions): Promise<ChaosSite> {
    const dir = makeTempDir("chaos");
    const dataDir = join(dir.path, "data");
    const uri = database === "postgres" ? await createTestDatabase() : "sqlite";
    const bucket = kind === "s3" ? await bucketStore() : undefined;
    const overrides = { ...CONFIG, ...bucket?.config };
    const servers: BerthServer[] = [];
    for (let index = 0; index < instances; index++) {
      const alone = "each is killed and started again by itself";
      servers.push(await startBerth({ dataDir, database: uri, overrides, alone }));
    }
    const [first] = servers;
    if (!first) throw new Error("a site has one server at least");
    const startWorker = () => startGcWorker(first);
    const started = await Promise.all(Array.from({ length: workers }, startWorker));
    const targets = servers.map(({ host }) => host);
    const balancer =
      instances > 1 ? await startRoundRobin({ targets, addHeader: "cache-control: no-cache" }) : undefined;
    const app = await bootBeside(dataDir, first.environment);
    const databaseUri = database === "postgres" ? uri : `sqlite:///${join(dataDir, "berth.db")}`;
    const remove = () => dir.remove();
    const store = bucket ?? first.store;
    return new ChaosSite({ databaseUri, store, app, servers, workers: started, startWorker, balancer, remove });
  }

  get url(): string {
    return this.#balancer?.url ?? this.#first.url;
  }

  get adminPassword(): string {
    return this.#first.adminPassword;
  }

  /** The admin, signed in. */
  async signIn(): Promise<void> {
    const account = await findAccount(this.app.db, "admin");
    if (!account) throw new Error("there is no admin");
    const request = { ip: undefined, userAgent: undefined };
    const token = await this.app.db.tx((tx) =>
      startSession(this.app, tx, { accountId: account.id, request, nowMs: Date.now() }),
    );
    this.#api = new ApiClient(this.url, {
      Cookie: `_csrf_token=${token}`,
      "X-CSRF-Token": csrfToken(this.app, token),
      connection: "close",
      "cache-control": "no-cache",
    });
  }

  get api(): ApiClient {
    if (!this.#api) throw new Error("nobody has signed in");
    return this.#api;
  }

  /** Resolves when all servers are up, and nothing that a dead one began can come true any more. */
  async steady(): Promise<void> {
    for (let seen: Promise<void> | undefined; seen !== this.#steady; ) {
      seen = this.#steady;
      await seen;
    }
  }

  /** Kills some of the processes, and starts them again after a moment. Resolves when they are back. */
  async strike(random: Random): Promise<void> {
    const choice = random.next();
    const blows: Promise<void>[] = [];
    if (choice < 0.6) blows.push(this.#killServer(random));
    if (choice > 0.45) blows.push(this.#killWorker(random));
    await Promise.all(blows);
  }

  async #killServer(random: Random): Promise<void> {
    const server = random.pick(this.#servers);
    if (!server) return;
    this.kills.servers++;
    const { promise, resolve: back, reject: failed } = Promise.withResolvers<void>();
    this.#steady = promise;
    promise.catch(() => undefined);
    try {
      await server.kill();
      if (this.app.db.engine === "postgres") await deadSessionsGone(this.databaseUri);
      await Bun.sleep(random.between(0, 1000));
      await server.restart();
      back();
    } catch (error) {
      failed(error);
      throw error;
    }
  }

  async #killWorker(random: Random): Promise<void> {
    if (this.#workers.length === 0) return;
    const index = random.between(0, this.#workers.length - 1);
    this.kills.workers++;
    await this.#workers[index]?.kill();
    await Bun.sleep(random.between(0, 2000));
    this.#workers[index] = await this.#startWorker();
  }

  /** What the processes that run now complained about. */
  complaints(): string[] {
    const logs = [...this.#servers.map((server) => server.logs()), ...this.#workers.map((worker) => worker.stderr())];
    return logs.flatMap((log) => log.split("\n")).filter((line) => /"level":"(warn|error)"/.test(line));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
    await this.#balancer?.stop();
    await this.app.close();
    await Promise.all(this.#servers.map((server) => server.stop()));
    this.#remove();
  }

  get #first(): BerthServer {
    const [first] = this.#servers;
    if (!first) throw new Error("a site has one server at least");
    return first;
  }
}

/** `berth worker gc` beside the servers, on their database and store. */
async function startGcWorker({ dataDir, environment }: BerthServer): Promise<RunningProcess> {
  const binary = process.env.TEST_BERTH_BINARY;
  const [command = "", ...script] = binary ? [resolve(binary)] : [process.execPath, mainFile];
  const worker = startProcess({
    command,
    args: [...script, "worker", "gc", "--data", dataDir],
    env: environment,
    name: "berth worker gc",
  });
  await worker.waitForLine((line) => /"msg":\s*"working"/.test(line), START_MS);
  return worker;
}
