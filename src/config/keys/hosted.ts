/**
 * Builds, the hosted service, and switches of Quay's own machinery: section 13 of the reference, and keys that Quay's tools
 * write into a config.yaml without any effect on its users. Accepted and ignored, without a warning.
 */
import { z } from "zod";
import { block, bool, nullableCount, nullableText, requiredText, text, url } from "../fields.ts";

const maybeAnything = z.unknown().optional();
const anything = () => maybeAnything;

export const hostedKeys = {
  FEATURE_BUILD_SUPPORT: bool(true),
  FEATURE_GITHUB_BUILD: bool(false),
  FEATURE_BITBUCKET_BUILD: bool(false),
  FEATURE_GITLAB_BUILD: bool(false),
  GITHUB_TRIGGER_CONFIG: block({
    GITHUB_ENDPOINT: url().optional(),
    API_ENDPOINT: url().optional(),
    CLIENT_ID: requiredText(),
    CLIENT_SECRET: requiredText(),
  })
    .nullable()
    .default(null),
  BITBUCKET_TRIGGER_CONFIG: block({ CONSUMER_KEY: requiredText(), CONSUMER_SECRET: requiredText() })
    .nullable()
    .default(null),
  GITLAB_TRIGGER_CONFIG: block({
    GITLAB_ENDPOINT: url().optional(),
    CLIENT_ID: requiredText(),
    CLIENT_SECRET: requiredText(),
  })
    .nullable()
    .default(null),
  BUILD_MANAGER: anything(),
  FEATURE_READER_BUILD_LOGS: bool(false),
  DEFAULT_NAMESPACE_MAXIMUM_BUILD_COUNT: nullableCount(),
  BILLED_NAMESPACE_MAXIMUM_BUILD_COUNT: nullableCount(),
  THREAT_NAMESPACE_MAXIMUM_BUILD_COUNT: nullableCount(),
  SUCCESSIVE_TRIGGER_FAILURE_DISABLE_THRESHOLD: nullableCount(100),
  SUCCESSIVE_TRIGGER_INTERNAL_ERROR_DISABLE_THRESHOLD: nullableCount(5),
  DOCKERFILE_BUILD_QUEUE_NAME: text("dockerfilebuild"),
  FEATURE_BILLING: bool(false),
  BILLING_TYPE: text("FakeStripe"),
  ANALYTICS_TYPE: text("FakeAnalytics"),
  FEATURE_EXPORT_COMPLIANCE: bool(false),
  EXPORT_COMPLIANCE_ENDPOINT: nullableText(),
  FEATURE_ENTITLEMENT_RECONCILIATION: bool(false),
  ENTITLEMENT_RECONCILIATION_USER_ENDPOINT: nullableText(),
  ENTITLEMENT_RECONCILIATION_MARKETPLACE_ENDPOINT: nullableText(),
  ENTITLEMENT_RECONCILIATION_USER: nullableText(),
  ENTITLEMENT_RECONCILIATION_PASSWORD: nullableText(),
  FEATURE_RH_MARKETPLACE: bool(false),
  USE_CDN: bool(false),
  STATIC_SITE_BUCKET: nullableText(),
  V3_UPGRADE_MODE: anything(),
  FEATURE_MANIFEST_SIZE_BACKFILL: bool(true),
  MIXPANEL_KEY: anything(),
  MARKETO_MUNCHKIN_ID: anything(),
  STRIPE_SECRET_KEY: anything(),
  STRIPE_PUBLISHABLE_KEY: anything(),
  STRIPE_WEBHOOK_SECRET: anything(),
  GOOGLE_ANALYTICS_KEY: anything(),
  CHANNEL_COLORS: anything(),
  // Written by Quay's operator and config tool, or inherited from its web framework.
  CREATE_REPOSITORY_ON_PUSH_PUBLIC: bool(false),
  CDN_SPECIFIC_NAMESPACES: anything(),
  CHUNK_CLEANUP_QUEUE_NAME: text("chunk_cleanup"),
  DEBUG: anything(),
  EXPORT_ACTION_LOGS_QUEUE_NAME: text("exportactionlogs"),
  FEATURE_APP_REGISTRY: bool(false),
  FEATURE_READONLY_APP_REGISTRY: bool(false),
  JSONIFY_PRETTYPRINT_REGULAR: anything(),
  JWTPROXY_AUDIENCE: anything(),
  JWTPROXY_SIGNER: anything(),
  QUEUE_METRICS_TYPE: anything(),
  REPLICATION_QUEUE_NAME: text("imagestoragereplication"),
  SEND_FILE_MAX_AGE_DEFAULT: anything(),
  TESTING: anything(),
};
