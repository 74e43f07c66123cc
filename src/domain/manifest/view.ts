/**
 * A manifest as people look at it: its document, and for images the layers with the commands that made them, from the
 * history in the image's config. Source: quay-api reference, section 9.
 */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { Digest } from "../../oci/digest.ts";
import { isJsonObject, type JsonObject } from "../../oci/json-document.ts";
import { type ParsedManifest, parseManifest } from "../../oci/manifest.ts";
import { isExternalLayerMediaType } from "../../oci/media-types.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { readConfig } from "./config-blob.ts";

export interface ManifestView {
  readonly digest: Digest;
  readonly isList: boolean;
  /** The document as it was pushed. */
  readonly text: string;
  readonly configMediaType: string | undefined;
  /** From base to top; undefined for lists. */
  readonly layers: readonly LayerView[] | undefined;
}

export interface LayerView {
  readonly digest: string;
  readonly sizeBytes: number;
  /** Its bytes are kept elsewhere. */
  readonly isRemote: boolean;
  readonly urls: readonly string[] | undefined;
  readonly command: readonly string[] | undefined;
  readonly comment: string | undefined;
  readonly author: string | undefined;
  readonly createdMs: number | undefined;
}

/** A step of a build that made no layer is shown as docker's empty one: a gzipped tar of nothing. */
const EMPTY_LAYER = {
  digest: "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4",
  sizeBytes: 32,
} as const;

/** Steps shown of one image: more than any build has, and a page that stays readable. */
const LAYERS_MAX = 10_000;

/** Throws `not_found`. */
export async function getManifestView(
  app: Pick<App, "lookup" | "storage">,
  repository: RepositoryFacts,
  digest: Digest,
): Promise<ManifestView> {
  const manifest = await app.lookup.manifest(repository.id, { kind: "digest", digest });
  if (!manifest) throw new RegistryError("not_found");
  const parsed = parseManifest(manifest.content, manifest.mediaType);
  const config = parsed.config && (await readConfig(app, repository.id, parsed.config));
  return {
    digest,
    isList: parsed.kind === "index",
    text: new TextDecoder().decode(manifest.content),
    configMediaType: parsed.configMediaType,
    layers: parsed.kind === "index" ? undefined : listLayers(parsed, config),
  };
}

/** One entry for each step of the history; one for each layer when the history does not tell of all layers. */
export function listLayers(parsed: ParsedManifest, config: JsonObject | undefined): LayerView[] {
  const steps = Array.isArray(config?.history) ? config.history.filter(isJsonObject).slice(0, LAYERS_MAX) : [];
  const filled = steps.filter((step) => step.empty_layer !== true);
  if (filled.length !== parsed.layers.length)
    return parsed.layers.map((layer) => viewOf(layer, { created: config?.created }));
  let position = 0;
  return steps.map((step) => viewOf(step.empty_layer === true ? undefined : parsed.layers[position++], step));
}

function viewOf(layer: ParsedManifest["layers"][number] | undefined, step: JsonObject): LayerView {
  return {
    digest: layer?.digest ?? EMPTY_LAYER.digest,
    sizeBytes: layer?.sizeBytes ?? EMPTY_LAYER.sizeBytes,
    isRemote: layer !== undefined && isExternalLayerMediaType(layer.mediaType),
    urls: layer?.urls,
    command: commandOf(step.created_by),
    comment: textOf(step.comment),
    author: textOf(step.author),
    createdMs: timeOf(step.created),
  };
}

/** A command as words: some builders write a list of them as JSON. */
function commandOf(value: unknown): readonly string[] | undefined {
  const text = textOf(value);
  if (text === undefined) return undefined;
  if (!text.startsWith("[")) return [text];
  try {
    const words: unknown = JSON.parse(text);
    return Array.isArray(words) && words.every((word) => typeof word === "string") ? words : [text];
  } catch {
    return [text];
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function timeOf(value: unknown): number | undefined {
  const ms = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isFinite(ms) ? ms : undefined;
}
