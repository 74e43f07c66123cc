import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ConfigError, type LoadedConfig, loadConfig } from "./load.ts";
import { oidcLogins } from "./schema.ts";

/** Self-signed for registry.example.com and 192.0.2.7; made for these tests and used nowhere else. */
const CERT = `-----BEGIN CERTIFICATE-----
MIIBvDCCAWKgAwIBAgIUSUAQ1mhQDEVfTw7AJ3G2IJrNSdQwCgYIKoZIzj0EAwIw
HzEdMBsGA1UEAwwUcmVnaXN0cnkuZXhhbXBsZS5jb20wIBcNMjYxMTIzMDM1NTQw
WhgPMjEyNjEwMzAwMzU1NDBaMB8xHTAbBgNVBAMMFHJlZ2lzdHJ5LmV4YW1wbGUu
Y29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0nFSaoic2DhXHD33FWQN265U
LDexPbXhENfasM1yT70f0OGDU2UUEZQ2V+p0VigtDZ9eDl3IkxcCPNVdzx/FJKN6
MHgwHQYDVR0OBBYEFEWREXZ6dk4P4FL1gdoIKdDEzsv3MB8GA1UdIwQYMBaAFEWR
EXZ6dk4P4FL1gdoIKdDEzsv3MA8GA1UdEwEB/wQFMAMBAf8wJQYDVR0RBB4wHIIU
cmVnaXN0cnkuZXhhbXBsZS5jb22HBMAAAgcwCgYIKoZIzj0EAwIDSAAwRQIgT0vH
cMUg5Shjx2Rf4+djckwM1pE2nGvG+I/50ABTWucCIQDtpo4H9HR3g+obOJe623xw
2HjPnJkv3QLqF2K3SGNBHw==
-----END CERTIFICATE-----
`;
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgk11QkoCJ6JkLpCQR
vAZihaulsTK+PBXLZ8MUks+Z5POhRANCAATScVJqiJzYOFccPfcVZA3brlQsN7E9
teEQ19qwzXJPvR/Q4YNTZRQRlDZX6nRWKC0Nn14OXciTFwI81V3PH8Uk
-----END PRIVATE KEY-----
`;
const OTHER_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQghk9w31i/dUBdN6Rj
wlEjdgG64zG1Rgw36922HkLUNwqhRANCAAQQH1bW96NQIASI/bGF0JqZ1B1lv6ZM
LoBjDQ+caJnMfOjbmRwsR90Bx4ARSpmSOg/1+7EZROj+0xQ3aovfo4wR
-----END PRIVATE KEY-----
`;

