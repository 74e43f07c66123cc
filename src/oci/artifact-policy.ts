/**
 * Which artifact types an operator lets in. Berth takes every type by default; Quay's keys narrow that only when they are
 * set. The keys keep their names, so that the parsed config can be handed in as it is.
 */

import { RegistryError } from "../errors.ts";
import type { ParsedManifest } from "./manifest.ts";
import {
  HELM_CONFIG,
  IMAGE_CONFIG_MEDIA_TYPES,
  IMAGE_LAYER_MEDIA_TYPES,
  isOciManifestMediaType,
  OCI_EMPTY,
} from "./media-types.ts";
import { quoteValue } from "./quote.ts";

export interface ArtifactPolicy {
  /** False refuses OCI manifests and indexes, so that only docker's are left. */
  readonly FEATURE_GENERAL_OCI_SUPPORT: boolean;
  /** True lets Helm charts in beside what ALLOWED_OCI_ARTIFACT_TYPES lists. */
  readonly FEATURE_HELM_OCI_SUPPORT: boolean;
  /** True lets everything in, whatever is listed. */
  readonly IGNORE_UNKNOWN_MEDIATYPES: boolean;
  /** Config type to layer types, as the operator wrote it; undefined (not Quay's default list) when it was not set. */
  readonly ALLOWED_OCI_ARTIFACT_TYPES?: Readonly<Record<string, readonly string[]>> | undefined;
}

const HELM_LAYERS = ["application/tar+gzip", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"];

/**
 * Throws `manifest_unsupported_type` for OCI types that are switched off, and `manifest_invalid` with Quay's prefix for a
 * config, artifact or layer type that is not allowed. As in Quay, a listed layer type is allowed under every listed config
 * type, not only its own. Source: behaviour reference, section 5; config reference, section 5.
 */
export function checkArtifactTypes(manifest: ParsedManifest, policy: ArtifactPolicy): void {
  if (!policy.FEATURE_GENERAL_OCI_SUPPORT && isOciManifestMediaType(manifest.mediaType)) {
    throw new RegistryError("manifest_unsupported_type", {
      message: `manifest type ${quoteValue(manifest.mediaType)} is switched off here (FEATURE_GENERAL_OCI_SUPPORT)`,
      detail: { mediaType: manifest.mediaType },
    });
  }
  const listed = policy.ALLOWED_OCI_ARTIFACT_TYPES;
  if (listed === undefined || policy.IGNORE_UNKNOWN_MEDIATYPES) return;
  const configTypes = new Set([...IMAGE_CONFIG_MEDIA_TYPES, ...Object.keys(listed)]);
  const layerTypes = new Set([...IMAGE_LAYER_MEDIA_TYPES, ...Object.values(listed).flat()]);
  if (policy.FEATURE_HELM_OCI_SUPPORT) {
    configTypes.add(HELM_CONFIG);
    for (const type of HELM_LAYERS) layerTypes.add(type);
  }
  const artifactType = manifest.declaredArtifactType;
  if (artifactType !== undefined && !configTypes.has(artifactType)) throw refused("artifactType", artifactType);
  // The empty config says nothing of its own; then the declared artifact type, just checked, is what counts.
  const configType = manifest.configMediaType;
  const isEmptyConfig = configType === OCI_EMPTY && artifactType !== undefined;
  if (configType !== undefined && !isEmptyConfig && !configTypes.has(configType)) {
    throw refused("config.mediaType", configType);
  }
  for (const [index, layer] of manifest.layers.entries()) {
    if (layer.mediaType !== OCI_EMPTY && !layerTypes.has(layer.mediaType)) {
      throw refused(`layers[${index}].mediaType`, layer.mediaType);
    }
  }
}

function refused(path: string, type: string): RegistryError {
  const problem = `${quoteValue(type)} is not among the artifact types allowed here (ALLOWED_OCI_ARTIFACT_TYPES)`;
  return new RegistryError("manifest_invalid", { message: `failed to parse manifest: ${path}: ${problem}` });
}
