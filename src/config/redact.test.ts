import { describe, expect, test } from "bun:test";
import { ConfigError, loadConfig } from "./load.ts";
import { redactConfig, redactText } from "./redact.ts";

/** Every place of a config that holds a secret, each with a value of its own that can be searched for. */
const secrets = {
  SECRET_KEY: "planted-01",
  DATABASE_SECRET_KEY: "planted-02",
  PAGE_TOKEN_KEY: "planted-03",
  IP_DATA_API_KEY: "planted-04",
  DB_URI: "postgresql://quay:planted-05@p@ss/#?w@db.example.com:5432/quay?sslpassword=planted-06",
  DB_CONNECTION_ARGS: { password: "planted-07" },
  DISTRIBUTED_STORAGE_CONFIG: {
    a: ["S3Storage", { storage_path: "/", s3_bucket: "b", s3_access_key: "planted-08", s3_secret_key: "planted-09" }],
    b: [
      "GoogleCloudStorage",
      { storage_path: "/", bucket_name: "b", access_key: "planted-10", secret_key: "planted-11" },
    ],
    c: [
      "AzureStorage",
      {
        storage_path: "/",
        azure_container: "c",
        azure_account_name: "n",
        azure_account_key: "planted-12",
        sas_token: "planted-13",
      },
    ],
    d: [
      "SwiftStorage",
      {
        storage_path: "/",
        swift_container: "c",
        auth_url: "https://s:planted-14@swift.example.com",
        swift_user: "u",
        swift_password: "planted-15",
        temp_url_key: "planted-16",
        os_options: { token: "planted-17" },
      },
    ],
  },
  BUILDLOGS_REDIS: { host: "r", password: "planted-18" },
  USER_EVENTS_REDIS: { host: "r", password: "planted-19" },
  LDAP_ADMIN_PASSWD: "planted-20",
  KEYSTONE_ADMIN_PASSWORD: "planted-21",
  AZURE_LOGIN_CONFIG: { OIDC_SERVER: "https://o/", CLIENT_ID: "i", CLIENT_SECRET: "planted-22", SERVICE_NAME: "A" },
  GITHUB_LOGIN_CONFIG: { CLIENT_ID: "i", CLIENT_SECRET: "planted-23" },
  BITBUCKET_TRIGGER_CONFIG: { CONSUMER_KEY: "planted-24", CONSUMER_SECRET: "planted-25" },
  SECURITY_SCANNER_V4_PSK: "planted-26",
  LOGS_MODEL_CONFIG: {
    elasticsearch_config: { access_key: "planted-27", secret_key: "planted-28" },
    kinesis_stream_config: { aws_access_key: "planted-29", aws_secret_key: "planted-30" },
    splunk_config: { bearer_token: "planted-31" },
    splunk_hec_config: { host: "h", hec_token: "planted-32" },
  },
  MAIL_PASSWORD: "planted-33",
  ENABLE_HEALTH_DEBUG_SECRET: "planted-34",
  RECAPTCHA_SECRET_KEY: "planted-35",
  SENTRY_DSN: "https://planted-36@sentry.example.com/1",
  HEALTH_CHECKER: ["RDSAwareHealthCheck", { access_key: "planted-37", secret_key: "planted-38" }],
  BUILD_MANAGER: [
    "ec2",
    { EXECUTORS: [{ AWS_SECRET_KEY: "planted-39" }], credentials: { any: { thing: "planted-40" } } },
  ],
  OTEL_CONFIG: { headers: { Authorization: "planted-41" }, apiToken: "planted-42" },
  PROMETHEUS_PUSHGATEWAY_URL: "http://u:planted-43@push.example.com/?token=planted-44",
};

describe("a printed config", () => {
  test("leaks none of the planted secrets and says where they were", () => {
    const printed = JSON.stringify(redactConfig(secrets));
    expect(JSON.stringify(secrets).match(/planted-\d\d/g)).toHaveLength(44);
    expect(printed.match(/planted-\d\d/g)).toBeNull();
    expect(printed).toContain('"SECRET_KEY":"***"');
  });

  test("keeps what an operator needs to see", () => {
    const printed = redactConfig({
      ...secrets,
      FEATURE_APP_SPECIFIC_TOKENS: true,
      APP_SPECIFIC_TOKEN_EXPIRATION: "4w",
      USER_RECOVERY_TOKEN_LIFETIME: "30m",
      LABEL_KEY_RESERVED_PREFIXES: ["acme."],
      MAIL_PASSWORD: null,
      SERVER_HOSTNAME: "quay.example.com",
      CONTACT_INFO: ["mailto:help@example.com"],
    });
    expect(printed).toMatchObject({
      DB_URI: "postgresql://quay:***@db.example.com:5432/quay?sslpassword=***",
      FEATURE_APP_SPECIFIC_TOKENS: true,
      APP_SPECIFIC_TOKEN_EXPIRATION: "4w",
      USER_RECOVERY_TOKEN_LIFETIME: "30m",
      LABEL_KEY_RESERVED_PREFIXES: ["acme."],
      MAIL_PASSWORD: null,
      SERVER_HOSTNAME: "quay.example.com",
      CONTACT_INFO: ["mailto:help@example.com"],
      BUILDLOGS_REDIS: { host: "r", password: "***" },
    });
  });

  test("leaves the config itself alone", () => {
    const config = { SECRET_KEY: "kept" };
    redactConfig(config);
    expect(config.SECRET_KEY).toBe("kept");
  });
});

test("messages about wrong values leak nothing either", () => {
  for (const [key, value] of Object.entries(secrets)) {
    // Each value in a wrong shape: text where a block belongs, a list where text belongs, and under a misspelt name.
    const shapes = [JSON.stringify(value), [value], { inner: value }, { host: value }, `x${String(value)}`];
    for (const shape of shapes) {
      const text = messagesFor({ [key]: shape, [`${key}S`]: shape });
      expect({ key, leaked: text.match(/planted-\d\d/g) }).toEqual({ key, leaked: null });
    }
  }
});

test("the errors of a config full of secrets leak nothing", () => {
  const text = messagesFor({ ...secrets, AUTHENTICATION_TYPE: "LDAP", REGISTRY_STATE: "x" });
  expect(text).toContain("not in this build yet");
  expect(text.match(/planted-\d\d/g)).toBeNull();
});

const uris: [string, string][] = [
  ["postgresql://u:p@h/db", "postgresql://u:***@h/db"],
  ["postgresql://u:p@ss@h/db", "postgresql://u:***@h/db"],
  ["postgresql://u@h/db", "postgresql://u@h/db"],
  ["postgresql:/u:p@h/db", "postgresql:/u:***@h/db"],
  ["u:p@h/db", "u:***@h/db"],
  ["postgres//u:p@h/db", "postgres//u:***@h/db"],
  ["mailto:help@example.com", "mailto:help@example.com"],
  ["https://h/x?a=1&token=abc&b=2", "https://h/x?a=1&token=***&b=2"],
  ["sqlite:////var/lib/berth.db", "sqlite:////var/lib/berth.db"],
  ["registry.example.com:8443", "registry.example.com:8443"],
];
for (const [text, shown] of uris) test(`${text} is shown as ${shown}`, () => expect(redactText(text)).toBe(shown));

function messagesFor(given: Record<string, unknown>): string {
  try {
    const { warnings } = loadConfig({ dataDir: "/nowhere", env: { QUAY_OVERRIDE_CONFIG: JSON.stringify(given) } });
    return warnings.join("\n");
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [error.message, ...error.problems.map((problem) => `${problem.key}: ${problem.message}`)].join("\n");
  }
}
