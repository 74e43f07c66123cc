/** Defaults as in Quay's reference, a sample from every area, and Berth's own where they differ. */
import { expect, test } from "bun:test";
import { loadConfig } from "./load.ts";
import type { Config } from "./schema.ts";

const defaults: Partial<Record<keyof Config, unknown>> = {
  PREFERRED_URL_SCHEME: "http",
  EXTERNAL_TLS_TERMINATION: false,
  SSL_PROTOCOLS: ["TLSv1.2", "TLSv1.3"],
  SSL_CIPHERS: undefined,
  SECRET_KEY: undefined,
  DATABASE_SECRET_KEY: undefined,
  REGISTRY_STATE: "normal",
  CORS_ORIGIN: "*",
  BROWSER_API_CALLS_XHR_ONLY: true,
  SESSION_COOKIE_SECURE: false,
  SESSION_COOKIE_NAME: "_csrf_token",
  FEATURE_PERMANENT_SESSIONS: true,
  SESSION_TIMEOUT: "31d",
  FRESH_LOGIN_TIMEOUT: "10m",
  DB_CONNECTION_ARGS: { threadlocals: true, autorollback: true },
  DB_CONNECTION_POOLING: true,
  DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: [],
  FEATURE_STORAGE_REPLICATION: false,
  STORAGE_REPLICATION_PROCESSING_SECONDS: 1200,
  MAXIMUM_LAYER_SIZE: "20G",
  CLEAN_BLOB_UPLOAD_FOLDER: true,
  BLOBUPLOAD_CLEANUP_FREQUENCY: 3600,
  BLOBUPLOAD_DELETION_DATE_THRESHOLD: 2880,
  PUSH_TEMP_TAG_EXPIRATION_SEC: 3600,
  BUILDLOGS_REDIS: undefined,
  USER_EVENTS_REDIS: undefined,
  DEFAULT_TAG_EXPIRATION: "2w",
  TAG_EXPIRATION_OPTIONS: ["0s", "1d", "1w", "2w", "4w"],
  FEATURE_CHANGE_TAG_EXPIRATION: true,
  LABELED_EXPIRATION_MINIMUM: "1h",
  LABELED_EXPIRATION_MAXIMUM: "104w",
  FEATURE_GENERAL_OCI_SUPPORT: true,
  FEATURE_EXTENDED_REPOSITORY_NAMES: true,
  FEATURE_LIBRARY_SUPPORT: true,
  LIBRARY_NAMESPACE: "library",
  CREATE_PRIVATE_REPO_ON_PUSH: true,
  CREATE_NAMESPACE_ON_PUSH: false,
  FEATURE_PUBLIC_CATALOG: false,
  V2_PAGINATION_SIZE: 1000,
  BLACKLIST_V2_SPEC: "<1.6.0",
  FEATURE_GARBAGE_COLLECTION: true,
  GARBAGE_COLLECTION_FREQUENCY: 30,
  EXPIRED_APP_SPECIFIC_TOKEN_GC: "1d",
  NAMESPACE_GC_QUEUE_NAME: "namespacegc",
  FEATURE_QUOTA_MANAGEMENT: false,
  DEFAULT_SYSTEM_REJECT_QUOTA_BYTES: 0,
  QUOTA_TOTAL_DELAY_SECONDS: 1800,
  QUOTA_BACKFILL_BATCH_SIZE: 100,
  AUTHENTICATION_TYPE: "Database",
  FEATURE_SUPER_USERS: true,
  GLOBAL_READONLY_SUPER_USERS: [],
  RESTRICTED_USERS_WHITELIST: null,
  FEATURE_USER_CREATION: true,
  FEATURE_ANONYMOUS_ACCESS: true,
  FEATURE_USER_INITIALIZE: false,
  LAST_ACCESSED_UPDATE_THRESHOLD_S: 60,
  APP_SPECIFIC_TOKEN_EXPIRATION: null,
  REGISTRY_JWT_AUTH_MAX_FRESH_S: 3660,
  INSTANCE_SERVICE_KEY_SERVICE: "quay",
  UNAPPROVED_SERVICE_KEY_TTL_SEC: 86_400,
  LDAP_URI: "ldap://localhost",
  LDAP_UID_ATTR: "uid",
  LDAP_FOLLOW_REFERRALS: true,
  JWT_AUTH_MAX_FRESH_S: 300,
  GITHUB_LOGIN_CONFIG: null,
  FEATURE_SECURITY_SCANNER: false,
  SECURITY_SCANNER_V4_ENDPOINT: null,
  SECURITY_SCANNER_V4_REINDEX_THRESHOLD: 300,
  FEATURE_REPO_MIRROR: false,
  REPO_MIRROR_INTERVAL: 30,
  REPO_MIRROR_TLS_VERIFY: true,
  LOGS_MODEL: "database",
  LOGS_MODEL_CONFIG: {},
  ACTION_LOG_ROTATION_THRESHOLD: "30d",
  ACTION_LOG_AUDIT_LOGINS: true,
  EXPORT_ACTION_LOGS_STORAGE_PATH: "exportedactionlogs",
  FEATURE_MAILING: true,
  MAIL_PORT: 587,
  MAIL_DEFAULT_SENDER: "admin@example.com",
  REGISTRY_TITLE: "Project Quay",
  AVATAR_KIND: "local",
  CONTACT_INFO: [],
  SEARCH_RESULTS_PER_PAGE: 10,
  DISKSPACE_HEALTH_THRESHOLD: 0.01,
  DISKSPACE_HEALTH_WARNING_THRESHOLD: 0.1,
  PROMETHEUS_NAMESPACE: "quay",
  GLOBAL_PROMETHEUS_STATS_FREQUENCY: 3600,
  FEATURE_BUILD_SUPPORT: true,
  SUCCESSIVE_TRIGGER_FAILURE_DISABLE_THRESHOLD: 100,
  ROBOTS_WHITELIST: [],
  ACTION_LOG_AUDIT_LOGIN_FAILURES: false,
  REPO_MIRROR_MAX_MANIFEST_LIST_SIZE: 10_485_760,
  MANIFESTS_ENDPOINT_READ_TIMEOUT: "5m",
  DISABLE_PUSHES: false,
};

