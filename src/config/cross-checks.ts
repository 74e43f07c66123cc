/**
 * Rules between keys that need no network, in the words of Quay's config tool (reference, section 14.2). Quay requires ten
 * keys; Berth requires none, because each has a safe default here or, as with Redis, no use: only contradictions are refused.
 */
import type { ConfigProblem } from "./error.ts";
import { type Config, oidcLogins } from "./schema.ts";

interface CrossCheck {
  /** Keys the rule reads. It is left out while one of them is wrong by itself, lest one mistake be reported twice. */
  readonly reads: readonly string[];
  /** Problems as [key, message]. `isGiven` tells a value that the operator wrote from a default. */
  check(config: Config, isGiven: (key: string) => boolean): [key: string, message: string][];
}

/** Applies every rule whose keys are right by themselves. */
export function crossCheck(config: Config, given: ReadonlySet<string>, wrong: ReadonlySet<string>): ConfigProblem[] {
  return CHECKS.filter((rule) => !rule.reads.some((key) => wrong.has(key)))
    .flatMap((rule) => rule.check(config, (key) => given.has(key)))
    .map(([key, message]) => ({ key, message }));
}

const accessSettings: CrossCheck = {
  reads: ["FEATURE_DIRECT_LOGIN", "FEATURE_GITHUB_LOGIN", "FEATURE_GOOGLE_LOGIN", "AUTHENTICATION_TYPE"],
  check(config) {
    const isPossible =
      config.FEATURE_DIRECT_LOGIN ||
      config.FEATURE_GITHUB_LOGIN ||
      config.FEATURE_GOOGLE_LOGIN ||
      oidcLogins(config).size > 0 ||
      config.AUTHENTICATION_TYPE === "AppToken"; // which forbids direct log-in
    const names = "FEATURE_DIRECT_LOGIN,FEATURE_GITHUB_LOGIN,FEATURE_GOOGLE_LOGIN,<ID>_LOGIN_CONFIG";
    return isPossible ? [] : [["FEATURE_DIRECT_LOGIN", `At least one of ${names} must be enabled`]];
  },
};

const inviteOnly: CrossCheck = {
  reads: ["FEATURE_INVITE_ONLY_USER_CREATION", "FEATURE_USER_CREATION"],
  check: (config) =>
    config.FEATURE_INVITE_ONLY_USER_CREATION && !config.FEATURE_USER_CREATION
      ? [
          [
            "FEATURE_INVITE_ONLY_USER_CREATION",
            "INVITE_USER_ONLY_CREATION requires FEATURE_USER_CREATION to be enabled",
          ],
        ]
      : [],
};

const actionLogArchiving: CrossCheck = {
  reads: [
    "FEATURE_ACTION_LOG_ROTATION",
    "ACTION_LOG_ARCHIVE_LOCATION",
    "ACTION_LOG_ARCHIVE_PATH",
    "DISTRIBUTED_STORAGE_CONFIG",
  ],
  check(config) {
    if (!config.FEATURE_ACTION_LOG_ROTATION) return [];
    const location = config.ACTION_LOG_ARCHIVE_LOCATION;
    if (!location) return [["ACTION_LOG_ARCHIVE_LOCATION", "ACTION_LOG_ARCHIVE_LOCATION is required"]];
    if (config.ACTION_LOG_ARCHIVE_PATH === "")
      return [["ACTION_LOG_ARCHIVE_PATH", "ACTION_LOG_ARCHIVE_PATH is required"]];
    return hasLocation(config, location)
      ? []
      : [
          [
            "ACTION_LOG_ARCHIVE_LOCATION",
            `ACTION_LOG_ARCHIVE_LOCATION must be in DISTRIBUTED_STORAGE_CONFIG. ${locations(config, location)}`,
          ],
        ];
  },
};

const appTokens: CrossCheck = {
  reads: ["AUTHENTICATION_TYPE", "FEATURE_APP_SPECIFIC_TOKENS", "FEATURE_DIRECT_LOGIN"],
  check(config) {
    if (config.AUTHENTICATION_TYPE !== "AppToken") return [];
    const found: [string, string][] = [];
    if (!config.FEATURE_APP_SPECIFIC_TOKENS) {
      found.push([
        "FEATURE_APP_SPECIFIC_TOKENS",
        "FEATURE_APP_SPECIFIC_TOKENS must be enabled if AUTHENTICATION_TYPE is AppToken",
      ]);
    }
    if (config.FEATURE_DIRECT_LOGIN) {
      found.push(["FEATURE_DIRECT_LOGIN", "FEATURE_DIRECT_LOGIN must be disabled if AUTHENTICATION_TYPE is AppToken"]);
    }
    return found;
  },
};

