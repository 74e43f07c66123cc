/**
 * Where a test's server keeps its blobs, and a look into it from outside: the folder in the server's data, or with
 * `TEST_DB=cluster` a bucket of its own on an S3 server that all of this process' tests share (TEST_S3_URI names one).
 */
import { readdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { isCluster } from "./database.ts";
import { type S3Server, startS3 } from "./s3.ts";

export interface StoredObject {
  /** Below the store's path: `sha256/ab/abcdef…`, `uploads/ID…`. */
  readonly key: string;
  readonly sizeBytes: number;
  /** Another one when the object was written anew. */
  readonly mark: string;
}

export interface TestStore {
  /** On this machine's disk, where each step of an upload can be seen; in a bucket an object is seen when it is whole. */
  readonly isLocal: boolean;
  /** Keys of the config that name it; none for the folder that a server takes by itself. */
  readonly config: Record<string, unknown>;
  /** All objects whose key begins with `prefix`, without the health check's. */
  list(prefix?: string): Promise<StoredObject[]>;
  read(key: string): Promise<ReadableStream<Uint8Array>>;
  /** Unfinished uploads of which the store holds bytes. */
  uploads(): Promise<string[]>;
}

const PROBE = ".check";
const storagePath = "datastorage/registry/";
let shared: Promise<S3Server> | undefined;

/** A fresh store for a server, as TEST_DB says. `dataDir` is the server's. */
export async function chooseStore(dataDir: string): Promise<TestStore> {
  return isCluster() ? bucketStore() : folderStore(join(dataDir, "blobs"));
}

/** LocalStorage in this folder. */
export function folderStore(folder: string): TestStore {
  const list = async (prefix = "") =>
    filesBelow(folder).filter(({ key }) => key.startsWith(prefix) && !key.endsWith(`/${PROBE}`));
  return {
    isLocal: true,
    config: {},
    list,
    read: async (key) => Bun.file(join(folder, key)).stream(),
    uploads: async () => uploadsOf((await list("uploads/")).map(({ key }) => key)),
  };
}

/** A bucket of its own on the S3 server of this process. */
export async function bucketStore(): Promise<TestStore> {
  shared ??= startS3();
  const server = await shared;
  const bucket = await server.createBucket();
  const list = async (prefix = "") =>
    (await server.objects(bucket, storagePath + prefix)).map(({ key, ...rest }) => ({
      key: key.slice(storagePath.length),
      ...rest,
    }));
  return {
    isLocal: false,
    config: { DISTRIBUTED_STORAGE_CONFIG: { default: server.engineConfig(bucket) } },
    list,
    read: async (key) => {
      const response = await server.request("GET", `/${bucket}/${storagePath}${key}`);
      if (response.status !== 200) throw new Error(`reading ${key}: ${response.status} ${await response.text()}`);
      return response.body ?? new ReadableStream();
    },
    uploads: async () => {
      const seen = (await list("uploads/")).map(({ key }) => key);
      const unseen = (await server.multiparts(bucket)).map((key) => key.slice(storagePath.length));
      return uploadsOf([...seen, ...unseen]);
    },
  };
}

/** Ids of uploads that have these keys; parts of a blob that nobody sees yet count under its own key. */
function uploadsOf(keys: readonly string[]): string[] {
  const ids = keys.map((key) => (key.startsWith("uploads/") ? (key.split("/")[1] ?? key) : key));
  return [...new Set(ids)].sort();
}

/** One that vanishes between two looks, as temporary ones do, is left out. */
function filesBelow(folder: string): StoredObject[] {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .flatMap((entry) => {
      const path = join(entry.parentPath, entry.name);
      const stats = statSync(path, { throwIfNoEntry: false });
      if (!stats) return [];
      const { size, ino, mtimeMs, ctimeMs } = stats;
      return [{ key: relative(folder, path), sizeBytes: size, mark: `${ino}:${size}:${mtimeMs}:${ctimeMs}` }];
    });
}
