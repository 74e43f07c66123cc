import { describe, expect, test } from "bun:test";
import { checkKeys } from "./check-keys.ts";

const check = (given: Record<string, unknown>) => checkKeys(new Map(Object.entries(given)));
const messages = (given: Record<string, unknown>) => check(given).problems.map((problem) => problem.message);

describe("a wrong value is named with its key and what would be right", () => {
  const s3 = (args: Record<string, unknown>) => ({ DISTRIBUTED_STORAGE_CONFIG: { s3: ["S3Storage", args] } });
  const cases: [name: string, given: Record<string, unknown>, message: string][] = [
    ["boolean", { FEATURE_REPO_MIRROR: "maybe" }, 'FEATURE_REPO_MIRROR must be true or false. It is "maybe".'],
    [
      "boolean given as text",
      { FEATURE_REPO_MIRROR: "true" },
      'FEATURE_REPO_MIRROR must be true or false. It is "true".',
    ],
    [
      "boolean left empty",
      { FEATURE_ANONYMOUS_ACCESS: null },
      "FEATURE_ANONYMOUS_ACCESS must be true or false. It is empty.",
    ],
    ["choice", { REGISTRY_STATE: "frozen" }, 'REGISTRY_STATE must be one of normal, readonly. It is "frozen".'],
    [
      "seconds",
      { PUSH_TEMP_TAG_EXPIRATION_SEC: -1 },
      "PUSH_TEMP_TAG_EXPIRATION_SEC must be a whole number of seconds from 0 up. It is -1.",
    ],
    [
      "fraction of a second",
      { QUOTA_TOTAL_DELAY_SECONDS: 1.5 },
      "QUOTA_TOTAL_DELAY_SECONDS must be a whole number of seconds from 0 to 1209600. It is 1.5.",
    ],
    [
      "a rest longer than a timer can be",
      { GARBAGE_COLLECTION_FREQUENCY: 2_592_000 },
      "GARBAGE_COLLECTION_FREQUENCY must be a whole number of seconds from 1 to 1209600. It is 2592000.",
    ],
    ["number as text", { V2_PAGINATION_SIZE: "50" }, 'V2_PAGINATION_SIZE must be a number from 1 up. It is "50".'],
    ["share", { DISKSPACE_HEALTH_THRESHOLD: 2 }, "DISKSPACE_HEALTH_THRESHOLD must be a number from 0 to 1. It is 2."],
    [
      "network",
      { TRUSTED_PROXY_CIDR: "10.0.0.1/8" },
      'TRUSTED_PROXY_CIDR must be a network such as 10.0.0.0/8 or 2001:db8::/32, or a list of them. It is "10.0.0.1/8".',
    ],
    ["port", { MAIL_PORT: 70_000 }, "MAIL_PORT must be a port from 1 to 65535. It is 70000."],
    ["text", { LIBRARY_NAMESPACE: 7 }, "LIBRARY_NAMESPACE must be text; put the value in quotes. It is 7."],
    [
      "secret",
      { DATABASE_SECRET_KEY: 1234567 },
      "DATABASE_SECRET_KEY must be text; put the value in quotes. It is ***.",
    ],
    ["empty secret", { SECRET_KEY: "" }, "SECRET_KEY must not be empty. It is ***."],
    ["list", { SUPER_USERS: "admin" }, 'SUPER_USERS must be a list. It is "admin".'],
    ["item of a list", { SUPER_USERS: ["admin", 5] }, "SUPER_USERS.1 must be text; put the value in quotes. It is 5."],
    [
      "duration",
      { DEFAULT_TAG_EXPIRATION: "2 weeks" },
      'DEFAULT_TAG_EXPIRATION must have the regex pattern ^[0-9]+(w|m|d|h|s)$, such as 2w or 30m. It is "2 weeks".',
    ],
    [
      "duration without unit",
      { SESSION_TIMEOUT: 600 },
      "SESSION_TIMEOUT must have the regex pattern ^[0-9]+(w|m|d|h|s)$, such as 2w or 30m. It is 600.",
    ],
    [
      "endless duration",
      { SESSION_TIMEOUT: "99999999999999w" },
      'SESSION_TIMEOUT must have the regex pattern ^[0-9]+(w|m|d|h|s)$, such as 2w or 30m. It is "99999999999999w".',
    ],
    ["size", { MAXIMUM_LAYER_SIZE: "lots" }, 'MAXIMUM_LAYER_SIZE must be a size such as 20G or 500M. It is "lots".'],
    [
      "host with scheme",
      { SERVER_HOSTNAME: "https://quay.example.com" },
      'SERVER_HOSTNAME must be of type Hostname: a host with an optional port and no scheme, such as registry.example.com:8443. It is "https://quay.example.com".',
    ],
    [
      "host with a port too large",
      { SERVER_HOSTNAME: "quay:99999" },
      'SERVER_HOSTNAME must be of type Hostname: a host with an optional port and no scheme, such as registry.example.com:8443. It is "quay:99999".',
    ],
    [
      "address of a service",
      { SECURITY_SCANNER_V4_ENDPOINT: "clair:6060" },
      'SECURITY_SCANNER_V4_ENDPOINT must be of type URL: http://… or https://…. It is "clair:6060".',
    ],
    [
      "LDAP filter",
      { LDAP_USER_FILTER: "uid=x" },
      'LDAP_USER_FILTER must be an LDAP filter in parentheses, such as (memberOf=cn=staff,dc=example,dc=com). It is "uid=x".',
    ],
    ["block", { LOGS_MODEL_CONFIG: [] }, "LOGS_MODEL_CONFIG must be a block of keys and values. It is a list."],
    [
      "block pasted as text",
      { LOGS_MODEL_CONFIG: "{secret_key: hush}" },
      "LOGS_MODEL_CONFIG must be a block of keys and values. It is text.",
    ],
    [
      "sub-key",
      { DB_CONNECTION_ARGS: { sslmode: "on" } },
      'DB_CONNECTION_ARGS.sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full. It is "on".',
    ],
    [
      "secret sub-key",
      { BUILDLOGS_REDIS: { host: "r", password: 42 } },
      "BUILDLOGS_REDIS.password must be text; put the value in quotes. It is ***.",
    ],
    ["missing sub-key", { BUILDLOGS_REDIS: {} }, "BUILDLOGS_REDIS.host is required"],
    [
      "deep sub-key",
      { LOGS_MODEL_CONFIG: { splunk_config: { url_scheme: "ftp" } } },
      'LOGS_MODEL_CONFIG.splunk_config.url_scheme must be one of http, https. It is "ftp".',
    ],
    ...["../x", "a/../b", "/", "", "uploads/x", "SHA256", "a//b", "a b"].map(
      (path): [string, Record<string, unknown>, string] => [
        `the folder "${path}"`,
        { EXPORT_ACTION_LOGS_STORAGE_PATH: path },
        `EXPORT_ACTION_LOGS_STORAGE_PATH must be a folder in the blob store such as archive/logs, in letters, digits, dots, dashes and underscores. It is "${path}".`,
      ],
    ),
    [
      "database URI",
      { DB_URI: "postgres//u:hush@h/db" },
      'DB_URI must be postgresql://user:password@host:5432/database, sqlite:///relative/path or sqlite:////absolute/path. It is "postgres//u:***@h/db".',
    ],
    [
      "in-memory database",
      { DB_URI: "sqlite:///:memory:" },
      'DB_URI must be postgresql://user:password@host:5432/database, sqlite:///relative/path or sqlite:////absolute/path. It is "sqlite:///:memory:".',
    ],
    [
      "no storage",
      { DISTRIBUTED_STORAGE_CONFIG: {} },
      "DISTRIBUTED_STORAGE_CONFIG must contain at least one storage location. It is a block.",
    ],
    [
      "storage without a driver",
      { DISTRIBUTED_STORAGE_CONFIG: { a: { storage_path: "/x" } } },
      "DISTRIBUTED_STORAGE_CONFIG.a must be a list of two: a driver and its arguments, such as [LocalStorage, {storage_path: /blobs}]. It is a block.",
    ],
    ["storage argument missing", s3({ storage_path: "/" }), "DISTRIBUTED_STORAGE_CONFIG.s3.s3_bucket is required"],
    [
      "storage secret of a wrong type",
      s3({ storage_path: "/", s3_bucket: "b", s3_secret_key: 1 }),
      "DISTRIBUTED_STORAGE_CONFIG.s3.s3_secret_key must be text; put the value in quotes. It is ***.",
    ],
    [
      "OpenID server",
      { AZURE_LOGIN_CONFIG: { OIDC_SERVER: "https://login.example.com", CLIENT_ID: "i", SERVICE_NAME: "Azure" } },
      'AZURE_LOGIN_CONFIG.OIDC_SERVER must end with a trailing /. It is "https://login.example.com".',
    ],
    [
      "OpenID without TLS",
      { KC_LOGIN_CONFIG: { OIDC_SERVER: "http://kc/", CLIENT_ID: "i", SERVICE_NAME: "KC" } },
      'KC_LOGIN_CONFIG.OIDC_SERVER must use https, unless DEBUGGING is true. It is "http://kc/".',
    ],
    [
      "contact",
      { CONTACT_INFO: ["call me"] },
      'CONTACT_INFO.0 must be a link that begins with mailto:, tel:, irc:// or https://. It is "call me".',
    ],
    [
      "metric prefix",
      { PROMETHEUS_NAMESPACE: "a-b" },
      'PROMETHEUS_NAMESPACE must be a metric prefix of letters, digits and underscores, such as quay. It is "a-b".',
    ],
  ];
  for (const [name, given, message] of cases) test(name, () => expect(messages(given)).toEqual([message]));

  test("an unknown storage driver lists the known ones", () => {
    const [message] = messages({ DISTRIBUTED_STORAGE_CONFIG: { a: ["FloppyStorage", {}] } });
    expect(message).toStartWith(
      "DISTRIBUTED_STORAGE_CONFIG.a must be a valid storage type: one of LocalStorage, S3Storage,",
    );
    expect(message).toEndWith('It is "FloppyStorage".');
  });

  test("everything that is wrong is told at once", () => {
    expect(messages({ REGISTRY_STATE: 1, FEATURE_FIPS: 2, MAIL_PORT: 0, FEATURE_UI_V2: true })).toHaveLength(3);
  });
});