const storageLocations: CrossCheck = {
  reads: ["DISTRIBUTED_STORAGE_CONFIG", "DISTRIBUTED_STORAGE_PREFERENCE", "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS"],
  check(config) {
    const keys = ["DISTRIBUTED_STORAGE_PREFERENCE", "DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS"] as const;
    return keys.flatMap((key) =>
      config[key]
        .filter((id) => !hasLocation(config, id))
        .map((id): [string, string] => [
          key,
          `${key} must only name ids of DISTRIBUTED_STORAGE_CONFIG. ${locations(config, id)}`,
        ]),
    );
  },
};

const swiftVersion3: CrossCheck = {
  reads: ["DISTRIBUTED_STORAGE_CONFIG"],
  check: (config) =>
    Object.entries(config.DISTRIBUTED_STORAGE_CONFIG).flatMap(([id, [driver, args]]) => {
      if (driver !== "SwiftStorage" || Number(args.auth_version) !== 3) return [];
      const options = args.os_options ?? {};
      return ["domain", "tenant_id"]
        .filter(
          (word) => !Object.entries(options).some(([name, value]) => name.includes(word) && typeof value === "string"),
        )
        .map((word): [string, string] => [
          `DISTRIBUTED_STORAGE_CONFIG.${id}.os_options`,
          `Swift auth v3 requires ${word === "domain" ? "a domain" : "tenant_id"} (string) in os_options`,
        ]);
    }),
};

const elasticsearch: CrossCheck = {
  reads: ["LOGS_MODEL", "LOGS_MODEL_CONFIG"],
  check(config) {
    if (config.LOGS_MODEL !== "elasticsearch") return [];
    const settings = config.LOGS_MODEL_CONFIG.elasticsearch_config;
    if (!settings) {
      return [["LOGS_MODEL_CONFIG", "LOGS_MODEL_CONFIG.ELASTIC_SEARCH_CONFIG is required for Elasticsearch"]];
    }
    return (["host", "port", "access_key", "secret_key"] as const)
      .filter((name) => settings[name] === undefined)
      .map((name) => [
        `LOGS_MODEL_CONFIG.elasticsearch_config.${name}`,
        `LOGS_MODEL_CONFIG.ELASTIC_SEARCH_CONFIG.${name.toUpperCase()} is required for Elasticsearch`,
      ]);
  },
};

const email: CrossCheck = {
  reads: ["FEATURE_MAILING", "MAIL_SERVER", "MAIL_USE_TLS", "FEATURE_FIPS", "SERVER_HOSTNAME"],
  check(config, isGiven) {
    if (!config.FEATURE_MAILING) return [];
    const found: [string, string][] = [];
    if (config.MAIL_SERVER !== "" && config.SERVER_HOSTNAME === undefined) {
      // Else whoever asks for a recovery mail chooses, by the Host header, where the link in it leads.
      const message = "SERVER_HOSTNAME is required with MAIL_SERVER: it is where the links in mails lead";
      found.push(["MAIL_SERVER", message]);
    }
    // The server's default is on and the config tool's is off; only a wish that was written down can miss its server.
    if (!isGiven("FEATURE_MAILING")) return found;
    if (config.MAIL_SERVER === "") found.push(["MAIL_SERVER", "MAIL_SERVER is required"]);
    else if (config.FEATURE_FIPS && !config.MAIL_USE_TLS) {
      found.push(["MAIL_USE_TLS", "MAIL_USE_TLS must be enabled when running in FIPS mode."]);
    }
    return found;
  },
};

const captcha: CrossCheck = {
  reads: ["FEATURE_RECAPTCHA", "RECAPTCHA_SITE_KEY", "RECAPTCHA_SECRET_KEY"],
  check: (config) =>
    (["RECAPTCHA_SITE_KEY", "RECAPTCHA_SECRET_KEY"] as const)
      .filter((key) => config.FEATURE_RECAPTCHA && config[key] === undefined)
      .map((key) => [key, `${key} is required with FEATURE_RECAPTCHA: nobody could sign up without it`]),
};

