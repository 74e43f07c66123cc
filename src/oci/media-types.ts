/** Media types that Berth acts on. Every other type is content whose bytes are kept and whose name is only compared. */

export const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
export const OCI_CONFIG = "application/vnd.oci.image.config.v1+json";
/** Config of artifacts that have none: two bytes, `{}`. Spec: image-spec "Guidance for an Empty Descriptor". */
export const OCI_EMPTY = "application/vnd.oci.empty.v1+json";

export const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
export const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
export const DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json";
export const DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json";
export const DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";

export const HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json";

/** What Berth stores as manifests, in the order in which an error message lists them. */
export const MANIFEST_MEDIA_TYPES: readonly string[] = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];

/** Configs of container images, OCI's and docker's. */
export const IMAGE_CONFIG_MEDIA_TYPES: readonly string[] = [OCI_CONFIG, DOCKER_CONFIG];

const OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";
const OCI_NONDISTRIBUTABLE_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar";

/** Layers of container images: plain, gzip and zstd, and those that may be left at their `urls`. */
export const IMAGE_LAYER_MEDIA_TYPES: readonly string[] = [
  OCI_LAYER,
  `${OCI_LAYER}+gzip`,
  `${OCI_LAYER}+zstd`,
  OCI_NONDISTRIBUTABLE_LAYER,
  `${OCI_NONDISTRIBUTABLE_LAYER}+gzip`,
  `${OCI_NONDISTRIBUTABLE_LAYER}+zstd`,
  DOCKER_LAYER,
  `${DOCKER_LAYER}.gzip`,
  `${DOCKER_LAYER}.zstd`,
  DOCKER_FOREIGN_LAYER,
  `${DOCKER_FOREIGN_LAYER}.gzip`,
  `${DOCKER_FOREIGN_LAYER}.zstd`,
];

const EXTERNAL_LAYERS: ReadonlySet<string> = new Set(
  IMAGE_LAYER_MEDIA_TYPES.filter((type) => /nondistributable|foreign/.test(type)),
);

/** RFC 6838 restricted names: 127 characters on each side at most, beginning with a letter or digit. */
const MEDIA_TYPE = /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/;

/** True for `type/subtype` without parameters. Source: RFC 6838, section 4.2. */
export function isMediaType(text: string): boolean {
  return MEDIA_TYPE.test(text);
}

/** The media type of a Content-Type header: parameters dropped, lower-cased; undefined when absent or empty. */
export function parseMediaType(header: string | null | undefined): string | undefined {
  if (!header) return undefined;
  const semicolon = header.indexOf(";");
  const type = (semicolon === -1 ? header : header.slice(0, semicolon)).trim().toLowerCase();
  return type === "" ? undefined : type;
}

/** True for an OCI manifest or index, docker schema 2 or manifest list. */
export function isManifestMediaType(type: string): boolean {
  return type === OCI_MANIFEST || type === DOCKER_MANIFEST || isIndexMediaType(type);
}

/** True for an OCI index or docker manifest list. */
export function isIndexMediaType(type: string): boolean {
  return type === OCI_INDEX || type === DOCKER_LIST;
}

/** True for the two manifest types of OCI, which FEATURE_GENERAL_OCI_SUPPORT can turn off. */
export function isOciManifestMediaType(type: string): boolean {
  return type === OCI_MANIFEST || type === OCI_INDEX;
}

/** True for docker schema 1, signed and unsigned, which Berth refuses. */
export function isSchema1MediaType(type: string): boolean {
  return type === DOCKER_SCHEMA1 || type === DOCKER_SCHEMA1_SIGNED;
}

/** True for layers whose bytes may live elsewhere, so that their blob need not be in the repository. */
export function isExternalLayerMediaType(type: string): boolean {
  return EXTERNAL_LAYERS.has(type);
}
