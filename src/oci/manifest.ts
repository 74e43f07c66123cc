/**
 * Reads a manifest or index as it was pushed: checks it, and pulls out what the registry acts on. Whether its blobs and
 * children exist is the business of domain/manifest; whether its types are welcome, of `artifact-policy.ts`.
 */

import { RegistryError } from "../errors.ts";
import { type Annotations, type Descriptor, readAnnotations, readDescriptor, readMediaType } from "./descriptor.ts";
import {
  DocumentFault,
  fieldNames,
  type JsonObject,
  kindOf,
  readJsonObject,
  requireExactKeys,
} from "./json-document.ts";
import {
  DOCKER_SCHEMA1,
  isIndexMediaType,
  isManifestMediaType,
  isOciManifestMediaType,
  isSchema1MediaType,
  MANIFEST_MEDIA_TYPES,
  parseMediaType,
} from "./media-types.ts";
import { quoteValue, showValue } from "./quote.ts";

/** Largest manifest taken: what the spec asks registries to take at least. Spec: distribution-spec "Pushing manifests". */
export const MANIFEST_SIZE_BYTES_MAX = 4 * 1024 * 1024;

/**
 * Most descriptors in one manifest. Each becomes a row in the transaction of the push; real images stay under 200 layers,
 * real indexes under 1,000 manifests.
 */
export const MANIFEST_DESCRIPTORS_MAX = 10_000;

export interface ParsedManifest {
  readonly kind: "image" | "index";
  /** One of `MANIFEST_MEDIA_TYPES`, as the Content-Type and the document agree. */
  readonly mediaType: string;
  /** What the document says it is: `artifactType`, else for images the config's media type. Spec: "Listing Referrers". */
  readonly artifactType: string | undefined;
  /** The document's own `artifactType` field alone. */
  readonly declaredArtifactType: string | undefined;
  /** Of images; undefined for indexes. */
  readonly config: Descriptor | undefined;
  readonly configMediaType: string | undefined;
  /** Of images, in order, with repetitions; empty for indexes. */
  readonly layers: readonly Descriptor[];
  /** Of indexes, in order, with repetitions; empty for images. */
  readonly manifests: readonly Descriptor[];
  readonly subject: Descriptor | undefined;
  /** Without prototype; empty when the document has none. */
  readonly annotations: Annotations;
  /** Sum of the distinct blobs an image names, config included and external layers too; 0 for indexes. */
  readonly blobsSizeBytes: number;
}

const FIELDS = fieldNames(
  "schemaVersion",
  "mediaType",
  "artifactType",
  "config",
  "layers",
  "manifests",
  "subject",
  "annotations",
  "fsLayers",
);

/** Fields that make a document an image to one parser and an index to another when they stand beside the right ones. */
const FOREIGN_FIELDS = { image: ["manifests", "fsLayers"], index: ["config", "layers", "fsLayers"] } as const;

/**
 * Checks a pushed manifest. `contentType` is the raw header. Throws `manifest_unsupported_type` for types that Berth does
 * not store (docker schema 1 among them), `manifest_too_large`, and `manifest_invalid` with the path of the field at
 * fault. Spec: image-spec "Image Manifest", "Image Index"; distribution-spec "Pushing Manifests".
 */
export function parseManifest(bytes: Uint8Array, contentType: string | undefined): ParsedManifest {
  const headerType = parseMediaType(contentType);
  if (headerType !== undefined) requireSupportedType(headerType);
  if (bytes.length > MANIFEST_SIZE_BYTES_MAX) {
    throw new RegistryError("manifest_too_large", {
      message: `the manifest has ${bytes.length} bytes, at most ${MANIFEST_SIZE_BYTES_MAX} are taken`,
      detail: { size: bytes.length, limit: MANIFEST_SIZE_BYTES_MAX },
    });
  }
  try {
    const document = readJsonObject(bytes);
    return readManifest(document, agreeOnType(document, headerType));
  } catch (error) {
    if (!(error instanceof DocumentFault)) throw error;
    throw new RegistryError("manifest_invalid", { message: `failed to parse manifest: ${error.message}` });
  }
}

