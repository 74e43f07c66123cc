import { expect, test } from "bun:test";
import { ConfigError, loadConfig } from "./load.ts";

const local = ["LocalStorage", { storage_path: "/a" }];
const store = { DISTRIBUTED_STORAGE_CONFIG: { a: local } };
const swift = {
  storage_path: "/",
  swift_container: "c",
  auth_url: "https://s",
  swift_user: "u",
  swift_password: "p",
  auth_version: 3,
};

/** Each set of keys is right key by key; the problem, if any, is between them. Refusals of this build are left out. */
const cases: [name: string, given: Record<string, unknown>, problems: string[]][] = [
  ["nothing set", {}, []],
  [
    "no way to log in",
    { FEATURE_DIRECT_LOGIN: false },
    [
      "At least one of FEATURE_DIRECT_LOGIN,FEATURE_GITHUB_LOGIN,FEATURE_GOOGLE_LOGIN,<ID>_LOGIN_CONFIG must be enabled",
    ],
  ],
  [
    "an OpenID provider is a way to log in",
    { FEATURE_DIRECT_LOGIN: false, KC_LOGIN_CONFIG: { OIDC_SERVER: "https://k/", CLIENT_ID: "i", SERVICE_NAME: "K" } },
    [],
  ],
  [
    "invitations without sign-up",
    { FEATURE_INVITE_ONLY_USER_CREATION: true, FEATURE_USER_CREATION: false },
    ["INVITE_USER_ONLY_CREATION requires FEATURE_USER_CREATION to be enabled"],
  ],
  ["log rotation without a place", { FEATURE_ACTION_LOG_ROTATION: true }, ["ACTION_LOG_ARCHIVE_LOCATION is required"]],
  [
    "log rotation to a place that is not there",
    { ...store, FEATURE_ACTION_LOG_ROTATION: true, ACTION_LOG_ARCHIVE_LOCATION: "b" },
    ['ACTION_LOG_ARCHIVE_LOCATION must be in DISTRIBUTED_STORAGE_CONFIG. It names "b"; there is a.'],
  ],
  ["log rotation", { ...store, FEATURE_ACTION_LOG_ROTATION: true, ACTION_LOG_ARCHIVE_LOCATION: "a" }, []],
  [
    "app tokens alone",
    { AUTHENTICATION_TYPE: "AppToken", FEATURE_APP_SPECIFIC_TOKENS: false },
    [
      "FEATURE_APP_SPECIFIC_TOKENS must be enabled if AUTHENTICATION_TYPE is AppToken",
      "FEATURE_DIRECT_LOGIN must be disabled if AUTHENTICATION_TYPE is AppToken",
    ],
  ],
  ["app tokens as they should be", { AUTHENTICATION_TYPE: "AppToken", FEATURE_DIRECT_LOGIN: false }, []],
  [
    "a preferred store that is not there",
    { ...store, DISTRIBUTED_STORAGE_PREFERENCE: ["a", "b"] },
    ['DISTRIBUTED_STORAGE_PREFERENCE must only name ids of DISTRIBUTED_STORAGE_CONFIG. It names "b"; there is a.'],
  ],
  [
    "a default location that is not there, named like a method of objects",
    { ...store, DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: ["toString"] },
    [
      'DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS must only name ids of DISTRIBUTED_STORAGE_CONFIG. It names "toString"; there is a.',
    ],
  ],
  ["replication of local disks", { ...store, FEATURE_STORAGE_REPLICATION: true }, []],
  [
    "Swift version 3 without its options",
    { DISTRIBUTED_STORAGE_CONFIG: { s: ["SwiftStorage", swift] } },
    [
      "Swift auth v3 requires a domain (string) in os_options",
      "Swift auth v3 requires tenant_id (string) in os_options",
    ],
  ],
  [
    "Swift version 3",
    {
      DISTRIBUTED_STORAGE_CONFIG: {
        s: ["SwiftStorage", { ...swift, os_options: { tenant_id: "t", user_domain_name: "d" } }],
      },
    },
    [],
  ],
  [
    "Elasticsearch without settings",
    { LOGS_MODEL: "elasticsearch" },
    ["LOGS_MODEL_CONFIG.ELASTIC_SEARCH_CONFIG is required for Elasticsearch"],
  ],
  [
    "Elasticsearch with half its settings",
    {
      LOGS_MODEL: "elasticsearch",
      LOGS_MODEL_CONFIG: { elasticsearch_config: { host: "h", access_key: "a", secret_key: "s" } },
    },
    ["LOGS_MODEL_CONFIG.ELASTIC_SEARCH_CONFIG.PORT is required for Elasticsearch"],
  ],
  [
    "mail without a place for its links to lead to",
    { MAIL_SERVER: "m" },
    ["SERVER_HOSTNAME is required with MAIL_SERVER: it is where the links in mails lead"],
  ],
  [
    "a captcha without its keys",
    { FEATURE_RECAPTCHA: true, RECAPTCHA_SITE_KEY: "k" },
    ["RECAPTCHA_SECRET_KEY is required with FEATURE_RECAPTCHA: nobody could sign up without it"],
  ],
  ["mail without a server", { FEATURE_MAILING: true }, ["MAIL_SERVER is required"]],
  [
    "mail in the clear under FIPS",
    { FEATURE_MAILING: true, MAIL_SERVER: "m", MAIL_USE_TLS: false, FEATURE_FIPS: true, SERVER_HOSTNAME: "h" },
    ["MAIL_USE_TLS must be enabled when running in FIPS mode."],
  ],
  ["GitHub without its block", { FEATURE_GITHUB_LOGIN: true }, ["GITHUB_LOGIN_CONFIG is required for GitHubLogin"]],
  [
    "GitHub restricted to no organization",
    { FEATURE_GITHUB_LOGIN: true, GITHUB_LOGIN_CONFIG: { CLIENT_ID: "i", CLIENT_SECRET: "s", ORG_RESTRICT: true } },
    ["GITHUB_LOGIN_CONFIG.ALLOWED_ORGANIZATIONS must contain values if GITHUB_LOGIN_CONFIG.ORG_RESTRICT is true"],
  ],
  ["Google without its block", { FEATURE_GOOGLE_LOGIN: true }, ["GOOGLE_LOGIN_CONFIG is required for GoogleLogin"]],
  [
    "LDAP without an account to search with",
    { AUTHENTICATION_TYPE: "LDAP", LDAP_BASE_DN: ["dc=example"] },
    ["LDAP_ADMIN_DN is required for LDAP", "LDAP_ADMIN_PASSWD is required for LDAP"],
  ],
  [
    "JWT without its service",
    { AUTHENTICATION_TYPE: "JWT" },
    ["JWT_VERIFY_ENDPOINT is required for JWT", "JWT_AUTH_ISSUER is required for JWT"],
  ],
  [
    "a scanner without an address",
    { FEATURE_SECURITY_SCANNER: true },
    ["At least one of SECURITY_SCANNER_ENDPOINT,SECURITY_SCANNER_V4_ENDPOINT must be present"],
  ],
  [
    "a default expiry that nobody may choose",
    { DEFAULT_TAG_EXPIRATION: "3d" },
    [
      'The default tag expiration period must be included in the allowed expiration periods. DEFAULT_TAG_EXPIRATION is "3d", TAG_EXPIRATION_OPTIONS are 0s, 1d, 1w, 2w, 4w.',
    ],
  ],
  ["no choice of expiry at all", { DEFAULT_TAG_EXPIRATION: "3d", TAG_EXPIRATION_OPTIONS: [] }, []],
  [
    "a mistake inside a key is not reported a second time between keys",
    { DEFAULT_TAG_EXPIRATION: "3d", TAG_EXPIRATION_OPTIONS: "all" },
    ['TAG_EXPIRATION_OPTIONS must be a list. It is "all".'],
  ],
];

for (const [name, given, problems] of cases) test(name, () => expect(problemsOf(given)).toEqual(problems));

function problemsOf(given: Record<string, unknown>): string[] {
  try {
    loadConfig({ dataDir: "/nowhere", env: { QUAY_OVERRIDE_CONFIG: JSON.stringify(given) } });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems
      .map((problem) => problem.message)
      .filter((message) => !message.includes("not in this build yet"));
  }
  return [];
}
