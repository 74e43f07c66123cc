/**
 * The named stores of DISTRIBUTED_STORAGE_CONFIG: where new blobs go and from where an existing one is read. With one
 * store this is a name and a driver. With several, each has its health, and what finds one away goes to the next.
 */

import { RegistryError } from "../errors.ts";
import type { Logger } from "../observe/logger.ts";
import type { Digest } from "../oci/digest.ts";
import type { ClientUrlRequest, ObjectSource, StorageDriver } from "./driver.ts";
import { type Candidate, failoverSource } from "./failover.ts";
import { LocationHealth } from "./health.ts";
import { blobKey } from "./paths.ts";
import { watchDriver } from "./watched.ts";

/** A blob as its row describes it. */
export interface PlacedBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Names of the stores that hold its bytes. */
  readonly locations: readonly string[];
}

export interface NamedStore {
  readonly location: string;
  readonly driver: StorageDriver;
}

export interface BlobStore {
  /** The first of the preference: where pushes go while it is well. */
  readonly preferred: NamedStore;
  /** Names of all stores, in the order of the config. */
  readonly locations: readonly string[];
  /** Where an upload that begins now goes: the preferred store, or the next that is well when replication heals it later. */
  writable(): NamedStore;
  /** The driver of a location. Throws `unavailable` when the config does not name it any more. */
  driver(location: string): StorageDriver;
  /** False while a location is known not to work. */
  isUp(location: string): boolean;
  /** Takes note that a location failed in a way that its driver did not see, such as in the middle of a stream. */
  failed(location: string, error: unknown): void;
  /** These locations as far as this instance knows them: those that work before those that do not, the nearest first. */
  nearestFirst(locations: readonly string[]): string[];
  /** The bytes of a blob from the nearest store that has it; undefined when none has. */
  source(blob: PlacedBlob): Promise<ObjectSource | undefined>;
  /** A URL at the nearest store with which a client fetches the blob by itself; undefined when it has to go through us. */
  clientUrl(blob: PlacedBlob, request: ClientUrlRequest): Promise<string | undefined>;
  /** Throws `unavailable` when the preferred store (or, if so configured, any store) cannot be used now. */
  check(): Promise<void>;
  /** Ends the probes. */
  close(): void;
}

export interface BlobStoreOptions {
  /** DISTRIBUTED_STORAGE_PREFERENCE: the first takes pushes, the order is the order of reading. */
  readonly preference: readonly string[];
  /**
   * Where pushes go, after the preference, while stores before are away; undefined where nothing would bring those bytes
   * home again, and pushes wait for the preferred store.
   */
  readonly spare?: readonly string[] | undefined;
  /** DISTRIBUTED_STORAGE_VALIDATE_ENDTOEND: `check` looks at every store. */
  readonly checksAll?: boolean;
  readonly log: Logger;
}

/** Puts the opened drivers under their names. With more than one, each is probed from now on. */
export function createBlobStore(opened: ReadonlyMap<string, StorageDriver>, options: BlobStoreOptions): BlobStore {
  const { preference, log } = options;
  const isOne = opened.size === 1;
  const healths = new Map(
    [...opened].map(([location, driver]) => [
      location,
      new LocationHealth({ location, log, probe: () => driver.check() }),
    ]),
  );
  // A single store has nobody to stand in for it, and its pulls need not pay for watching it.
  const drivers = isOne
    ? opened
    : new Map([...opened].map(([name, driver]) => [name, watchDriver(driver, name, healthOf(name))]));
  if (!isOne) for (const health of healths.values()) health.watch();

  function healthOf(location: string): LocationHealth {
    const health = healths.get(location);
    if (!health) throw new Error(`no storage engine named "${location}"`);
    return health;
  }

  function driver(name: string): StorageDriver {
    const found = drivers.get(name);
    if (found) return found;
    throw new RegistryError("unavailable", { message: `no storage engine named "${name}" in this instance's config` });
  }

  const [first = [...opened.keys()][0] ?? ""] = preference;
  const preferred: NamedStore = { location: first, driver: driver(first) };
  const takers: readonly NamedStore[] = options.spare
    ? [...new Set([first, ...preference, ...options.spare])].map((location) => ({ location, driver: driver(location) }))
    : [preferred];

  function isUp(location: string): boolean {
    return healths.get(location)?.isUp ?? false;
  }

  function nearestFirst(locations: readonly string[]): string[] {
    const known = [...new Set([...preference, ...locations])].filter(
      (name) => locations.includes(name) && drivers.has(name),
    );
    return known.length < 2 ? known : [...known.filter(isUp), ...known.filter((name) => !isUp(name))];
  }

  function candidate(location: string, { digest, sizeBytes }: PlacedBlob): Candidate {
    return {
      location,
      source: () => driver(location).source(blobKey(digest), sizeBytes),
      failed(error) {
        healths.get(location)?.failed(error);
        log.warn("a blob is read from another store", { digest, location, error: String(error) });
      },
    };
  }

  return {
    preferred,
    locations: [...opened.keys()],
    writable: () => takers.find(({ location }) => healthOf(location).takesUploads) ?? preferred,
    driver,
    isUp,
    failed: (location, error) => healths.get(location)?.failed(error),
    nearestFirst,
    async source(blob) {
      const names = nearestFirst(blob.locations);
      let failure: unknown;
      for (const [index, name] of names.entries()) {
        const isLast = index === names.length - 1;
        try {
          const source = await driver(name).source(blobKey(blob.digest), blob.sizeBytes);
          // What is missing or cut here may be whole elsewhere; the last one's is the caller's to judge.
          if (!source || (!isLast && source.sizeBytes !== blob.sizeBytes)) continue;
          if (source.kind === "file" || isLast) return source;
          return failoverSource(
            names.slice(index).map((each) => candidate(each, blob)),
            blob.sizeBytes,
          );
        } catch (error) {
          if (isLast) throw error;
          failure = error;
        }
      }
      if (failure !== undefined) throw failure;
      return undefined;
    },
    async clientUrl({ digest, locations }, request) {
      for (const name of nearestFirst(locations)) {
        const nearest = driver(name);
        if (!nearest.clientUrl) return undefined;
        try {
          return await nearest.clientUrl(blobKey(digest), request);
        } catch (error) {
          log.warn("a store gives no URL for a blob", { digest, location: name, error: String(error) });
        }
      }
      return undefined;
    },
    async check() {
      if (!options.checksAll) return healthOf(first).check();
      const results = await Promise.allSettled([...healths.values()].map((each) => each.check()));
      const failed = results.find((result) => result.status === "rejected");
      if (failed) throw failed.reason;
    },
    close() {
      for (const health of healths.values()) health.close();
    },
  };
}
