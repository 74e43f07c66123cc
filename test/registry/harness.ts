/**
 * What every file of this suite starts from: the real server, and an App of our own on the same database through which
 * accounts, roles and states are prepared. Requests always go over HTTP.
 */
import { type BootedApp, boot } from "../../src/boot.ts";
import { loadConfig } from "../../src/config/load.ts";
import { findRepositoryFacts, type RepositoryFacts } from "../../src/domain/access/facts.ts";
import { setAccountRole, setState, setVisibility } from "../../src/domain/repository/repository.ts";
import { createRobot } from "../../src/domain/robot/robot.ts";
import { createUser, findAccount, setEnabled } from "../../src/domain/user/account.ts";
import { createLogger } from "../../src/observe/logger.ts";
import type { RepositoryPath } from "../../src/oci/names.ts";
import { type BerthOptions, type BerthServer, startBerth } from "../support/berth.ts";
import { quickHash } from "../support/quick-hash.ts";
import { basicAuthorization, RegistryClient } from "../support/registry-client.ts";

/** Password of every user made here. */
export const password = "correct-horse-battery";
/** What another process commits is heard within 200 ms on SQLite (src/db/NOTES.md), sooner on PostgreSQL. */
const heardAfterMs = 260;
const facts = { tagExpirationSeconds: 14 * 24 * 3600 };

export interface Registry {
  readonly berth: BerthServer;
  /** The same database and keys, in this process. */
  readonly app: BootedApp;
  /** The zero-config superuser. */
  readonly admin: RegistryClient;
  readonly anonymous: RegistryClient;
  /** Makes a user with `password` and gives its client. */
  user(name: string): Promise<RegistryClient>;
  /** Makes a robot and gives its client and token. */
  robot(owner: string, shortName: string): Promise<{ client: RegistryClient; name: string; token: string }>;
  client(username: string, secret: string): RegistryClient;
  grant(name: string, path: string, role: "none" | "read" | "write" | "admin"): Promise<void>;
  visibility(path: string, visibility: "public" | "private"): Promise<void>;
  state(path: string, state: RepositoryFacts["state"]): Promise<void>;
  enabled(name: string, enabled: boolean): Promise<void>;
  accountId(name: string): Promise<number>;
  repository(path: string): Promise<RepositoryFacts>;
  /** Unfinished uploads of which the store holds bytes. */
  uploads(): Promise<string[]>;
  stop(): Promise<void>;
}

/** Starts the server with these keys over the embedded default, on the engine that TEST_DB names. */
export async function startRegistry(
  config: Record<string, unknown> = {},
  options: Omit<BerthOptions, "config" | "overrides"> = {},
): Promise<Registry> {
  const berth = await startBerth({ ...options, overrides: config });
  const app = await bootBeside(berth.dataDir, berth.environment);
  const accountId = async (name: string) => {
    const account = await findAccount(app.db, name);
    if (!account) throw new Error(`no account "${name}"`);
    return account.id;
  };
  const repository = async (path: string) => {
    const found = await findRepositoryFacts(app.db, path as RepositoryPath);
    if (!found) throw new Error(`no repository "${path}"`);
    return found;
  };
  const client = (username: string, secret: string) =>
    new RegistryClient({ url: berth.url, username, password: secret });
  return {
    berth,
    app,
    admin: client("admin", berth.adminPassword),
    anonymous: new RegistryClient({ url: berth.url }),
    async user(name) {
      const passwordHash = await quickHash(password);
      await app.db.tx((tx) => createUser(tx, { username: name, passwordHash }, { ...facts, nowMs: Date.now() }));
      return client(name, password);
    },
    async robot(owner, shortName) {
      const account = await findAccount(app.db, owner);
      if (!account) throw new Error(`no account "${owner}"`);
      const made = await app.db.tx((tx) => createRobot(app, tx, account, shortName, { ...facts, nowMs: Date.now() }));
      return { client: client(made.username, made.token), name: made.username, token: made.token };
    },
    client,
    async grant(name, path, role) {
      const input = { repositoryId: (await repository(path)).id, accountId: await accountId(name), role };
      await app.db.tx((tx) => setAccountRole(tx, input));
      await Bun.sleep(heardAfterMs);
    },
    async visibility(path, visibility) {
      const { id } = await repository(path);
      await app.db.tx((tx) => setVisibility(tx, id, visibility));
      await Bun.sleep(heardAfterMs);
    },
    async state(path, state) {
      const { id } = await repository(path);
      await app.db.tx((tx) => setState(tx, id, state));
      await Bun.sleep(heardAfterMs);
    },
    async enabled(name, enabled) {
      const id = await accountId(name);
      await app.db.tx((tx) => setEnabled(tx, id, enabled));
      await Bun.sleep(heardAfterMs);
    },
    accountId,
    repository,
    uploads: () => berth.store.uploads(),
    async stop() {
      await app.close();
      await berth.stop();
    },
  };
}

/** Opens the server's database in this process. */
export function bootBeside(dataDir: string, env: Record<string, string>): Promise<BootedApp> {
  const silent = createLogger({ clock: { nowMs: () => Date.now() }, level: "error", format: "text" });
  return boot(loadConfig({ dataDir, env }), silent);
}

/** The one error in an OCI envelope, whose shape is checked on the way. */
export async function errorOf(response: Response): Promise<{ code: string; message: string; detail: unknown }> {
  return readEnvelope(await response.text());
}

/** Spec: distribution-spec "Error Codes". */
export function readEnvelope(text: string): { code: string; message: string; detail: unknown } {
  const body = JSON.parse(text) as { errors?: { code: unknown; message: unknown; detail: unknown }[] };
  const [error, ...more] = body.errors ?? [];
  if (!error || more.length > 0) throw new Error(`not an envelope of one error: ${text}`);
  const { code, message, detail } = error;
  if (typeof code !== "string" || !/^[A-Z_]+$/.test(code)) throw new Error(`no error code in ${text}`);
  if (typeof message !== "string" || message === "") throw new Error(`no message in ${text}`);
  if (typeof detail !== "object" || detail === null) throw new Error(`no detail in ${text}`);
  return { code, message, detail };
}

/** Authorization header of a user made by `user`. */
export function basicOf(username: string, secret: string = password): Record<string, string> {
  return { authorization: basicAuthorization(username, secret) };
}

/** Asks a registry's token service for a token with Basic. */
export async function tokenOf(registry: Registry, username: string, ...scopes: string[]): Promise<string> {
  const query = new URLSearchParams(scopes.map((scope) => ["scope", scope]));
  const secret = username === "admin" ? registry.berth.adminPassword : password;
  const response = await fetch(`${registry.berth.url}/v2/auth?${query}`, { headers: basicOf(username, secret) });
  if (response.status !== 200) throw new Error(`token: ${response.status} ${await response.text()}`);
  return ((await response.json()) as { token: string }).token;
}

/** Waits until `probe` is true. */
export async function eventually(probe: () => Promise<boolean>, timeoutMs = 5000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`still not so after ${timeoutMs} ms`);
    await Bun.sleep(10);
  }
}
