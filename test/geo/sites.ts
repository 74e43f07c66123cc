/**
 * Two sites with a store each and one database: a `berth serve` for each, which prefers its own store, and an App of ours on
 * the same database to look at what is recorded.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type BootedApp, boot } from "../../src/boot.ts";
import { loadConfig } from "../../src/config/load.ts";
import { createUser } from "../../src/domain/user/account.ts";
import { createLogger } from "../../src/observe/logger.ts";
import type { Digest } from "../../src/oci/digest.ts";
import { blobKey } from "../../src/storage/paths.ts";
import { readObject } from "../../src/storage/read-object.ts";
import { type CommandResult, runBerth } from "../cli/command.ts";
import { type BerthServer, startBerth } from "../support/berth.ts";
import { chooseServerDatabase } from "../support/database.ts";
import { type RunningProcess, startProcess } from "../support/process.ts";
import { quickHash } from "../support/quick-hash.ts";
import { type Descriptor, digestOf, type PushedImage, RegistryClient } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";
import type { GeoStore } from "./stores.ts";

const mainFile = join(import.meta.dir, "..", "..", "src", "main.ts");
const username = "admin";
const password = "correct-horse-battery";
/** Whatever a busy machine does: conditions are awaited, and this is only when to call it a failure. */
export const patienceMs = 150_000;

export type SiteName = "us" | "eu";

export interface Site {
  readonly berth: BerthServer;
  readonly client: RegistryClient;
}