/** The one type that header and document agree on. */
function agreeOnType(document: JsonObject, headerType: string | undefined): string {
  requireExactKeys(document, FIELDS, "");
  const ownType = readMediaType(document, "mediaType", "");
  if (headerType === undefined && ownType === undefined) {
    if (document.schemaVersion === 1) requireSupportedType(DOCKER_SCHEMA1);
    throw new DocumentFault("mediaType", "missing, and the request has no Content-Type to tell what this is");
  }
  if (headerType !== undefined && ownType !== undefined && headerType !== ownType) {
    const types = `the document says ${quoteValue(ownType)}, the Content-Type ${quoteValue(headerType)}`;
    throw new DocumentFault("mediaType", `${types}; they must be the same`);
  }
  const type = ownType ?? headerType ?? "";
  requireSupportedType(type);
  if (ownType === undefined && !isOciManifestMediaType(type)) {
    // Docker's clients refuse to pull it without.
    throw new DocumentFault("mediaType", `missing, expected ${quoteValue(type)}`);
  }
  return type;
}

function readManifest(document: JsonObject, mediaType: string): ParsedManifest {
  const kind = isIndexMediaType(mediaType) ? "index" : "image";
  if (document.schemaVersion !== 2) {
    throw new DocumentFault("schemaVersion", `expected 2, got ${kindOf(document.schemaVersion)}`);
  }
  for (const field of FOREIGN_FIELDS[kind]) {
    if (Object.hasOwn(document, field)) {
      throw new DocumentFault(
        field,
        `does not belong into ${quoteValue(mediaType)}: a document is either image or index`,
      );
    }
  }
  const manifests = kind === "index" ? readDescriptors(document, "manifests") : [];
  const layers = kind === "image" ? readDescriptors(document, "layers") : [];
  const config = kind === "image" ? readDescriptor(document.config, "config") : undefined;
  const subject = isPresent(document.subject) ? readDescriptor(document.subject, "subject") : undefined;
  const declaredArtifactType = readMediaType(document, "artifactType", "");
  return {
    kind,
    mediaType,
    artifactType: declaredArtifactType ?? config?.mediaType,
    declaredArtifactType,
    config,
    configMediaType: config?.mediaType,
    layers,
    manifests,
    subject,
    annotations: readAnnotations(document.annotations, "annotations") ?? Object.create(null),
    blobsSizeBytes: config ? sumDistinct([config, ...layers]) : 0,
  };
}

/** A required list; null counts as empty, because Go writes it for an empty list. */
function readDescriptors(document: JsonObject, field: "layers" | "manifests"): Descriptor[] {
  const value = document[field];
  if (value === null) return [];
  if (!Array.isArray(value)) throw new DocumentFault(field, `expected an array of descriptors, got ${kindOf(value)}`);
  if (value.length > MANIFEST_DESCRIPTORS_MAX) {
    throw new DocumentFault(field, `has ${value.length} descriptors, at most ${MANIFEST_DESCRIPTORS_MAX} are taken`);
  }
  return value.map((item: unknown, index) => readDescriptor(item, `${field}[${index}]`));
}

/** Also refuses two sizes for one digest: one of them is a lie. */
function sumDistinct(descriptors: readonly Descriptor[]): number {
  const sizes = new Map<string, number>();
  let sum = 0;
  for (const { digest, sizeBytes } of descriptors) {
    const known = sizes.get(digest);
    if (known === sizeBytes) continue;
    if (known !== undefined) {
      throw new DocumentFault("layers", `${quoteValue(digest)} has two sizes, ${known} and ${sizeBytes} bytes`);
    }
    sizes.set(digest, sizeBytes);
    sum += sizeBytes;
  }
  if (!Number.isSafeInteger(sum)) throw new DocumentFault("layers", "the sizes add up to more than 2^53-1 bytes");
  return sum;
}

function requireSupportedType(type: string): void {
  if (isManifestMediaType(type)) return;
  const message = isSchema1MediaType(type)
    ? `docker schema 1 manifests (${type}) are not supported: push with a client that makes docker schema 2 or OCI manifests`
    : `manifest type ${quoteValue(type)} is not supported, use one of ${MANIFEST_MEDIA_TYPES.join(", ")}`;
  throw new RegistryError("manifest_unsupported_type", { message, detail: { mediaType: showValue(type) } });
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null;
}
