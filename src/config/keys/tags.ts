/** Tags, the time machine, artifact types and how repositories come about: section 5 of the reference. */
import { z } from "zod";
import { bool, duration, durationText, listOf, nullableTexts, number, optionalText, text, texts } from "../fields.ts";

/** Layer types that may go with a config type; cosign, SBOM and policy tools, Helm and source images as in Quay 3.9. */
const ARTIFACT_TYPES: Record<string, string[]> = {
  "application/vnd.oci.image.config.v1+json": [
    "application/vnd.dev.cosign.simplesigning.v1+json",
    "application/vnd.dsse.envelope.v1+json",
    "text/spdx",
    "text/spdx+xml",
    "text/spdx+json",
    "application/vnd.syft+json",
    "application/vnd.cyclonedx",
    "application/vnd.cyclonedx+xml",
    "application/vnd.cyclonedx+json",
    "application/vnd.in-toto+json",
  ],
  "application/vnd.cncf.helm.config.v1+json": [
    "application/tar+gzip",
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
  ],
  "application/vnd.oci.source.image.config.v1+json": ["application/vnd.oci.image.layer.v1.tar+gzip"],
  "application/vnd.unknown.config.v1+json": [
    "application/vnd.cncf.openpolicyagent.policy.layer.v1+rego",
    "application/vnd.cncf.openpolicyagent.data.layer.v1+json",
  ],
};

export const tagKeys = {
  DEFAULT_TAG_EXPIRATION: duration("2w"),
  TAG_EXPIRATION_OPTIONS: listOf(durationText()).default(["0s", "1d", "1w", "2w", "4w"]),
  FEATURE_CHANGE_TAG_EXPIRATION: bool(true),
  PERMANENTLY_DELETE_TAGS: bool(false),
  RESET_CHILD_MANIFEST_EXPIRATION: bool(false),
  LABELED_EXPIRATION_MINIMUM: duration("1h"),
  LABELED_EXPIRATION_MAXIMUM: duration("104w"),
  /** In addition to the twelve that are always reserved. */
  LABEL_KEY_RESERVED_PREFIXES: texts(),
  FEATURE_GENERAL_OCI_SUPPORT: bool(true),
  FEATURE_HELM_OCI_SUPPORT: bool(true),
  ALLOWED_OCI_ARTIFACT_TYPES: z
    .record(z.string(), listOf(z.string({ error: "must be a media type" })), {
      error: "must be a block of config media types, each with a list of layer media types",
    })
    .default(ARTIFACT_TYPES),
  /**
   * Quay: false. Berth: true, because an OCI 1.1 registry takes every artifact type; false brings Quay's filter by
   * ALLOWED_OCI_ARTIFACT_TYPES back.
   */
  IGNORE_UNKNOWN_MEDIATYPES: bool(true),
  OCI_NAMESPACE_WHITELIST: nullableTexts(),
  V22_NAMESPACE_BLACKLIST: texts(),
  FEATURE_EXTENDED_REPOSITORY_NAMES: bool(true),
  FEATURE_LIBRARY_SUPPORT: bool(true),
  LIBRARY_NAMESPACE: text("library"),
  CREATE_PRIVATE_REPO_ON_PUSH: bool(true),
  CREATE_NAMESPACE_ON_PUSH: bool(false),
  FEATURE_PUBLIC_CATALOG: bool(false),
  /** Quay: 50. Berth: 1000, because scripts made for other registries do not follow Link. */
  V2_PAGINATION_SIZE: number(1000, 1),
  FEATURE_ADVERTISE_V2: bool(true),
  BLACKLIST_V2_SPEC: text("<1.6.0"),
  FEATURE_RESTRICTED_V1_PUSH: bool(false),
  V1_PUSH_WHITELIST: texts(),
  V1_ONLY_DOMAIN: z.unknown().optional(),
  PUBLIC_NAMESPACES: texts(),
  FEATURE_PROXY_CACHE: bool(false),
  FEATURE_SIGNING: bool(false),
  TUF_SERVER: optionalText(),
  TUF_GUN_PREFIX: optionalText(),
};