export interface Sites {
  readonly us: Site;
  readonly eu: Site;
  readonly app: BootedApp;
  readonly stores: Readonly<Record<SiteName, GeoStore>>;
  /** Runs `berth` with the sites' config, or with other keys over it. */
  run(args: readonly string[], options?: { stdin?: string; config?: Record<string, unknown> }): Promise<CommandResult>;
  /** Starts `berth worker storagereplication` with other keys over the sites' config. */
  startWorker(config: Record<string, unknown>): RunningProcess;
  /** Where a blob is recorded to be, sorted. */
  placesOf(digest: string): Promise<string[]>;
  /** Waits until each of these blobs is recorded in both stores. */
  replicated(digests: readonly string[]): Promise<void>;
  /** Compares the bytes in both stores with the digest, from outside. */
  verify(digests: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

export async function startSites(
  stores: Readonly<Record<SiteName, GeoStore>>,
  keys: Record<string, unknown> = {},
): Promise<Sites> {
  const dir = makeTempDir("geo");
  const chosen = await chooseServerDatabase();
  const config = {
    DB_URI: chosen === "sqlite" ? `sqlite:///${join(dir.path, "berth.db")}` : chosen,
    DISTRIBUTED_STORAGE_CONFIG: { us: stores.us.engine, eu: stores.eu.engine },
    DISTRIBUTED_STORAGE_PREFERENCE: ["us", "eu"],
    DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: ["us", "eu"],
    FEATURE_STORAGE_REPLICATION: true,
    // A worker that dies gives its job back after this.
    STORAGE_REPLICATION_PROCESSING_SECONDS: 10,
    ...keys,
  };
  const startSite = (name: SiteName) =>
    startBerth({
      config,
      database: "sqlite",
      dataDir: join(dir.path, name),
      env: { QUAY_DISTRIBUTED_STORAGE_PREFERENCE: name },
      alone: "each site is one server, with a store of its own",
    });
  // The first brings the schema up to date.
  const us = await startSite("us");
  const eu = await startSite("eu");
  const log = createLogger({
    clock: { nowMs: () => Date.now() },
    level: "error",
    format: "text",
    write: () => undefined,
  });
  const app = await boot(loadConfig({ dataDir: dir.path, env: { QUAY_OVERRIDE_CONFIG: JSON.stringify(config) } }), log);
  const passwordHash = await quickHash(password);
  await app.db.tx((tx) =>
    createUser(tx, { username, passwordHash }, { tagExpirationSeconds: 14 * 24 * 3600, nowMs: Date.now() }),
  );
  const site = (berth: BerthServer): Site => ({
    berth,
    client: new RegistryClient({ url: berth.url, username, password }),
  });
  const placesOf = async (digest: string) => {
    const rows = await app.db.sql<{ location: string }>`/* test.places */
      select p.location from blob_placement p join blob b on b.id = p.blob_id where b.digest = ${digest}`;
    return rows.map((row) => row.location).sort();
  };
  let commands = 0;
  const place = (other: Record<string, unknown>) => {
    const configDir = join(dir.path, `command-${++commands}`);
    mkdirSync(configDir);
    writeFileSync(join(configDir, "config.yaml"), JSON.stringify({ ...config, ...other }));
    return ["--config", configDir, "--data", join(dir.path, "us")];
  };
  return {
    us: site(us),
    eu: site(eu),
    app,
    stores,
    placesOf,
    startWorker(other) {
      const binary = process.env.TEST_BERTH_BINARY;
      const [command = "", ...script] = binary ? [resolve(binary)] : [process.execPath, mainFile];
      return startProcess({
        command,
        args: [...script, "worker", "storagereplication", ...place(other)],
        name: "worker",
      });
    },
    run(args, { stdin, config: other = {} } = {}) {
      return runBerth([...args, ...place(other)], {
        cwd: dir.path,
        timeoutMs: patienceMs,
        ...(stdin === undefined ? {} : { stdin }),
      });
    },
    replicated: (digests) =>
      until(`${digests.length} blobs in both stores`, async () => {
        for (const digest of digests) if ((await placesOf(digest)).length < 2) return false;
        return true;
      }),
    async verify(digests) {
      for (const [name, { driver }] of Object.entries(stores)) {
        for (const digest of digests) {
          const source = await driver.source(blobKey(digest as Digest));
          const bytes = source && (await readObject(source, Number.MAX_SAFE_INTEGER));
          if (!bytes || digestOf(bytes) !== digest) throw new Error(`"${name}" has not the bytes of ${digest}`);
        }
      }
    },
    async stop() {
      await Promise.all([us.stop(), eu.stop(), app.close()]);
      dir.remove();
    },
  };
}

/** Digests of all that an image consists of. */
export function blobsOf({ config, layers }: PushedImage): string[] {
  return [config, ...layers].map((descriptor: Descriptor) => descriptor.digest);
}

/** Pushes as clients do: what is refused with 503 is pushed again from the beginning. Gives how often it was refused. */
export async function pushPatiently(
  { client }: Site,
  repository: string,
  tag: string,
  options: Parameters<RegistryClient["pushImage"]>[2] = {},
): Promise<PushedImage> {
  let pushed: PushedImage | undefined;
  await until(`a push of ${repository}:${tag}`, async () => {
    try {
      pushed = await client.pushImage(repository, tag, options);
      return pushed.response.status === 201;
    } catch (error) {
      if (/: 503 from /.test(String(error))) return false;
      throw error;
    }
  });
  if (!pushed) throw new Error("nothing was pushed");
  return pushed;
}

/** Pulls an image whole and compares each byte with its digest. Gives where the blobs came from. */
export async function pullAll(
  { client }: Site,
  repository: string,
  tag: string,
  image: PushedImage,
): Promise<string[]> {
  const manifest = await client.pullManifest(repository, tag);
  if (manifest.status !== 200) throw new Error(`pull of ${repository}:${tag}: ${manifest.status}`);
  const from: string[] = [];
  for (const digest of blobsOf(image)) {
    const response = await client.pullBlob(repository, digest);
    const bytes = await response.bytes();
    if (response.status !== 200)
      throw new Error(`pull of ${digest}: ${response.status} ${new TextDecoder().decode(bytes)}`);
    if (digestOf(bytes) !== digest) throw new Error(`pull of ${digest} from ${response.url} gave other bytes`);
    from.push(new URL(response.url).origin);
  }
  return from;
}

/** Waits until `probe` is true. */
export async function until(what: string, probe: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`not so after ${patienceMs} ms: ${what}`);
    await Bun.sleep(50);
  }
}
