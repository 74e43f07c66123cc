/**
 * What versions after 3.9 added and no other file of this folder holds: section 15 of the reference. Berth follows them
 * where they help its users.
 */
import { autoprunePolicy } from "../autoprune.ts";
import {
  bool,
  duration,
  minutes,
  nullableText,
  openBlock,
  optionalCount,
  optionalSeconds,
  optionalText,
  seconds,
  text,
  texts,
} from "../fields.ts";

export const laterKeys = {
  /** Quay: false. Berth: true, because nothing is pruned before somebody makes a policy. */
  FEATURE_AUTO_PRUNE: bool(true),
  DEFAULT_NAMESPACE_AUTOPRUNE_POLICY: autoprunePolicy.nullable().default(null),
  NOTIFICATION_TASK_RUN_MINIMUM_INTERVAL_MINUTES: minutes(5000),
  FEATURE_IMAGE_EXPIRY_TRIGGER: bool(false),
  /** Quay: false. Berth: true, because no tag is immutable before somebody makes it so. */
  FEATURE_IMMUTABLE_TAGS: bool(true),
  FEATURE_IMMUTABLE_TAGS_CAN_EXPIRE: bool(false),
  ROBOTS_DISALLOW: bool(false),
  ROBOTS_WHITELIST: texts(),
  /** Quay: off in some versions. Berth: on, it is part of OCI 1.1. */
  FEATURE_REFERRERS_API: bool(true),
  FEATURE_MANIFEST_SUBJECT_BACKFILL: bool(true),
  /** Quay: false. Berth: true, the current draft of the specification allows an index before its manifests. */
  FEATURE_SPARSE_INDEX: bool(true),
  /** Berth's own: also takes an image before its blobs. Off, because a push that lost a layer should not look complete. */
  FEATURE_SPARSE_MANIFEST: bool(false),
  FEATURE_PROGRAMMATIC_BOOTSTRAP: bool(false),
  BOOTSTRAP_TOKEN_OWNER: nullableText(),
  BOOTSTRAP_TOKEN_PATH: nullableText(),
  BOOTSTRAP_TOKEN_EXPIRATION: seconds(3600),
  BOOTSTRAP_TOKEN_SCOPE: optionalText(),
  PROGRAMMATIC_TOKEN_PATH: nullableText(),
  PROGRAMMATIC_TOKEN_K8S_SECRET: nullableText(),
  PROGRAMMATIC_TOKEN_K8S_KEY: nullableText(),
  PROGRAMMATIC_TOKEN_K8S_NAMESPACE: nullableText(),
  FEATURE_ASSIGN_OAUTH_TOKEN: bool(true),
  OAUTH_APPLICATION_MAXIMUM_TOKEN_COUNT: optionalCount(),
  FEATURE_SUPERUSER_CONFIGDUMP: bool(false),
  FOOTER_LINKS: openBlock().optional(),
  DISABLE_ANGULAR_UI: bool(false),
  DEFAULT_UI: text("react"),
  FEATURE_UI_MODELCARD: bool(false),
  UI_MODELCARD_ARTIFACT_TYPE: optionalText(),
  UI_MODELCARD_ANNOTATION: openBlock().optional(),
  UI_MODELCARD_LAYER_ANNOTATION: openBlock().optional(),
  FEATURE_UI_DELAY_AFTER_WRITE: bool(false),
  UI_DELAY_AFTER_WRITE_SECONDS: optionalSeconds(),
  DISABLE_PUSHES: bool(false),
  FEATURE_OTEL_TRACING: bool(false),
  OTEL_CONFIG: openBlock().optional(),
  OTEL_TRACING_EXCLUDED_URLS: optionalText(),
  TRACKED_NAMESPACES: texts(),
  MANIFESTS_ENDPOINT_READ_TIMEOUT: duration("5m"),
  FEATURE_ORG_SHARED_EMAIL: bool(false),
  FEATURE_PROXY_CACHE_BLOB_DOWNLOAD: bool(true),
  FEATURE_USER_EVENTS: bool(true),
};