describe("values that Quay accepts are accepted", () => {
  const driver = (name: string, args: Record<string, unknown>) => ({ DISTRIBUTED_STORAGE_CONFIG: { x: [name, args] } });
  const bucket = { storage_path: "/", access_key: "a", secret_key: "s", bucket_name: "b" };
  const s3 = { storage_path: "/", s3_bucket: "b" };
  const cases: Record<string, unknown>[] = [
    { SERVER_HOSTNAME: "[2001:db8::1]:8443" },
    { SERVER_HOSTNAME: "quay-server.example.com:443" },
    { EXPIRED_APP_SPECIFIC_TOKEN_GC: null },
    { IP_DATA_API_KEY: null },
    { MAIL_PASSWORD: null },
    { DB_URI: "mysql+pymysql://u:p@h/quay" },
    {
      DB_CONNECTION_ARGS: {
        max_connections: 20,
        timeout: 10,
        stale_timeout: 300,
        sslmode: "verify-full",
        sslrootcert: "ca.pem",
      },
    },
    { LDAP_BASE_DN: ["o=acme", "dc=example"], LDAP_USER_FILTER: "(memberof=cn=dev)" },
    {
      OKTA_LOGIN_CONFIG: {
        OIDC_SERVER: "https://o/",
        CLIENT_ID: "i",
        CLIENT_SECRET: "s",
        SERVICE_NAME: "Okta",
        LOGIN_SCOPES: ["openid"],
      },
    },
    { HEALTH_CHECKER: ["RDSAwareHealthCheck", { region: "us-east-1" }] },
    driver("RadosGWStorage", { ...bucket, hostname: "h", is_secure: true, port: 443 }),
    driver("RHOCSStorage", { ...bucket, hostname: "h", is_secure: false }),
    driver("GoogleCloudStorage", bucket),
    driver("AzureStorage", { azure_container: "c", storage_path: "/", azure_account_name: "n", sas_token: "t" }),
    driver("SwiftStorage", {
      swift_container: "c",
      storage_path: "/",
      auth_url: "http://s",
      swift_user: "u",
      swift_password: "p",
      auth_version: "3",
    }),
    driver("CloudFrontedS3Storage", {
      ...s3,
      s3_region: "r",
      cloudfront_distribution_domain: "d",
      cloudfront_key_id: "k",
      cloudfront_privatekey_filename: "f",
    }),
    driver("CloudFlareStorage", { ...s3, s3_region: "r", cloudflare_domain: "d", cloudflare_privatekey_filename: "f" }),
    driver("MultiCDNStorage", {
      storage_config: {},
      providers: { a: ["X", {}] },
      default_provider: "a",
      rules: [{ target: "a" }],
    }),
  ];
  for (const given of cases) {
    test(JSON.stringify(given).slice(0, 90), () => {
      const { problems, warnings } = check(given);
      expect({ problems, warnings }).toEqual({ problems: [], warnings: [] });
    });
  }

  for (const [word, value] of [
    ["yes", true],
    ["On", true],
    ["no", false],
    ["OFF", false],
  ] as const) {
    test(`plain ${word} is the boolean ${value}, as in YAML 1.1`, () => {
      expect(check({ FEATURE_REPO_MIRROR: word }).values.get("FEATURE_REPO_MIRROR")).toBe(value);
    });
  }

  test("a key without default that is left empty counts as not set", () => {
    expect(check({ SERVER_HOSTNAME: null }).values.has("SERVER_HOSTNAME")).toBe(false);
  });
});

