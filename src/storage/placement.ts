/**
 * The named stores of DISTRIBUTED_STORAGE_CONFIG: where new blobs go and from where an existing one is read. With one
 * store this is a name and a driver; geo-replication adds more of them.
 */

import { RegistryError } from "../errors.ts";
import type { Digest } from "../oci/digest.ts";
import type { ClientUrlRequest, ObjectSource, StorageDriver } from "./driver.ts";
import { blobKey } from "./paths.ts";

/** A blob as its row describes it. */
export interface PlacedBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Names of the stores that hold its bytes. */
  readonly locations: readonly string[];
}

export interface BlobStore {
  /** Where pushes go. */
  readonly preferred: { readonly location: string; readonly driver: StorageDriver };
  /** The driver of a location. Throws `unavailable` when the config does not name it any more. */
  driver(location: string): StorageDriver;
  /** The bytes of a blob from the nearest store that has it; undefined when none has. */
  source(blob: PlacedBlob): Promise<ObjectSource | undefined>;
  /** A URL at the nearest store with which a client fetches the blob by itself; undefined when it has to go through us. */
  clientUrl(blob: PlacedBlob, request: ClientUrlRequest): Promise<string | undefined>;
  /** Throws `unavailable` when the preferred store cannot be used now. */
  check(): Promise<void>;
}

/** `preference` is DISTRIBUTED_STORAGE_PREFERENCE: the first takes pushes, the order is the order of reading. */
export function createBlobStore(drivers: ReadonlyMap<string, StorageDriver>, preference: readonly string[]): BlobStore {
  const location = preference[0] ?? [...drivers.keys()][0];
  const preferred = location === undefined ? undefined : drivers.get(location);
  if (location === undefined || !preferred) throw new Error(`no storage engine named "${location ?? ""}"`);

  function driver(name: string): StorageDriver {
    const found = drivers.get(name);
    if (found) return found;
    throw new RegistryError("unavailable", { message: `no storage engine named "${name}" in this instance's config` });
  }

  /** The stores of a blob that this instance knows, in the order of reading. */
  function nearestFirst(locations: readonly string[]): string[] {
    const known = [...preference, ...locations].filter((name) => locations.includes(name) && drivers.has(name));
    return [...new Set(known)];
  }

  return {
    preferred: { location, driver: preferred },
    driver,
    async source({ digest, sizeBytes, locations }) {
      for (const name of nearestFirst(locations)) {
        const source = await drivers.get(name)?.source(blobKey(digest), sizeBytes);
        if (source) return source;
      }
      return undefined;
    },
    async clientUrl({ digest, locations }, request) {
      const [nearest] = nearestFirst(locations);
      return nearest === undefined ? undefined : drivers.get(nearest)?.clientUrl?.(blobKey(digest), request);
    },
    check: () => preferred.check(),
  };
}
