/**
 * What this build does with Quay's keys. A key that is set but not acted on yet is named in one warning at start, so that
 * nobody relies on it; a value whose silent loss would be dangerous is refused. A later issue adds its keys to ACTED_ON,
 * one line each.
 */
import { isDeepStrictEqual } from "node:util";
import { isMysql, parseDatabaseUri } from "./db-uri.ts";
import type { ConfigProblem } from "./error.ts";
import { hostedKeys } from "./keys/hosted.ts";
import { redisKeys } from "./keys/redis.ts";
import { type Config, type ConfigKey, isConfigKey, parseOnce } from "./schema.ts";

const ACTED_ON: readonly ConfigKey[] = [
  "SERVER_HOSTNAME",
  "PREFERRED_URL_SCHEME",
  "EXTERNAL_TLS_TERMINATION",
  "SSL_PROTOCOLS",
  "SSL_CIPHERS",
  "FEATURE_LISTEN_IP_VERSION",
  "SECRET_KEY",
  "DATABASE_SECRET_KEY",
  "REGISTRY_STATE",
  "LOGGING_LEVEL",
  // Database and storage
  "DB_URI",
  "DB_CONNECTION_ARGS",
  "DB_OUTAGE_PULL_SECONDS",
  "DISTRIBUTED_STORAGE_CONFIG",
  "DISTRIBUTED_STORAGE_PREFERENCE",
  "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS",
  "DISTRIBUTED_STORAGE_VALIDATE_ENDTOEND",
  "FEATURE_STORAGE_REPLICATION",
  "FEATURE_PROXY_STORAGE",
  "STORAGE_REPLICATION_PROCESSING_SECONDS",
  "MAXIMUM_LAYER_SIZE",
  "PUSH_TEMP_TAG_EXPIRATION_SEC",
  "BLOBUPLOAD_CLEANUP_FREQUENCY",
  "BLOBUPLOAD_DELETION_DATE_THRESHOLD",
  "CLEAN_BLOB_UPLOAD_FOLDER",
  "FEATURE_SCRUB",
  "SCRUB_BYTES_PER_SECOND",
  "SCRUB_PASS_INTERVAL_SECONDS",
  "FEATURE_GARBAGE_COLLECTION",
  "FEATURE_REPOSITORY_GARBAGE_COLLECTION",
  "FEATURE_NAMESPACE_GARBAGE_COLLECTION",
  "GARBAGE_COLLECTION_FREQUENCY",
  "DEFAULT_NAMESPACE_AUTOPRUNE_POLICY",
  "FEATURE_QUOTA_MANAGEMENT",
  "FEATURE_EDIT_QUOTA",
  "FEATURE_VERIFY_QUOTA",
  "DEFAULT_SYSTEM_REJECT_QUOTA_BYTES",
  "QUOTA_BACKFILL",
  "QUOTA_BACKFILL_POLL_PERIOD",
  "QUOTA_BACKFILL_BATCH_SIZE",
  "QUOTA_TOTAL_DELAY_SECONDS",
  "QUOTA_INVALIDATE_TOTALS",
  // Tags and content
  "DEFAULT_TAG_EXPIRATION",
  "TAG_EXPIRATION_OPTIONS",
  "FEATURE_CHANGE_TAG_EXPIRATION",
  "LABELED_EXPIRATION_MINIMUM",
  "LABELED_EXPIRATION_MAXIMUM",
  "LABEL_KEY_RESERVED_PREFIXES",
  "PERMANENTLY_DELETE_TAGS",
  "RESET_CHILD_MANIFEST_EXPIRATION",
  "FEATURE_IMMUTABLE_TAGS",
  "FEATURE_IMMUTABLE_TAGS_CAN_EXPIRE",
  "FEATURE_AUTO_PRUNE",
  "FEATURE_GENERAL_OCI_SUPPORT",
  "FEATURE_HELM_OCI_SUPPORT",
  "ALLOWED_OCI_ARTIFACT_TYPES",
  "IGNORE_UNKNOWN_MEDIATYPES",
  "FEATURE_SPARSE_INDEX",
  "FEATURE_SPARSE_MANIFEST",
  "FEATURE_REFERRERS_API",
  // Repositories
  "FEATURE_EXTENDED_REPOSITORY_NAMES",
  "FEATURE_LIBRARY_SUPPORT",
  "LIBRARY_NAMESPACE",
  "CREATE_PRIVATE_REPO_ON_PUSH",
  "CREATE_NAMESPACE_ON_PUSH",
  "FEATURE_PUBLIC_CATALOG",
  "V2_PAGINATION_SIZE",
  "DISABLE_PUSHES",
  "SEARCH_RESULTS_PER_PAGE",
  "SEARCH_MAX_RESULT_PAGE_COUNT",
  "FEATURE_PARTIAL_USER_AUTOCOMPLETE",
  // Accounts
  "AUTHENTICATION_TYPE",
  "SUPER_USERS",
  "FEATURE_SUPER_USERS",
  "FEATURE_SUPERUSERS_FULL_ACCESS",
  "GLOBAL_READONLY_SUPER_USERS",
  "FEATURE_RESTRICTED_USERS",
  "RESTRICTED_USERS_WHITELIST",
  "FEATURE_ANONYMOUS_ACCESS",
  "FEATURE_USER_INITIALIZE",
  "FEATURE_USER_LAST_ACCESSED",
  "LAST_ACCESSED_UPDATE_THRESHOLD_S",
  "ROBOTS_DISALLOW",
  "ROBOTS_WHITELIST",
  "REGISTRY_JWT_AUTH_MAX_FRESH_S",
  "INSTANCE_SERVICE_KEY_SERVICE",
  "UNAPPROVED_SERVICE_KEY_TTL_SEC",
  "EXPIRED_SERVICE_KEY_TTL_SEC",
  "SERVICE_LOG_ACCOUNT_ID",
  "FEATURE_SUPERUSER_CONFIGDUMP",
  "FEATURE_REQUIRE_ENCRYPTED_BASIC_AUTH",
  "FEATURE_APP_SPECIFIC_TOKENS",
  "APP_SPECIFIC_TOKEN_EXPIRATION",
  "EXPIRED_APP_SPECIFIC_TOKEN_GC",
  "DIRECT_OAUTH_CLIENTID_WHITELIST",
  "LOCAL_OAUTH_HANDLER",
  "FEATURE_ASSIGN_OAUTH_TOKEN",
  "OAUTH_APPLICATION_MAXIMUM_TOKEN_COUNT",
  "FEATURE_PROGRAMMATIC_BOOTSTRAP",
  "BOOTSTRAP_TOKEN_OWNER",
  "BOOTSTRAP_TOKEN_PATH",
  "BOOTSTRAP_TOKEN_EXPIRATION",
  "BOOTSTRAP_TOKEN_SCOPE",
  "SSRF_ALLOWED_HOSTS",
  "FEATURE_SUPERUSERS_ORG_CREATION_ONLY",
  "FEATURE_REQUIRE_TEAM_INVITE",
  "FEATURE_ORG_SHARED_EMAIL",
  // Health and metrics
  "DISKSPACE_HEALTH_THRESHOLD",
  "DISKSPACE_HEALTH_WARNING_THRESHOLD",
  "PROMETHEUS_NAMESPACE",
  "GLOBAL_PROMETHEUS_STATS_FREQUENCY",
  "ENABLE_HEALTH_DEBUG_SECRET",
  // Sessions and sign-up
  "FEATURE_DIRECT_LOGIN",
  "FRESH_LOGIN_TIMEOUT",
  "SESSION_TIMEOUT",
  "FEATURE_PERMANENT_SESSIONS",
  "SESSION_COOKIE_NAME",
  "SESSION_COOKIE_SECURE",
  "SESSION_COOKIE_HTTPONLY",
  "SESSION_COOKIE_SAMESITE",
  "BROWSER_API_CALLS_XHR_ONLY",
  "CORS_ORIGIN",
  "PAGE_TOKEN_KEY",
  "FEATURE_USER_CREATION",
  "FEATURE_INVITE_ONLY_USER_CREATION",
  "FEATURE_BLACKLISTED_EMAILS",
  "BLACKLISTED_EMAIL_DOMAINS",
  "FEATURE_RECAPTCHA",
  "RECAPTCHA_SITE_KEY",
  "RECAPTCHA_SECRET_KEY",
  "RECAPTCHA_WHITELISTED_USERS",
  "RECAPTCHA_VERIFY_URL",
  "USER_RECOVERY_TOKEN_LIFETIME",
  "FEATURE_USER_RENAME",
  "FEATURE_USERNAME_CONFIRMATION",
  "FEATURE_USER_METADATA",
  "RESTRICTED_USER_INCLUDE_ROBOTS",
  "PUBLIC_NAMESPACES",
  // Action log
  "ACTION_LOG_AUDIT_LOGINS",
  "ACTION_LOG_AUDIT_LOGIN_FAILURES",
  "ACTION_LOG_AUDIT_PULL_FAILURES",
  "ACTION_LOG_AUDIT_PUSH_FAILURES",
  "ACTION_LOG_AUDIT_DELETE_FAILURES",
  "ACTION_LOG_MAX_PAGE",
  "ALLOW_PULLS_WITHOUT_STRICT_LOGGING",
  "ALLOW_WITHOUT_STRICT_LOGGING",
  "DISABLED_FOR_AUDIT_LOGS",
  "DISABLED_FOR_PULL_LOGS",
  "FEATURE_AGGREGATED_LOG_COUNT_RETRIEVAL",
  "FEATURE_LOG_EXPORT",
  "EXPORT_ACTION_LOGS_STORAGE_PATH",
  "EXPORT_ACTION_LOGS_SECONDS",
  "EXPORT_ACTION_LOGS_MAXIMUM_SECONDS",
  "EXPORT_ACTION_LOGS_MAXIMUM_QUERY_TIME_SECONDS",
  "EXPORT_ACTION_LOGS_WORKER_POLL_PERIOD",
  "FEATURE_ACTION_LOG_ROTATION",
  "ACTION_LOG_ARCHIVE_LOCATION",
  "ACTION_LOG_ARCHIVE_PATH",
  "ACTION_LOG_ROTATION_THRESHOLD",
  "ACTION_LOG_ROTATION_FREQUENCY",
  "MINIMUM_LOGS_AGE_FOR_ARCHIVE",
  // Mail
  "FEATURE_MAILING",
  "MAIL_SERVER",
  "MAIL_PORT",
  "MAIL_USE_TLS",
  "MAIL_USE_AUTH",
  "MAIL_USERNAME",
  "MAIL_PASSWORD",
  "MAIL_DEFAULT_SENDER",
  "MAIL_FAIL_SILENTLY",
  "REGISTRY_TITLE",
  // Proxies and rate limits
  "TRUSTED_PROXY_CIDR",
  "PROXY_COUNT",
  "FEATURE_RATE_LIMITS",
  "NON_RATE_LIMITED_NAMESPACES",
];

