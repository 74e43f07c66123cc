/** The two kinds of store that instances share: a folder, in which they take turns, and a bucket, which fences writers itself. */

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type S3Server, startS3 } from "../support/s3.ts";
import { at, type Cluster } from "./instances.ts";

export interface SharedStore {
  /** Keys of the config that name it. */
  readonly config: Record<string, unknown>;
  /** Bytes of one request of which some are in the store before the request ends. */
  readonly visibleBytes: number;
  /** Goes up when the store gets bytes of a request that is under way. */
  heldSoFar(cluster: Cluster): Promise<number>;
}

export type StoreName = "a folder" | "a bucket";

const mebibyte = 1024 * 1024;
let server: Promise<S3Server> | undefined;

/** A fresh one. */
export async function makeStore(name: StoreName): Promise<SharedStore> {
  if (name === "a folder") {
    return {
      config: {},
      visibleBytes: 2 * mebibyte,
      heldSoFar: async (cluster) => {
        const folder = join(at(cluster, 0).berth.dataDir, "blobs", "uploads");
        return readdirSync(folder).reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);
      },
    };
  }
  server ??= startS3();
  const s3 = await server;
  const bucket = await s3.createBucket();
  return {
    config: {
      DISTRIBUTED_STORAGE_CONFIG: { default: s3.engineConfig(bucket) },
      DISTRIBUTED_STORAGE_PREFERENCE: ["default"],
      DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: ["default"],
    },
    // More than a part: the first one is sent while the rest comes.
    visibleBytes: 20 * mebibyte,
    heldSoFar: async () => (await s3.multiparts(bucket)).length,
  };
}

export async function stopStores(): Promise<void> {
  const started = server;
  server = undefined;
  await (await started)?.stop();
}