/** Where Berth departs from Quay on purpose. */
const own: Partial<Record<keyof Config, unknown>> = {
  SERVER_HOSTNAME: undefined,
  FEATURE_LISTEN_IP_VERSION: "dual-stack",
  FEATURE_AUTO_PRUNE: true,
  FEATURE_IMMUTABLE_TAGS: true,
  FEATURE_SPARSE_INDEX: true,
  FEATURE_REFERRERS_API: true,
  IGNORE_UNKNOWN_MEDIATYPES: true,
  LOGGING_LEVEL: "INFO",
  PAGE_TOKEN_KEY: undefined,
  SUPER_USERS: ["admin"],
  DB_URI: "sqlite:////srv/berth data/berth.db",
  DISTRIBUTED_STORAGE_CONFIG: { default: ["LocalStorage", { storage_path: "/srv/berth data/blobs" }] },
  DISTRIBUTED_STORAGE_PREFERENCE: ["default"],
};

const { config, zeroConfig, warnings, tls, configDir } = loadConfig({ dataDir: "/srv/berth data", env: {} });

for (const [key, value] of Object.entries({ ...defaults, ...own })) {
  test(`${key} is ${JSON.stringify(value) ?? "not set"} by default`, () => {
    expect(Reflect.get(config, key)).toEqual(value);
  });
}

test("the embedded default needs no file and warns of nothing", () => {
  expect({ zeroConfig, warnings, tls, configDir }).toEqual({
    zeroConfig: true,
    warnings: [],
    tls: undefined,
    configDir: undefined,
  });
});

test("a config is frozen through and through", () => {
  expect(Object.isFrozen(config)).toBe(true);
  expect(Object.isFrozen(config.TAG_EXPIRATION_OPTIONS)).toBe(true);
  expect(Object.isFrozen(config.DISTRIBUTED_STORAGE_CONFIG.default?.[1])).toBe(true);
});

test("cosign, Helm and source images are among the allowed artifact types", () => {
  const types = config.ALLOWED_OCI_ARTIFACT_TYPES;
  expect(Object.keys(types)).toHaveLength(4);
  expect(types["application/vnd.oci.image.config.v1+json"]).toContain(
    "application/vnd.dev.cosign.simplesigning.v1+json",
  );
  expect(types["application/vnd.cncf.helm.config.v1+json"]).toContain(
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
  );
});
