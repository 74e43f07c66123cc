/** Opens the engines that DISTRIBUTED_STORAGE_CONFIG names: the only place that knows which drivers there are. */

import { type Config, ConfigError } from "../config/load.ts";
import { sizeBytes } from "../config/units.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../observe/logger.ts";
import type { StorageDriver } from "./driver.ts";
import { openLocalStorage } from "./local.ts";
import { PartPool } from "./remote/part-pool.ts";

type Engine = Config["DISTRIBUTED_STORAGE_CONFIG"][string];

/** What drivers of stores on other machines need of the process. */
export interface DriverContext {
  /** PEM texts of the authorities to trust; empty for the system's own. */
  readonly authorities: () => Promise<readonly string[]>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The same, with what the engines of one process share. */
export interface EngineContext extends DriverContext {
  readonly parts: PartPool;
  /** MAXIMUM_LAYER_SIZE: parts must be so long that a blob of this size has not too many of them. */
  readonly layerBytesMax: number;
}

/** Opens every engine, by its location's name. Throws a ConfigError, or `unavailable` where one cannot be prepared. */
export async function openDrivers(config: Config, context: DriverContext): Promise<Map<string, StorageDriver>> {
  const drivers = new Map<string, StorageDriver>();
  const layerBytesMax = sizeBytes(config.MAXIMUM_LAYER_SIZE);
  const shared: EngineContext = { ...context, parts: new PartPool(), layerBytesMax };
  for (const [location, engine] of Object.entries(config.DISTRIBUTED_STORAGE_CONFIG)) {
    drivers.set(location, await openDriver(location, engine, shared));
  }
  return drivers;
}

async function openDriver(location: string, engine: Engine, context: EngineContext): Promise<StorageDriver> {
  const [kind, args] = engine;
  switch (kind) {
    case "LocalStorage":
      return openLocalStorage({ rootPath: args.storage_path, clock: context.clock });
    case "S3Storage":
    case "RadosGWStorage":
    case "RHOCSStorage":
    case "GoogleCloudStorage":
    case "CloudFrontedS3Storage":
      return (await import("./s3/open.ts")).openS3(engine, location, context);
    case "AzureStorage":
      return (await import("./azure/open.ts")).openAzure(location, args, context);
    case "SwiftStorage":
      return (await import("./swift/open.ts")).openSwift(args, context);
    default: {
      // The loader has refused it; this is for configs that were made in another way.
      const message = `the storage engine "${kind}" is not in this build yet`;
      throw new ConfigError([{ key: `DISTRIBUTED_STORAGE_CONFIG.${location}`, message }]);
    }
  }
}