/** Knobs of machinery that Berth does not have and will not get, so that "not yet" would be untrue. */
const WITHOUT_MEANING_HERE: readonly ConfigKey[] = [
  "DATA_MODEL_CACHE_CONFIG",
  "DB_CONNECTION_POOLING",
  "DB_TRANSACTION_FACTORY",
  "FEATURE_PROXY_PROTOCOL",
  "GREENLET_TRACING",
  "INSTANCE_SERVICE_KEY_KID_LOCATION",
  "INSTANCE_SERVICE_KEY_LOCATION",
  // Queues are rows of one table under Quay's names, which metrics show; a job leaves it with its end.
  "NAMESPACE_GC_QUEUE_NAME",
  // The registry's size is counted when a superuser asks, and not from time to time.
  "QUOTA_REGISTRY_SIZE_POLL_PERIOD",
  "QUEUE_CLEANUP_FREQUENCY",
  "REPOSITORY_GC_QUEUE_NAME",
  "SETUP_COMPLETE",
  "STAGGER_WORKERS",
];

/** Keys that are ignored without a word: builds, the hosted service, Redis and the knobs above. */
const ACCEPTED_SILENTLY: ReadonlySet<string> = new Set([
  ...Object.keys(hostedKeys),
  ...Object.keys(redisKeys),
  ...WITHOUT_MEANING_HERE,
]);