const root = mkdtempSync(join(tmpdir(), "berth-config-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let made = 0;

/** A config directory with these files. */
function stack(files: Record<string, string>): string {
  const dir = join(root, `stack-${++made}`);
  mkdirSync(dir);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  return dir;
}

const load = (yaml: string, env: Record<string, string> = {}, files: Record<string, string> = {}): LoadedConfig =>
  loadConfig({ configPath: stack({ "config.yaml": yaml, ...files }), dataDir: join(root, "data"), env });

function problemsOf(run: () => unknown): string[] {
  try {
    run();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map((problem) => problem.message);
    throw error;
  }
  return [];
}

/** In the manner of the manual's samples: own TLS ended outside, local disk, PostgreSQL, Redis, an LDAP-free set-up. */
const EXAMPLE = `
SERVER_HOSTNAME: registry.example.com
PREFERRED_URL_SCHEME: https
EXTERNAL_TLS_TERMINATION: true
AUTHENTICATION_TYPE: Database
AVATAR_KIND: local
BROWSER_API_CALLS_XHR_ONLY: false
BUILDLOGS_REDIS:
    host: cache.example.com
    password: a-password
    port: 6379
USER_EVENTS_REDIS:
    host: cache.example.com
    password: a-password
    port: 6379
DATABASE_SECRET_KEY: 0f0ad386-6a5a-4a0e-9c11-2f6a36a2a2b1
SECRET_KEY: 6d2f3f5c-2e62-44a3-8f0b-1d5d1a4a66aa
DB_CONNECTION_ARGS:
    autorollback: true
    threadlocals: true
DB_URI: postgresql://registry:a-password@db.example.com:5432/registry
DEFAULT_TAG_EXPIRATION: 2w
TAG_EXPIRATION_OPTIONS: [0s, 1d, 1w, 2w, 4w]
DISTRIBUTED_STORAGE_CONFIG:
    default:
        - LocalStorage
        - storage_path: /datastorage/registry
DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS: []
DISTRIBUTED_STORAGE_PREFERENCE:
    - default
ENTERPRISE_LOGO_URL: /static/img/logo.svg
FEATURE_MAILING: false
FEATURE_BUILD_SUPPORT: false
FEATURE_REPO_MIRROR: no
FEATURE_USER_INITIALIZE: yes
FEATURE_LISTEN_IP_VERSION: IPv6
GITHUB_LOGIN_CONFIG: {}
LDAP_BASE_DN:
    - dc=example
    - dc=com
LDAP_USER_FILTER: (memberof=cn=developers,ou=Users,dc=example,dc=com)
SETUP_COMPLETE: true
SUPER_USERS:
    - operator
`.replace("GITHUB_LOGIN_CONFIG: {}", "GITHUB_LOGIN_CONFIG: null");

describe("a config.yaml as Quay's manual shows them", () => {
  const { config, zeroConfig, tls, warnings } = load(EXAMPLE);

  test("is read with its values and the defaults of the rest", () => {
    expect(zeroConfig).toBe(false);
    expect(tls).toBeUndefined();
    expect(config).toMatchObject({
      SERVER_HOSTNAME: "registry.example.com",
      DB_URI: "postgresql://registry:a-password@db.example.com:5432/registry",
      DISTRIBUTED_STORAGE_CONFIG: { default: ["LocalStorage", { storage_path: "/datastorage/registry" }] },
      DISTRIBUTED_STORAGE_PREFERENCE: ["default"],
      FEATURE_REPO_MIRROR: false,
      FEATURE_USER_INITIALIZE: true,
      FEATURE_LISTEN_IP_VERSION: "IPv6",
      SESSION_COOKIE_SECURE: true,
      SUPER_USERS: ["operator"],
      V2_PAGINATION_SIZE: 1000,
    });
  });

  test("gives one warning, for the keys this build does not act on; Redis, builds and values equal to the default are not among them", () => {
    expect(warnings).toHaveLength(1);
    const [, keys] = warnings[0]?.split(": ") ?? [];
    expect(keys?.split(", ")).toEqual(["ENTERPRISE_LOGO_URL", "LDAP_BASE_DN", "LDAP_USER_FILTER"]);
  });
});

describe("what is right and does less than in Quay", () => {
  test("is said in a sentence", () => {
    expect(load("FEATURE_PROXY_PROTOCOL: true\nPROXY_COUNT: 1\n").warnings).toEqual([
      expect.stringMatching(/^FEATURE_PROXY_PROTOCOL is on, but Berth speaks no PROXY protocol/),
      "PROXY_COUNT does nothing without TRUSTED_PROXY_CIDR, the addresses of those proxies",
    ]);
    const two =
      "DISTRIBUTED_STORAGE_CONFIG: {a: [LocalStorage, {storage_path: /a}], b: [LocalStorage, {storage_path: /b}]}";
    expect(load(`FEATURE_STORAGE_REPLICATION: true\n${two}\n`).warnings).toEqual([
      expect.stringContaining("with LocalStorage (a, b) works only where every instance sees that same directory"),
    ]);
    expect(load("PROXY_COUNT: 1\nTRUSTED_PROXY_CIDR: [10.0.0.0/8, '2001:db8::/32']\n").warnings).toEqual([]);
  });
});

describe("where a config comes from", () => {
  test("the file itself may be named, and BERTH_CONFIG stands in for --config", () => {
    const dir = stack({ "config.yaml": "REGISTRY_TITLE: From the file\n" });
    const byFile = loadConfig({ configPath: join(dir, "config.yaml"), dataDir: "d", env: {} });
    const byEnv = loadConfig({ dataDir: "d", env: { BERTH_CONFIG: dir } });
    expect([byFile.config.REGISTRY_TITLE, byEnv.config.REGISTRY_TITLE]).toEqual(["From the file", "From the file"]);
    expect([byFile.configDir, byEnv.configDir]).toEqual([dir, dir]);
    expect(byEnv.zeroConfig).toBe(false);
  });

  test("an empty config.yaml is enough, and makes nobody a superuser", () => {
    const { config, zeroConfig, warnings } = load("");
    expect({ superUsers: config.SUPER_USERS, zeroConfig, warnings }).toEqual({
      superUsers: [],
      zeroConfig: false,
      warnings: [],
    });
    expect(config.DB_URI).toBe(`sqlite:///${join(root, "data", "berth.db")}`);
  });

  for (const [name, path] of [
    ["nothing", join(root, "absent")],
    ["a directory without config.yaml", root],
  ] as const) {
    test(`${name} at --config is a clear error`, () => {
      expect(problemsOf(() => loadConfig({ configPath: path, dataDir: "d", env: {} }))).toEqual([
        `cannot read the config "${path}": no such file or directory. --config names a directory with config.yaml or the file itself.`,
      ]);
    });
  }

  test("a YAML mistake names file and line", () => {
    const [message] = problemsOf(() => load("A: 1\nB: [\nC: 2\n"));
    expect(message).toContain('config.yaml" as YAML: line 2: ');
  });

  test("a file too large for a config is not read", () => {
    expect(problemsOf(() => load(`# ${"x".repeat(2_000_000)}`))[0]).toContain("more than the 1048576");
  });
});

describe("paths in a config", () => {
  test("relative ones start at the config's directory, absolute ones and bucket prefixes stay", () => {
    const { config, configDir } = load(
      "DB_URI: sqlite:///meta/berth.db\nDB_CONNECTION_ARGS: {sslrootcert: ca.pem}\nDISTRIBUTED_STORAGE_CONFIG:\n" +
        "  a: [LocalStorage, {storage_path: ../blobs}]\n  b: [LocalStorage, {storage_path: /blobs}]\n",
    );
    expect(config.DB_URI).toBe(`sqlite:///${configDir}/meta/berth.db`);
    expect(config.DB_CONNECTION_ARGS.sslrootcert).toBe(`${configDir}/ca.pem`);
    expect(config.DISTRIBUTED_STORAGE_CONFIG.a?.[1].storage_path).toBe(join(root, "blobs"));
    expect(config.DISTRIBUTED_STORAGE_CONFIG.b?.[1].storage_path).toBe("/blobs");
    expect(config.DISTRIBUTED_STORAGE_PREFERENCE).toEqual(["a", "b"]);
  });

  for (const path of [
    "conf/stack/database.pem",
    "/conf/stack/database.pem",
    "/quay-registry/conf/stack/database.pem",
  ]) {
    test(`${path} is the file beside config.yaml`, () => {
      const { config, configDir } = load(`DB_CONNECTION_ARGS: {sslrootcert: ${path}}`, {}, { "database.pem": CERT });
      expect(config.DB_CONNECTION_ARGS.sslrootcert).toBe(`${configDir}/database.pem`);
    });
  }

  test("a relative data directory is made absolute", () => {
    const { config } = loadConfig({ dataDir: "berth-data", env: {} });
    expect(config.DB_URI).toBe(`sqlite:///${join(process.cwd(), "berth-data", "berth.db")}`);
  });
});

describe("environment", () => {
  test("QUAY_DISTRIBUTED_STORAGE_PREFERENCE replaces the order of stores", () => {
    const yaml =
      "DISTRIBUTED_STORAGE_CONFIG:\n  a: [LocalStorage, {storage_path: /a}]\n  b: [LocalStorage, {storage_path: /b}]\n";
    const { config } = load(yaml, { QUAY_DISTRIBUTED_STORAGE_PREFERENCE: "b, a" });
    expect(config.DISTRIBUTED_STORAGE_PREFERENCE).toEqual(["b", "a"]);
  });

  test("QUAY_OVERRIDE_CONFIG goes over the file, key by key", () => {
    const { config } = load("REGISTRY_TITLE: File\nLIBRARY_NAMESPACE: lib\n", {
      QUAY_OVERRIDE_CONFIG: '{"REGISTRY_TITLE": "Env", "FEATURE_ANONYMOUS_ACCESS": false}',
    });
    expect([config.REGISTRY_TITLE, config.LIBRARY_NAMESPACE, config.FEATURE_ANONYMOUS_ACCESS]).toEqual([
      "Env",
      "lib",
      false,
    ]);
  });

  test("QUAY_OVERRIDE_CONFIG that is no JSON object is refused without repeating it", () => {
    for (const text of ["{hush", "[1]", "null"]) {
      const problems = problemsOf(() => load("", { QUAY_OVERRIDE_CONFIG: text }));
      expect(problems).toEqual([
        'QUAY_OVERRIDE_CONFIG must be a JSON object of config keys, such as {"FEATURE_ANONYMOUS_ACCESS": false}',
      ]);
    }
  });

  test("DEBUGLOG and DB_CONNECTION_POOLING", () => {
    const { config } = load("LOGGING_LEVEL: ERROR", { DEBUGLOG: "true", DB_CONNECTION_POOLING: "false" });
    expect([config.LOGGING_LEVEL, config.DB_CONNECTION_POOLING]).toEqual(["DEBUG", false]);
    expect(load("", { DEBUGLOG: "false" }).config.LOGGING_LEVEL).toBe("INFO");
    expect(problemsOf(() => load("", { DEBUGLOG: "loud" }))).toEqual(['DEBUGLOG must be true or false. It is "loud".']);
  });

  test("Quay's process counts are accepted", () => {
    expect(load("", { WORKER_COUNT: "4", WORKER_COUNT_REGISTRY: "8", WORKER_CONNECTION_COUNT: "50" }).warnings).toEqual(
      [],
    );
  });
});

describe("IGNORE_VALIDATION", () => {
  const env = { IGNORE_VALIDATION: "true" };

  test("turns problems into warnings and uses the default of the wrong key", () => {
    const { config, warnings } = load(
      "V2_PAGINATION_SIZE: lots\nDEFAULT_TAG_EXPIRATION: 3w\nLIBRARY_NAMESPACE: lib\n",
      env,
    );
    expect([config.V2_PAGINATION_SIZE, config.DEFAULT_TAG_EXPIRATION, config.LIBRARY_NAMESPACE]).toEqual([
      1000,
      "2w",
      "lib",
    ]);
    expect(warnings).toHaveLength(2);
    expect(warnings[0]).toStartWith(
      "IGNORE_VALIDATION is set, the default is used in spite of this: V2_PAGINATION_SIZE must be",
    );
  });

  test("a default that is wrong itself, or a missing certificate, is only reported", () => {
    const { config, tls, warnings } = load("PREFERRED_URL_SCHEME: https\nTAG_EXPIRATION_OPTIONS: [4w]\n", env);
    expect([config.PREFERRED_URL_SCHEME, tls]).toEqual(["https", undefined]);
    expect(warnings).toHaveLength(2);
  });

  for (const [key, yaml] of [
    ["DB_URI", "DB_URI: postgresql:/typo"],
    ["DB_URI", "DB_URI: mysql+pymysql://u:p@h/quay"],
    [
      "DISTRIBUTED_STORAGE_CONFIG.a",
      "DISTRIBUTED_STORAGE_CONFIG: {a: [MultiCDNStorage, {storage_config: {}, providers: {}, default_provider: b}]}",
    ],
    ["AUTHENTICATION_TYPE", "AUTHENTICATION_TYPE: LDPA"],
    ["AUTHENTICATION_TYPE", "AUTHENTICATION_TYPE: LDAP"],
  ] as const) {
    test(`does not start on other data or with other log-ins: ${yaml}`, () => {
      try {
        load(yaml, env);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        expect((error as ConfigError).problems.map((problem) => problem.key)).toContain(key);
        return;
      }
      throw new Error("the config was accepted");
    });
  }
});

describe("what this build refuses", () => {
  test("every one of them at once, with the mistakes", () => {
    const yaml = [
      "AUTHENTICATION_TYPE: OIDC",
      "DB_URI: mysql+pymysql://quay:hush@db/quay",
      "DISTRIBUTED_STORAGE_CONFIG: {cdn: [MultiCDNStorage, {storage_config: {}, providers: {}, default_provider: a}]}",
      "REGISTRY_STATE: closed",
    ].join("\n");
    expect(problemsOf(() => load(yaml))).toEqual([
      'REGISTRY_STATE must be one of normal, readonly. It is "closed".',
      'AUTHENTICATION_TYPE "OIDC" is not in this build yet; Database and AppToken are',
      "DISTRIBUTED_STORAGE_CONFIG.cdn uses MultiCDNStorage, which is not in this build yet; AzureStorage, CloudFrontedS3Storage, GoogleCloudStorage, LocalStorage, RHOCSStorage, RadosGWStorage, S3Storage, SwiftStorage are",
      "DB_URI names a MySQL database; Berth speaks SQLite and PostgreSQL, and the README says how to migrate",
    ]);
  });
});

describe("TLS of our own", () => {
  const yaml = (host: string) =>
    `PREFERRED_URL_SCHEME: https\nSERVER_HOSTNAME: "${host}"\nSSL_PROTOCOLS: [TLSv1.3]\nSSL_CIPHERS: [A, B]\n`;

  for (const host of ["registry.example.com", "registry.example.com:8443", "192.0.2.7"]) {
    test(`certificate and key serve ${host}`, () => {
      const { tls, configDir } = load(yaml(host), {}, { "ssl.cert": CERT, "ssl.key": KEY });
      expect(tls).toEqual({
        certPath: `${configDir}/ssl.cert`,
        keyPath: `${configDir}/ssl.key`,
        minVersion: 0x0304,
        maxVersion: 0x0304,
        ciphers: "A:B",
      });
    });
  }

  const faults: [name: string, files: Record<string, string>, host: string, message: string][] = [
    ["no files", {}, "registry.example.com", "Certificates are required for SSL but are not present: "],
    ["no key", { "ssl.cert": CERT }, "registry.example.com", "Certificate ssl.key is required for HostSettings."],
    [
      "no certificate",
      { "ssl.key": KEY },
      "registry.example.com",
      "Certificate ssl.cert is required for HostSettings.",
    ],
    [
      "another key",
      { "ssl.cert": CERT, "ssl.key": OTHER_KEY },
      "registry.example.com",
      "is not the key of the certificate",
    ],
    [
      "another host",
      { "ssl.cert": CERT, "ssl.key": KEY },
      "other.example.com",
      'not for SERVER_HOSTNAME "other.example.com"',
    ],
    ["no PEM", { "ssl.cert": "x", "ssl.key": "y" }, "registry.example.com", "as certificate and key in PEM"],
  ];
  for (const [name, files, host, message] of faults) {
    test(`${name} is refused`, () => {
      const problems = problemsOf(() => load(yaml(host), {}, files));
      expect(problems).toHaveLength(1);
      expect(problems[0]).toContain(message);
    });
  }

  test("certificate files are left alone when TLS ends elsewhere or is off", () => {
    const files = { "ssl.cert": "x", "ssl.key": "y" };
    expect(load("PREFERRED_URL_SCHEME: https\nEXTERNAL_TLS_TERMINATION: true", {}, files).tls).toBeUndefined();
    expect(load("PREFERRED_URL_SCHEME: http", {}, files).tls).toBeUndefined();
  });
});

test("extra certificate authorities are found in both of Quay's places, and a wrong one is named", () => {
  const { extraCaPaths, warnings, configDir } = load(
    "",
    {},
    {
      "extra_ca_certs/b.crt": CERT,
      "extra_ca_certs/a.crt": CERT,
      "extra_ca_certs/notes.txt": "nothing",
      "extra_ca_cert_corp.pem": CERT,
    },
  );
  expect(extraCaPaths).toEqual(
    ["extra_ca_cert_corp.pem", "extra_ca_certs/a.crt", "extra_ca_certs/b.crt"].map((name) => `${configDir}/${name}`),
  );
  expect(warnings).toEqual([
    `the extra certificate authority "${configDir}/extra_ca_certs/notes.txt" is left out: it holds no PEM certificate`,
  ]);
});

test("OpenID providers are found by their id, beside GitHub's block", () => {
  const { config } = load(
    "GITHUB_LOGIN_CONFIG: {CLIENT_ID: g, CLIENT_SECRET: s}\nAZURE_LOGIN_CONFIG:\n  OIDC_SERVER: https://login.example.com/\n  CLIENT_ID: a\n  SERVICE_NAME: Azure\n",
  );
  expect([...oidcLogins(config)].map(([id, login]) => [id, login.SERVICE_NAME, login.SERVICE_ICON])).toEqual([
    ["azure", "Azure", "fa-user-circle"],
  ]);
  expect(config.GITHUB_LOGIN_CONFIG?.CLIENT_ID).toBe("g");
});
