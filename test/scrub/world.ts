/**
 * A registry whose stores a test damages from outside, as disks and other people's hands do, and whose scrub runs when the test
 * says so: as `berth scrub` in a process of its own, beside the server.
 */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ScrubEvent } from "../../src/domain/scrub/examine.ts";
import type { PassOptions } from "../../src/domain/scrub/pass.ts";
import type { Digest } from "../../src/oci/digest.ts";
import { blobKey } from "../../src/storage/paths.ts";
import { type Api, startApi } from "../api/harness.ts";
import { type CommandResult, runBerth } from "../cli/command.ts";
import { digestOf, type PushedImage } from "../support/registry-client.ts";
import { makeTempDir } from "../support/temp-dir.ts";

/** Whatever a busy machine does: conditions are awaited, and this is only when to call it a failure. */
export const patienceMs = 90_000;

/** A store as somebody sees it who stands beside the registry. */
export interface OpenStore {
  readonly engine: readonly [string, Record<string, unknown>];
  read(digest: string): Promise<Uint8Array | undefined>;
  write(digest: string, bytes: Uint8Array): Promise<void>;
  remove(digest: string): Promise<void>;
}

export interface ScrubWorld {
  readonly api: Api;
  readonly stores: Readonly<Record<string, OpenStore>>;
  /** Runs `berth scrub` with the server's config. */
  scrub(...args: string[]): Promise<CommandResult>;
  /** What `GET /superuser/scrub` tells. */
  // biome-ignore lint/suspicious/noExplicitAny: the harness holds it against the route's schema
  status(): Promise<any>;
  /** The status of HEAD for a blob. */
  head(repository: string, digest: string): Promise<number>;
  /** Pulls a blob and compares it with its digest; gives the status. */
  pull(repository: string, digest: string): Promise<number>;
  /** Waits until a HEAD of the blob gives this status: another process's changes are heard within a moment. */
  headBecomes(repository: string, digest: string, status: number): Promise<void>;
  /** Where a blob is recorded to be in service, and where not, sorted. */
  places(digest: string): Promise<{ good: string[]; bad: string[] }>;
  /** Entries of the registry's own action log of one kind, the newest first. */
  logged(kind: string): Promise<Record<string, unknown>[]>;
  /** A figure of the server's metrics, undefined when it is not there. */
  metric(line: string): Promise<number | undefined>;
  stop(): Promise<void>;
}

/** Options of a scrub in this process, and what it has told so far. */
export function watching(more: Partial<PassOptions> = {}): PassOptions & { readonly events: ScrubEvent[] } {
  const events: ScrubEvent[] = [];
  return {
    signal: new AbortController().signal,
    budget: undefined,
    report: (event) => void events.push(event),
    events,
    ...more,
  };
}

/** Waits until `probe` is true. */
export async function until(what: string, probe: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`not so after ${patienceMs} ms: ${what}`);
    await Bun.sleep(50);
  }
}

/** Digests of all that an image consists of. */
export function blobsOf({ config, layers }: PushedImage): string[] {
  return [config, ...layers].map((descriptor) => descriptor.digest);
}

