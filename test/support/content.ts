/**
 * Fixed content for tests: bytes, images, indexes and artifacts that are the same in every run, so that a digest in a
 * failed assertion can be found again. Pushing them is left to the registry client.
 */
import {
  type Descriptor,
  describeContent,
  digestOf,
  mediaTypes,
  type RegistryClient,
  toBytes,
} from "./registry-client.ts";

export const dockerTypes = {
  manifest: "application/vnd.docker.distribution.manifest.v2+json",
  list: "application/vnd.docker.distribution.manifest.list.v2+json",
  config: "application/vnd.docker.container.image.v1+json",
  layer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  schema1: "application/vnd.docker.distribution.manifest.v1+json",
  schema1Signed: "application/vnd.docker.distribution.manifest.v1+prettyjws",
} as const;

/** The two bytes that artifacts without a config name as theirs. Spec: image-spec "Guidance for an Empty Descriptor". */
export const emptyConfig = toBytes("{}");

/** A digest of the right form that nothing has. */
export const absentDigest = `sha256:${"0123456789abcdef".repeat(4)}`;

/** `size` bytes that follow from the seed alone and do not compress. */
export function fixedBytes(size: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  let state = (seed * 0x9e3779b1) >>> 0 || 1;
  for (let index = 0; index < size; index++) {
    // xorshift32: quick, and good enough for bytes that must only differ from each other.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state & 0xff;
  }
  return bytes;
}

export interface Image {
  /** The manifest's bytes as they are pushed. */
  readonly manifest: Uint8Array<ArrayBuffer>;
  readonly digest: string;
  readonly mediaType: string;
  readonly descriptor: Descriptor;
  /** Config and layers: what must be there before the manifest. */
  readonly blobs: readonly Uint8Array[];
}

export interface ImageOptions {
  /** Layers' sizes in bytes; default one of 1 KiB. */
  layerSizes?: readonly number[];
  /** Fields put over the manifest's own. */
  fields?: Record<string, unknown>;
  docker?: boolean;
}

/** An image whose bytes follow from its name. */
export function image(name: string, options: ImageOptions = {}): Image {
  const types = options.docker ? dockerTypes : mediaTypes;
  const seed = Number.parseInt(digestOf(toBytes(name)).slice(7, 14), 16);
  const layers = (options.layerSizes ?? [1024]).map((size, index) => fixedBytes(size, seed + index));
  const config = toBytes({ architecture: "amd64", os: "linux", config: { Labels: { name } } });
  const manifest = toBytes({
    schemaVersion: 2,
    mediaType: types.manifest,
    config: describeContent(config, types.config),
    layers: layers.map((layer) => describeContent(layer, types.layer)),
    ...options.fields,
  });
  return { ...described(manifest, types.manifest), blobs: [config, ...layers] };
}

/** An artifact with the empty config and no content of its own, which may refer to a subject. */
export function artifact(artifactType: string, fields: Record<string, unknown> = {}): Image {
  const empty = describeContent(emptyConfig, mediaTypes.empty);
  const manifest = toBytes({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    artifactType,
    config: empty,
    layers: [empty],
    ...fields,
  });
  return { ...described(manifest, mediaTypes.manifest), blobs: [emptyConfig] };
}

/** An index over these descriptors. */
export function index(
  manifests: readonly Descriptor[],
  fields: Record<string, unknown> = {},
  mediaType: string = mediaTypes.index,
): Image {
  const manifest = toBytes({ schemaVersion: 2, mediaType, manifests, ...fields });
  return { ...described(manifest, mediaType), blobs: [] };
}

/** A manifest from the very bytes given, for documents that no builder would make. */
export function raw(text: string | Uint8Array, mediaType: string = mediaTypes.manifest): Image {
  return { ...described(toBytes(text), mediaType), blobs: [] };
}

/** Pushes the blobs and the manifest under a tag (or, without one, its digest). Throws when one is refused. */
export async function publish(client: RegistryClient, repository: string, content: Image, tag?: string): Promise<void> {
  for (const blob of content.blobs) await require201(client.pushBlob(repository, blob), repository);
  await require201(
    client.pushManifest(repository, tag ?? content.digest, content.manifest, content.mediaType),
    repository,
  );
}

async function require201(answer: Promise<Response>, repository: string): Promise<void> {
  const response = await answer;
  if (response.status === 201) return;
  throw new Error(`push to "${repository}": ${response.status} ${await response.text()}`);
}

function described(manifest: Uint8Array, mediaType: string) {
  return {
    manifest: new Uint8Array(manifest),
    mediaType,
    digest: digestOf(manifest),
    descriptor: describeContent(manifest, mediaType),
  };
}
