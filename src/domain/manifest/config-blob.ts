/** The config of an image, read from storage for its labels and history. What is in it was written by whoever built it. */

import type { App } from "../../app.ts";
import type { Descriptor } from "../../oci/descriptor.ts";
import { isJsonObject, type JsonObject } from "../../oci/json-document.ts";
import { IMAGE_CONFIG_MEDIA_TYPES } from "../../oci/media-types.ts";
import { readObject } from "../../storage/read-object.ts";

/** Largest config read: as large as a manifest may be. Real ones have some kilobytes. */
const CONFIG_SIZE_BYTES_MAX = 4 * 1024 * 1024;

/**
 * The config as an object; undefined when it is not that of a container image, is not linked to the repository, too large,
 * or no JSON object. Throws when the store fails.
 */
export async function readConfig(
  app: Pick<App, "lookup" | "storage">,
  repositoryId: number,
  config: Descriptor,
): Promise<JsonObject | undefined> {
  if (!IMAGE_CONFIG_MEDIA_TYPES.includes(config.mediaType) || config.sizeBytes > CONFIG_SIZE_BYTES_MAX)
    return undefined;
  const blob = await app.lookup.blob(repositoryId, config.digest);
  const source = blob && (await app.storage.source(blob.digest, blob.locations));
  const bytes = source && (await readObject(source, CONFIG_SIZE_BYTES_MAX));
  if (!bytes) return undefined;
  try {
    const document: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return isJsonObject(document) ? document : undefined;
  } catch {
    return undefined;
  }
}