const actedOn: ReadonlySet<string> = new Set(ACTED_ON);

/**
 * The keys that were given a value other than the default and that this build ignores, in the order of the file. An
 * OpenID provider counts as one, whatever its value.
 */
export function ignoredKeys(given: ReadonlyMap<string, unknown>): string[] {
  const defaults: Record<string, unknown> = parseOnce({});
  return [...given.keys()].filter((key) => {
    if (actedOn.has(key) || ACCEPTED_SILENTLY.has(key)) return false;
    return !isConfigKey(key) || !isDeepStrictEqual(given.get(key), defaults[key]);
  });
}

/** What an operator should hear about values that are right and do less here than in Quay: whole sentences. */
export function notices(config: Config): string[] {
  const found: string[] = [];
  if (config.FEATURE_PROXY_PROTOCOL) {
    found.push(
      "FEATURE_PROXY_PROTOCOL is on, but Berth speaks no PROXY protocol: turn it off in the load balancer too, let that " +
        "send X-Forwarded-For, and name it in TRUSTED_PROXY_CIDR",
    );
  }
  if (config.PROXY_COUNT !== undefined && config.PROXY_COUNT > 0 && config.TRUSTED_PROXY_CIDR === undefined) {
    found.push("PROXY_COUNT does nothing without TRUSTED_PROXY_CIDR, the addresses of those proxies");
  }
  if (config.FEATURE_PROGRAMMATIC_BOOTSTRAP && !(config.BOOTSTRAP_TOKEN_OWNER && config.BOOTSTRAP_TOKEN_PATH)) {
    found.push("FEATURE_PROGRAMMATIC_BOOTSTRAP makes no token without BOOTSTRAP_TOKEN_OWNER and BOOTSTRAP_TOKEN_PATH");
  }
  const engines = Object.entries(config.DISTRIBUTED_STORAGE_CONFIG);
  const local = engines.filter(([, [driver]]) => driver === "LocalStorage").map(([id]) => id);
  if (config.FEATURE_STORAGE_REPLICATION && engines.length > 1 && local.length > 0) {
    found.push(
      `FEATURE_STORAGE_REPLICATION with LocalStorage (${local.join(", ")}) works only where every instance sees that same ` +
        "directory: on one machine, or on a shared file system",
    );
  }
  return found;
}