const socialLogins: CrossCheck = {
  reads: ["FEATURE_GITHUB_LOGIN", "FEATURE_GOOGLE_LOGIN", "GITHUB_LOGIN_CONFIG", "GOOGLE_LOGIN_CONFIG"],
  check(config) {
    const found: [string, string][] = [];
    if (config.FEATURE_GITHUB_LOGIN && !config.GITHUB_LOGIN_CONFIG) {
      found.push(["GITHUB_LOGIN_CONFIG", "GITHUB_LOGIN_CONFIG is required for GitHubLogin"]);
    }
    if (config.FEATURE_GOOGLE_LOGIN && !config.GOOGLE_LOGIN_CONFIG) {
      found.push(["GOOGLE_LOGIN_CONFIG", "GOOGLE_LOGIN_CONFIG is required for GoogleLogin"]);
    }
    const github = config.GITHUB_LOGIN_CONFIG;
    if (config.FEATURE_GITHUB_LOGIN && github?.ORG_RESTRICT && !github.ALLOWED_ORGANIZATIONS?.length) {
      const key = "GITHUB_LOGIN_CONFIG.ALLOWED_ORGANIZATIONS";
      found.push([key, `${key} must contain values if GITHUB_LOGIN_CONFIG.ORG_RESTRICT is true`]);
    }
    return found;
  },
};

const directories: CrossCheck = {
  reads: [
    "AUTHENTICATION_TYPE",
    "LDAP_ADMIN_DN",
    "LDAP_ADMIN_PASSWD",
    "LDAP_BASE_DN",
    "JWT_VERIFY_ENDPOINT",
    "JWT_AUTH_ISSUER",
  ],
  check(config) {
    const needed = {
      LDAP: ["LDAP_BASE_DN", "LDAP_ADMIN_DN", "LDAP_ADMIN_PASSWD"],
      JWT: ["JWT_VERIFY_ENDPOINT", "JWT_AUTH_ISSUER"],
    } as const;
    const type = config.AUTHENTICATION_TYPE;
    if (type !== "LDAP" && type !== "JWT") return [];
    return needed[type].filter((key) => !config[key]).map((key) => [key, `${key} is required for ${type}`]);
  },
};

const scanner: CrossCheck = {
  reads: ["FEATURE_SECURITY_SCANNER", "SECURITY_SCANNER_ENDPOINT", "SECURITY_SCANNER_V4_ENDPOINT"],
  check: (config) =>
    config.FEATURE_SECURITY_SCANNER && !config.SECURITY_SCANNER_V4_ENDPOINT && !config.SECURITY_SCANNER_ENDPOINT
      ? [
          [
            "SECURITY_SCANNER_V4_ENDPOINT",
            "At least one of SECURITY_SCANNER_ENDPOINT,SECURITY_SCANNER_V4_ENDPOINT must be present",
          ],
        ]
      : [],
};

const timeMachine: CrossCheck = {
  reads: ["DEFAULT_TAG_EXPIRATION", "TAG_EXPIRATION_OPTIONS"],
  check(config) {
    const options = config.TAG_EXPIRATION_OPTIONS;
    // An empty list offers no choice at all and shows the default, as in Quay's own comment on the key.
    if (options.length === 0 || options.includes(config.DEFAULT_TAG_EXPIRATION)) return [];
    const message =
      "The default tag expiration period must be included in the allowed expiration periods." +
      ` DEFAULT_TAG_EXPIRATION is "${config.DEFAULT_TAG_EXPIRATION}", TAG_EXPIRATION_OPTIONS are ${options.join(", ")}.`;
    return [["DEFAULT_TAG_EXPIRATION", message]];
  },
};

const CHECKS: readonly CrossCheck[] = [
  accessSettings,
  inviteOnly,
  actionLogArchiving,
  appTokens,
  storageLocations,
  swiftVersion3,
  elasticsearch,
  email,
  captcha,
  socialLogins,
  directories,
  scanner,
  timeMachine,
];

function hasLocation(config: Config, id: string): boolean {
  return Object.hasOwn(config.DISTRIBUTED_STORAGE_CONFIG, id);
}

function locations(config: Config, wrong: string): string {
  return `It names "${wrong}"; there is ${Object.keys(config.DISTRIBUTED_STORAGE_CONFIG).join(", ")}.`;
}
