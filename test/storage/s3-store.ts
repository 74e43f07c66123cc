/** Buckets of a real S3 server for tests, opened as a blob store as often as wanted. */

import type { StorageEngineConfig } from "../../src/config/keys/storage.ts";
import type { StorageDriver } from "../../src/storage/driver.ts";
import type { EngineContext } from "../../src/storage/open.ts";
import { PartPool } from "../../src/storage/remote/part-pool.ts";
import { openS3, type S3EngineConfig } from "../../src/storage/s3/open.ts";
import type { S3Server } from "../support/s3.ts";

export const silentLog = {
  debug: (): void => {},
  info: (): void => {},
  warn: (): void => {},
  error: (): void => {},
  wants: (): boolean => false,
  flush: (): void => {},
};

/** What `openS3` takes beside the arguments of config.yaml. */
type Bounds = Parameters<typeof openS3>[3];

export interface Bucket {
  readonly name: string;
  readonly server: S3Server;
  /** A driver of its own on the bucket, as each instance has one. */
  open(more?: Record<string, unknown>, context?: Partial<EngineContext>, bounds?: Bounds): StorageDriver;
  /** The same with the engine for Google's store, which copies whole objects only. */
  openGoogle(more?: Record<string, unknown>): StorageDriver;
  keys(): Promise<string[]>;
  multiparts(): Promise<string[]>;
}

/** What a driver needs of its process; a pool of its own. */
export function engineContext(): EngineContext {
  return {
    authorities: async () => [],
    clock: { nowMs: () => Date.now() },
    log: silentLog,
    parts: new PartPool(),
    layerBytesMax: 20 * 1024 ** 3,
  };
}

/** `at` is where drivers speak to the server, when something stands between. */
export async function makeBucket(server: S3Server, at: S3Server = server): Promise<Bucket> {
  const name = await server.createBucket();
  return {
    name,
    server,
    open: (more, context, bounds) => {
      // Checked when the driver is opened from config.yaml; here the arguments are ours.
      const engine = at.engineConfig(name, more) as StorageEngineConfig as S3EngineConfig;
      return openS3(engine, "default", { ...engineContext(), ...context }, bounds);
    },
    openGoogle: (more) => {
      const { accessKey: access_key, secretKey: secret_key, region: s3_region, endpoint: url } = at;
      const args = { bucket_name: name, storage_path: "/datastorage/registry", access_key, secret_key, s3_region };
      return openS3(["GoogleCloudStorage", { ...args, ...more }], "default", engineContext(), { url });
    },
    keys: () => server.keys(name),
    multiparts: () => server.multiparts(name),
  };
}