/** The engines of DISTRIBUTED_STORAGE_CONFIG that `storage/open.ts` can open. */
const OWN_DRIVERS: readonly string[] = [
  "AzureStorage",
  "CloudFrontedS3Storage",
  "GoogleCloudStorage",
  "LocalStorage",
  "RHOCSStorage",
  "RadosGWStorage",
  "S3Storage",
  "SwiftStorage",
];

/** Values that are right for Quay and that this build cannot honour. They stay errors under IGNORE_VALIDATION too. */
export function refusals(config: Config): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  if (config.AUTHENTICATION_TYPE !== "Database" && config.AUTHENTICATION_TYPE !== "AppToken") {
    const message = `AUTHENTICATION_TYPE "${config.AUTHENTICATION_TYPE}" is not in this build yet; Database and AppToken are`;
    problems.push({ key: "AUTHENTICATION_TYPE", message });
  }
  for (const [id, [driver]] of Object.entries(config.DISTRIBUTED_STORAGE_CONFIG)) {
    if (OWN_DRIVERS.includes(driver)) continue;
    const key = `DISTRIBUTED_STORAGE_CONFIG.${id}`;
    const message = `${key} uses ${driver}, which is not in this build yet; ${OWN_DRIVERS.join(", ")} are`;
    problems.push({ key, message });
  }
  if (isMysql(parseDatabaseUri(config.DB_URI)?.scheme ?? "")) {
    const message =
      "DB_URI names a MySQL database; Berth speaks SQLite and PostgreSQL, and the README says how to migrate";
    problems.push({ key: "DB_URI", message });
  }
  return problems;
}
