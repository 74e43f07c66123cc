/** The config of an image, read from storage for its labels and history. What is in it was written by whoever built it. */

import type { App } from "../../app.ts";
import type { Descriptor } from "../../oci/descriptor.ts";
import { isJsonObject, type JsonObject } from "../../oci/json-document.ts";
import { IMAGE_CONFIG_MEDIA_TYPES } from "../../oci/media-types.ts";
import type { ObjectSource } from "../../storage/driver.ts";
import { blobKey } from "../../storage/paths.ts";
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
  if (!isReadable(config)) return undefined;
  const blob = await app.lookup.blob(repositoryId, config.digest);
  const source = blob && (await app.storage.source(blob));
  return source && readDocument(source);
}

/**
 * The same for a manifest that is being pushed, whose config has just gone to where pushes go: when that is a disk of ours,
 * the row that says so need not be read. The push fails when the config is not linked to the repository, except with
 * FEATURE_SPARSE_MANIFEST, where this asks as `readConfig` does.
 */
export async function readPushedConfig(
  app: Pick<App, "config" | "lookup" | "storage">,
  repositoryId: number,
  config: Descriptor,
): Promise<JsonObject | undefined> {
  if (!isReadable(config)) return undefined;
  const { driver } = app.storage.writable();
  const mayBeThere = driver.isLocal && !app.config.FEATURE_SPARSE_MANIFEST;
  const source = mayBeThere ? await driver.source(blobKey(config.digest)) : undefined;
  return source ? readDocument(source) : readConfig(app, repositoryId, config);
}

function isReadable(config: Descriptor): boolean {
  return IMAGE_CONFIG_MEDIA_TYPES.includes(config.mediaType) && config.sizeBytes <= CONFIG_SIZE_BYTES_MAX;
}

async function readDocument(source: ObjectSource): Promise<JsonObject | undefined> {
  const bytes = await readObject(source, CONFIG_SIZE_BYTES_MAX);
  if (!bytes) return undefined;
  try {
    const document: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return isJsonObject(document) ? document : undefined;
  } catch {
    return undefined;
  }
}
