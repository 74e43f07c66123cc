/**
 * A driver whose failures are told to the health of its store, and which gives up at once where waiting for a store that is
 * known to be away helps nobody. It changes nothing else.
 */

import { RegistryError } from "../errors.ts";
import type { ObjectSource, StorageDriver, UploadWriter } from "./driver.ts";
import type { LocationHealth } from "./health.ts";

/** Wraps the driver of `location`. */
export function watchDriver(driver: StorageDriver, location: string, health: LocationHealth): StorageDriver {
  const run = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      health.failed(error);
      throw error;
    }
  };
  const clientUrl = driver.clientUrl?.bind(driver);
  return {
    kind: driver.kind,
    isLocal: driver.isLocal,
    fencesWriters: driver.fencesWriters,
    ...(driver.chunkBytesMin === undefined ? {} : { chunkBytesMin: driver.chunkBytesMin }),
    find: (key) => run(() => driver.find(key)),
    source: async (key, sizeBytes) => watchSource(await run(() => driver.source(key, sizeBytes)), run),
    ...(clientUrl ? { clientUrl: (key, request) => run(() => clientUrl(key, request)) } : {}),
    delete: (key) => run(() => driver.delete(key)),
    createUpload: (uploadId) => run(() => driver.createUpload(uploadId)),
    async openUpload(uploadId, state, offsetBytes, lastKey) {
      if (health.isDown) throw isAway(location);
      return watchWriter(await run(() => driver.openUpload(uploadId, state, offsetBytes, lastKey)), run, health);
    },
    readUpload: (uploadId, state, sizeBytes) => run(() => driver.readUpload(uploadId, state, sizeBytes)),
    commitUpload: (uploadId, state, key, sizeBytes) => run(() => driver.commitUpload(uploadId, state, key, sizeBytes)),
    deleteUpload: (uploadId, state) => run(() => driver.deleteUpload(uploadId, state)),
    cleanUploads: (beforeMs, limit) => run(() => driver.cleanUploads(beforeMs, limit)),
    check: () => health.check(),
    space: () => run(() => driver.space()),
  };
}

type Run = <T>(work: () => Promise<T>) => Promise<T>;

/** What a stream meets after it was opened is told by whoever reads it (`failover.ts`). */
function watchSource(source: ObjectSource | undefined, run: Run): ObjectSource | undefined {
  if (source?.kind !== "stream") return source;
  return { kind: "stream", sizeBytes: source.sizeBytes, open: (range) => run(() => source.open(range)) };
}

function watchWriter(writer: UploadWriter, run: Run, health: LocationHealth): UploadWriter {
  return {
    write(chunk) {
      try {
        const written = writer.write(chunk);
        return written && run(() => written);
      } catch (error) {
        health.failed(error);
        throw error;
      }
    },
    flush: () => run(() => writer.flush()),
    abort: () => writer.abort(),
  };
}

function isAway(location: string): RegistryError {
  return new RegistryError("unavailable", {
    message: `the store "${location}", in which this upload began, cannot be used now: start the upload again`,
    detail: { location },
  });
}