/** Starts a registry on these stores, which prefers the first. Nothing scrubs or collects by itself unless `config` says so. */
export async function startScrubWorld(
  stores: Readonly<Record<string, OpenStore>>,
  config: Record<string, unknown> = {},
): Promise<ScrubWorld> {
  const names = Object.keys(stores);
  const api = await startApi(
    {
      DISTRIBUTED_STORAGE_CONFIG: Object.fromEntries(names.map((name) => [name, stores[name]?.engine])),
      DISTRIBUTED_STORAGE_PREFERENCE: names,
      DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: names,
      FEATURE_STORAGE_REPLICATION: names.length > 1,
      FEATURE_PROXY_STORAGE: true,
      FEATURE_SCRUB: false,
      FEATURE_GARBAGE_COLLECTION: false,
      SUPER_USERS: ["admin"],
      ...config,
    },
    { onDisk: "its stores are damaged from outside", alone: "its stores are damaged from outside" },
  );
  const superuser = await api.as("admin");
  const head = async (repository: string, digest: string) =>
    (await api.admin.pullBlob(repository, digest, { method: "HEAD" })).status;
  return {
    api,
    stores,
    scrub: (...args) =>
      runBerth(["scrub", ...args, "--data", api.berth.dataDir], {
        cwd: api.berth.dataDir,
        env: { ...api.berth.environment },
        timeoutMs: patienceMs,
      }),
    async status() {
      return (await superuser.get("/superuser/scrub")).body;
    },
    head,
    async pull(repository, digest) {
      const response = await api.admin.pullBlob(repository, digest);
      const bytes = await response.bytes();
      if (response.status === 200 && digestOf(bytes) !== digest)
        throw new Error(`other bytes were served as ${digest}`);
      return response.status;
    },
    headBecomes: (repository, digest, status) =>
      until(`HEAD of ${digest} gives ${status}`, async () => (await head(repository, digest)) === status),
    async places(digest) {
      const rows = await api.app.db.sql<{ location: string; is_bad: number }>`/* test.places */
        select p.location, 0 as is_bad from blob_placement p join blob b on b.id = p.blob_id where b.digest = ${digest}
        union all
        select c.location, 1 as is_bad from blob_bad_copy c join blob b on b.id = c.blob_id where b.digest = ${digest}`;
      const of = (isBad: number) => rows.filter((row) => Number(row.is_bad) === isBad).map((row) => row.location);
      return { good: of(0).sort(), bad: of(1).sort() };
    },
    async logged(kind) {
      const rows = await api.app.db.sql<{ metadata: string }>`/* test.logged */
        select metadata from action_log where kind = ${kind} and namespace_id is null order by id desc`;
      return rows.map((row) => JSON.parse(row.metadata) as Record<string, unknown>);
    },
    async metric(line) {
      const text = await (await fetch(`${api.berth.metricsUrl}/metrics`)).text();
      const wanted = line.match(/^([a-z_]+)\{(.*)\}$/);
      const labels = wanted?.[2]?.split(",") ?? [];
      const found = text
        .split("\n")
        .find((each) => each.startsWith(`${wanted?.[1]}{`) && labels.every((label) => each.includes(label)));
      return found === undefined ? undefined : Number(found.split(" ").at(-1));
    },
    stop: () => api.stop(),
  };
}

/** A directory of its own below `dir`. */
export function folder(dir: string, name: string): OpenStore & { readonly path: string } {
  const path = join(dir, name);
  mkdirSync(path, { recursive: true });
  const fileOf = (digest: string) => join(path, blobKey(digest as Digest));
  return {
    path,
    engine: ["LocalStorage", { storage_path: path }],
    async read(digest) {
      const file = Bun.file(fileOf(digest));
      return (await file.exists()) ? file.bytes() : undefined;
    },
    async write(digest, bytes) {
      writeFileSync(fileOf(digest), bytes);
    },
    async remove(digest) {
      rmSync(fileOf(digest));
    },
  };
}

/** What a store may do to the bytes of a blob. */
export const damages: Readonly<
  Record<string, { kind: string; damage(store: OpenStore, digest: string): Promise<void> }>
> = {
  "a flipped bit": {
    kind: "digest",
    async damage(store, digest) {
      const bytes = await bytesIn(store, digest);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 4;
      await store.write(digest, bytes);
    },
  },
  "a lost end": {
    kind: "size",
    damage: async (store, digest) => store.write(digest, (await bytesIn(store, digest)).slice(0, -1)),
  },
  "something at its end": {
    kind: "size",
    damage: async (store, digest) => store.write(digest, new Uint8Array([...(await bytesIn(store, digest)), 0])),
  },
  "a lost object": { kind: "missing", damage: (store, digest) => store.remove(digest) },
};

export async function flip(store: OpenStore | undefined, digest: string): Promise<void> {
  if (!store) throw new Error("there is no such store");
  await damages["a flipped bit"]?.damage(store, digest);
}

async function bytesIn(store: OpenStore, digest: string): Promise<Uint8Array> {
  const bytes = await store.read(digest);
  if (!bytes) throw new Error(`the store has no ${digest}`);
  return bytes;
}

/** A world on directories of these names. */
export async function startDiskWorld(
  names: readonly string[],
  config: Record<string, unknown> = {},
): Promise<ScrubWorld & { readonly folders: Readonly<Record<string, ReturnType<typeof folder>>> }> {
  const dir = makeTempDir("scrub");
  const folders = Object.fromEntries(names.map((name) => [name, folder(dir.path, name)]));
  const world = await startScrubWorld(folders, config).catch((error: unknown) => {
    dir.remove();
    throw error;
  });
  return {
    ...world,
    folders,
    async stop() {
      await world.stop();
      dir.remove();
    },
  };
}

/** Names of the files below a directory that hold blobs. */
export function filesIn(path: string): string[] {
  return readdirSync(join(path, "sha256"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .sort();
}