describe("unknown names", () => {
  const cases: [name: string, given: Record<string, unknown>, warning: string][] = [
    [
      "a letter is missing",
      { FEATURE_QUOTA_MANAGMENT: true },
      "FEATURE_QUOTA_MANAGMENT is not a key that Quay or Berth knows and is ignored; did you mean FEATURE_QUOTA_MANAGEMENT?",
    ],
    [
      "letters are swapped",
      { SUPER_USRES: [] },
      "SUPER_USRES is not a key that Quay or Berth knows and is ignored; did you mean SUPER_USERS?",
    ],
    [
      "small letters",
      { db_uri: "x" },
      "db_uri is not a key that Quay or Berth knows and is ignored; did you mean DB_URI?",
    ],
    ["nothing is near", { COFFEE_MACHINE: 1 }, "COFFEE_MACHINE is not a key that Quay or Berth knows and is ignored"],
    [
      "LDAP has no log-in block",
      { LDAP_LOGIN_CONFIG: {} },
      "LDAP_LOGIN_CONFIG is not a key that Quay or Berth knows and is ignored",
    ],
    [
      "an object's own property",
      { constructor: 1 },
      "constructor is not a key that Quay or Berth knows and is ignored",
    ],
    [
      "a sub-key",
      { DB_CONNECTION_ARGS: { sslmod: "verify-full" } },
      "DB_CONNECTION_ARGS.sslmod is not a key that Quay or Berth knows and is ignored; did you mean sslmode?",
    ],
    [
      "a deep sub-key",
      { LOGS_MODEL_CONFIG: { splunk_config: { hots: "x" } } },
      "LOGS_MODEL_CONFIG.splunk_config.hots is not a key that Quay or Berth knows and is ignored; did you mean host?",
    ],
    [
      "a storage argument",
      { DISTRIBUTED_STORAGE_CONFIG: { a: ["LocalStorage", { storage_path: "/x", storage_paht: "/y" }] } },
      "DISTRIBUTED_STORAGE_CONFIG.a.storage_paht is not a key that Quay or Berth knows and is ignored; did you mean storage_path?",
    ],
  ];
  for (const [name, given, warning] of cases) {
    test(name, () => {
      const { problems, warnings } = check(given);
      expect(problems).toEqual([]);
      expect(warnings.map((text) => (name.startsWith("LDAP") ? text.split(";")[0] : text))).toEqual([warning]);
    });
  }
});
