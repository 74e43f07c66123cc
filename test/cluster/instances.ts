/**
 * Several instances as they stand behind a load balancer: `berth serve` processes on one PostgreSQL and one store, each at an
 * address of its own so that a test says which one it asks, and an App of ours beside them on the same database.
 */
import { join } from "node:path";
import type { BootedApp } from "../../src/boot.ts";
import { startSession } from "../../src/domain/session/session.ts";
import { createUser, findAccount } from "../../src/domain/user/account.ts";
import { csrfToken } from "../../src/http/auth/session.ts";
import { ApiClient } from "../api/harness.ts";
import { bootBeside, password } from "../registry/harness.ts";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { quickHash } from "../support/quick-hash.ts";
import { basicAuthorization, RegistryClient } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";

/** Whatever a busy machine does: conditions are awaited, and this is only when to call it a failure. */
export const patienceMs = 90_000;

/** What one instance has that the others have not. */
export interface Own {
  /** Keys over those of all. */
  readonly config?: Record<string, unknown>;
  readonly env?: Record<string, string>;
  readonly args?: readonly string[];
}

export interface ClusterOptions {
  /** Keys over the embedded default. Without a store in them the instances share a folder. */
  readonly config?: Record<string, unknown>;
  /** One for each instance; two like each other by default. */
  readonly instances?: readonly Own[];
  /** Default: a fresh one. */
  readonly database?: string;
  /** Called before an instance starts, with those that did before it. */
  readonly before?: (index: number, started: readonly Instance[]) => Promise<void>;
}

export interface Cluster {
  readonly instances: readonly Instance[];
  /** The same database and keys, in this process. */
  readonly app: BootedApp;
  readonly database: string;
  /** Makes a user with `password`. */
  user(name: string): Promise<void>;
  stop(): Promise<void>;
}

export class Instance {
  readonly berth: BerthServer;
  readonly #app: () => BootedApp;

  constructor(berth: BerthServer, app: () => BootedApp) {
    this.berth = berth;
    this.#app = app;
  }

  get url(): string {
    return this.berth.url;
  }

  client(username: string, secret: string = password): RegistryClient {
    return new RegistryClient({ url: this.url, username, password: secret });
  }

  /** A browser signed in as this user just now; `session` is one that another instance knows. */
  async browser(username: string, session?: string): Promise<ApiClient> {
    const token = session ?? (await this.session(username));
    return new ApiClient(this.url, { Cookie: `_csrf_token=${token}`, "X-CSRF-Token": csrfToken(this.#app(), token) });
  }

  /** A session's secret; it is good on every instance. */
  async session(username: string): Promise<string> {
    const app = this.#app();
    const account = await findAccount(app.db, username);
    if (!account) throw new Error(`no account "${username}"`);
    const request = { ip: undefined, userAgent: undefined };
    return app.db.tx((tx) => startSession(app, tx, { accountId: account.id, request, nowMs: Date.now() }));
  }

  /** The Authorization header with a registry token for a scope. */
  async bearer(username: string, secret: string, scope: string): Promise<string> {
    const response = await fetch(`${this.url}/v2/auth?scope=${encodeURIComponent(scope)}`, {
      headers: username === "" ? {} : { authorization: basicAuthorization(username, secret) },
    });
    if (response.status !== 200) throw new Error(`token: ${response.status} ${await response.text()}`);
    return `Bearer ${((await response.json()) as { token: string }).token}`;
  }

  /** What a request is answered, by its status alone. */
  async status(path: string, headers: Record<string, string> = {}, method = "GET"): Promise<number> {
    const response = await fetch(this.url + path, { method, headers: { accept: "*/*", ...headers } });
    await response.arrayBuffer();
    return response.status;
  }

  /** Answers of the pull path's caches so far. */
  async lookups(): Promise<{ hits: number; misses: number }> {
    const text = await (await fetch(`${this.berth.metricsUrl}/metrics`)).text();
    const count = (type: string) =>
      Number(new RegExp(`^quay_model_cache_total\\{[^}]*type="${type}"[^}]*\\} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
    return { hits: count("hit"), misses: count("miss") };
  }
}

export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const dir = makeTempDir("cluster");
  const database = options.database ?? (await createTestDatabase());
  const config: Record<string, unknown> = { DB_URI: database, ...options.config };
  const isFolder = config.DISTRIBUTED_STORAGE_CONFIG === undefined;
  let app: BootedApp | undefined;
  const booted = () => {
    if (!app) throw new Error("nothing has started yet");
    return app;
  };
  const instances: Instance[] = [];
  const stop = async () => {
    await Promise.all(instances.map(({ berth }) => berth.stop()));
    await app?.close();
    dir.remove();
  };
  try {
    for (const [index, own] of (options.instances ?? [{}, {}]).entries()) {
      await options.before?.(index, instances);
      const berth = await startBerth({
        database,
        dataDir: join(dir.path, isFolder ? "data" : `data-${index + 1}`),
        env: { ...own.env, ...override({ ...config, ...own.config }) },
        args: own.args ?? [],
        alone: "each is started, asked and ended by itself",
      });
      instances.push(new Instance(berth, booted));
      app ??= await bootBeside(berth.dataDir, override(config));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    instances,
    app: booted(),
    database,
    async user(name) {
      const passwordHash = await quickHash(password);
      const facts = { tagExpirationSeconds: 14 * 24 * 3600, nowMs: Date.now() };
      await booted().db.tx((tx) => createUser(tx, { username: name, passwordHash }, facts));
    },
    stop,
  };
}

/** The instance at a place. */
export function at(cluster: Cluster, index: number): Instance {
  const found = cluster.instances[index];
  if (!found) throw new Error(`there is no instance ${index}`);
  return found;
}

/** Config by the environment: the embedded default with its first admin, and these keys. */
export function override(config: Record<string, unknown>): Record<string, string> {
  return { QUAY_OVERRIDE_CONFIG: JSON.stringify(config) };
}

/** Waits until `probe` is true. */
export async function until(what: string, probe: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`not so after ${patienceMs} ms: ${what}`);
    await Bun.sleep(20);
  }
}
