/**
 * Labels that an image brings along: those of its config and the annotations of its manifest. They come from whoever built
 * it, so that what is too long or has no form is left out and never fails a push.
 */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import { errorFields } from "../../observe/logger.ts";
import { isJsonObject } from "../../oci/json-document.ts";
import type { ParsedManifest } from "../../oci/manifest.ts";
import { readPushedConfig } from "../manifest/config-blob.ts";
import { LABEL_KEY_LENGTH_MAX, LABEL_VALUE_LENGTH_MAX } from "./rules.ts";

/** Labels kept of one manifest: each is a row in the push. Images built with care have twenty. */
const LABELS_MAX = 500;

/**
 * What the manifest says of itself, annotations over config labels. Throws `unavailable` when the store cannot be read now: an
 * image that was taken without its labels would stay without them, and one that is to expire would stay for ever. A config
 * that cannot be read for another reason counts as one without labels, which is logged.
 */
export async function readImageLabels(
  app: Pick<App, "config" | "lookup" | "storage" | "log">,
  repositoryId: number,
  parsed: ParsedManifest,
): Promise<ReadonlyMap<string, string>> {
  const labels = new Map<string, string>();
  try {
    const document = parsed.config && (await readPushedConfig(app, repositoryId, parsed.config));
    const config = document && isJsonObject(document.config) ? document.config : {};
    if (isJsonObject(config.Labels)) keep(labels, Object.entries(config.Labels));
  } catch (error) {
    if (error instanceof RegistryError && error.code === "unavailable") throw error;
    const detail = { repositoryId, digest: parsed.config?.digest, ...errorFields(error) };
    app.log.warn("cannot read the labels in the config of a pushed image", detail);
  }
  keep(labels, Object.entries(parsed.annotations));
  return labels;
}

function keep(labels: Map<string, string>, entries: readonly [string, unknown][]): void {
  for (const [key, value] of entries) {
    if (typeof value !== "string" || !isStorable(key, value)) continue;
    if (labels.size < LABELS_MAX || labels.has(key)) labels.set(key, value);
  }
}

/** PostgreSQL has no NUL in its texts. */
function isStorable(key: string, value: string): boolean {
  if (key === "" || key.length > LABEL_KEY_LENGTH_MAX || value.length > LABEL_VALUE_LENGTH_MAX) return false;
  return !key.includes("\0") && !value.includes("\0");
}
