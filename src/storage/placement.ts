/**
 * The named stores of DISTRIBUTED_STORAGE_CONFIG: where new blobs go and from where an existing one is read. With one
 * store this is a name and a driver; geo-replication adds more of them.
 */

import { RegistryError } from "../errors.ts";
import type { Digest } from "../oci/digest.ts";
import type { ObjectSource, StorageDriver } from "./driver.ts";
import { blobKey } from "./paths.ts";

export interface BlobStore {
  /** Where pushes go. */
  readonly preferred: { readonly location: string; readonly driver: StorageDriver };
  /** The driver of a location. Throws `unavailable` when the config does not name it any more. */
  driver(location: string): StorageDriver;
  /** How to hand out a blob that is placed in these locations, from the nearest that has it; undefined when none has. */
  source(digest: Digest, locations: readonly string[]): Promise<ObjectSource | undefined>;
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

  return {
    preferred: { location, driver: preferred },
    driver,
    async source(digest, locations) {
      const order = [...preference.filter((name) => locations.includes(name)), ...locations];
      for (const name of new Set(order)) {
        const source = await drivers.get(name)?.source(blobKey(digest));
        if (source) return source;
      }
      return undefined;
    },
    check: () => preferred.check(),
  };
}
