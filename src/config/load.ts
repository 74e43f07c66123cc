/**
 * From `--config`, the data directory and the environment to one finished, frozen config. Everything that is wrong is found
 * first and thrown together; nothing here opens a connection.
 */
import { join, resolve } from "node:path";
import { checkKeys } from "./check-keys.ts";
import { crossCheck } from "./cross-checks.ts";
import { formatDatabaseUri, parseDatabaseUri } from "./db-uri.ts";
import { type Environment, readOverrides, shownEnvironment } from "./environment.ts";
import { ConfigError, type ConfigProblem } from "./error.ts";
import { findExtraCas, findTls, readConfigFile, resolvePath, resolveStackFile, type TlsFiles } from "./files.ts";
import type { StorageEngineConfig } from "./keys/storage.ts";
import { redactConfig } from "./redact.ts";
import { type Config, isConfigKey, parseOnce, schemaOf } from "./schema.ts";
import { ignoredKeys, notices, refusals } from "./support.ts";
import { parseConfigYaml } from "./yaml.ts";

export { ConfigError } from "./error.ts";
export type { Config } from "./schema.ts";

export interface LoadInput {
  /** Value of `--config`; `BERTH_CONFIG` of the environment stands in for it. */
  readonly configPath?: string | undefined;
  /** Value of `--data`: where the embedded default keeps its database and blobs. */
  readonly dataDir: string;
  readonly env: Environment;
}

export interface LoadedConfig {
  readonly config: Config;
  /** True when no config.yaml was named: the embedded default with a superuser `admin`. */
  readonly zeroConfig: boolean;
  /** Directory of config.yaml, absolute. */
  readonly configDir: string | undefined;
  /** Present when Berth itself serves TLS. */
  readonly tls: TlsFiles | undefined;
  /** PEM files of certificate authorities to trust in addition to the system's. */
  readonly extraCaPaths: readonly string[];
  /** Whole sentences for the log, none of them with a secret. */
  readonly warnings: readonly string[];
  readonly given: GivenConfig;
}

/** What was given beside the keys that are in the config, for a superuser who looks for a fault. Holds no secret. */
export interface GivenConfig {
  /** Keys that neither Quay nor Berth knows, with their values. */
  readonly unknownKeys: Readonly<Record<string, unknown>>;
  /** The environment as far as it matters to a registry. */
  readonly environment: Readonly<Record<string, string>>;
}

/** With a wrong one of these, no default is safe: another database or store would be filled, or other people let in. */
const NEVER_REPLACED = new Set(["DB_URI", "DISTRIBUTED_STORAGE_CONFIG", "AUTHENTICATION_TYPE"]);

/** Loads and checks a config. Throws ConfigError with every problem; under IGNORE_VALIDATION most become warnings. */
export function loadConfig(input: LoadInput): LoadedConfig {
  const overrides = readOverrides(input.env);
  const configPath = input.configPath || input.env.BERTH_CONFIG || undefined;
  const file = configPath === undefined ? undefined : readConfigFile(configPath);
  const yaml = file ? parseConfigYaml(file.text, file.fileName) : undefined;
  const given = new Map<string, unknown>(yaml ? yaml.values : [["SUPER_USERS", ["admin"]]]);
  for (const [key, value] of overrides.values) given.set(key, value);

  const place = { configDir: file?.dir, dataDir: resolve(input.dataDir) };
  const ignored: ConfigProblem[] = [];
  let found = evaluate(given, place);
  if (overrides.ignoresValidation) {
    // Each round takes at least one wrong key out, so this ends; a problem without a key of its own is only reported.
    for (let wrong = replaceable(found, given); wrong.length > 0; wrong = replaceable(found, given)) {
      ignored.push(...wrong);
      for (const problem of wrong) given.delete(topKey(problem));
      found = evaluate(given, place);
    }
    ignored.push(...found.problems.filter((problem) => !NEVER_REPLACED.has(topKey(problem))));
  }
  const fatal = found.problems.filter((problem) => !ignored.includes(problem)).concat(found.refused);
  if (fatal.length > 0) throw new ConfigError(fatal);

  const extraCas = findExtraCas(file?.dir);
  return {
    config: deepFreeze(found.config),
    zeroConfig: file === undefined,
    configDir: file?.dir,
    tls: found.tls,
    extraCaPaths: extraCas.paths,
    warnings: [
      ...(yaml?.warnings ?? []),
      ...found.warnings,
      ...ignored.map((problem) => `IGNORE_VALIDATION is set, the default is used in spite of this: ${problem.message}`),
      ...extraCas.warnings,
    ],
    given: {
      unknownKeys: redactBlock([...given].filter(([key]) => schemaOf(key) === undefined)),
      environment: shownEnvironment(input.env),
    },
  };
}

function redactBlock(entries: readonly (readonly [string, unknown])[]): Readonly<Record<string, unknown>> {
  return redactConfig(Object.fromEntries(entries)) as Record<string, unknown>;
}

interface Place {
  readonly configDir: string | undefined;
  /** Absolute. */
  readonly dataDir: string;
}

interface Evaluation {
  readonly config: Config;
  readonly tls: TlsFiles | undefined;
  readonly problems: ConfigProblem[];
  readonly refused: ConfigProblem[];
  readonly warnings: string[];
}

/** One pass over the given keys: the config they make, defaults in place of wrong ones, and all that is to be said. */
function evaluate(given: ReadonlyMap<string, unknown>, place: Place): Evaluation {
  const checked = checkKeys(given);
  const config = finish(checked.values, place);
  const wrong = new Set(checked.problems.map(topKey));
  const { tls, problems: tlsProblems } = findTls(config, place.configDir);
  const unused = ignoredKeys(checked.values);
  const warnings = [...checked.warnings, ...notices(config)];
  if (unused.length > 0) {
    warnings.push(
      `these keys are set and known to Quay, but this build of Berth does not act on them yet: ${unused.join(", ")}`,
    );
  }
  return {
    config,
    tls,
    problems: [...checked.problems, ...crossCheck(config, new Set(given.keys()), wrong), ...tlsProblems],
    refused: refusals(config).filter((problem) => !wrong.has(topKey(problem))),
    warnings,
  };
}

/** Fills in what depends on the data directory or on other keys, and makes the paths absolute. */
function finish(values: ReadonlyMap<string, unknown>, place: Place): Config {
  const known = [...values].filter(([key]) => isConfigKey(key));
  const logins = [...values].filter(([key]) => !isConfigKey(key));
  // Values are already what their schemas made of them; parsing again leaves them alone and adds the defaults.
  const parsed = parseOnce(Object.fromEntries(known));
  const engines = parsed.DISTRIBUTED_STORAGE_CONFIG ?? {
    default: ["LocalStorage", { storage_path: join(place.dataDir, "blobs") }] satisfies StorageEngineConfig,
  };
  const args = parsed.DB_CONNECTION_ARGS;
  const rootCert =
    args.sslrootcert === undefined ? {} : { sslrootcert: resolveStackFile(place.configDir, args.sslrootcert) };
  return {
    ...parsed,
    ...Object.fromEntries(logins),
    DB_URI: finishDatabaseUri(parsed.DB_URI, place),
    DB_CONNECTION_ARGS: { ...args, ...rootCert },
    DISTRIBUTED_STORAGE_CONFIG: Object.fromEntries(
      Object.entries(engines).map(([id, engine]) => [id, finishEngine(engine, place.configDir)]),
    ),
    DISTRIBUTED_STORAGE_PREFERENCE: parsed.DISTRIBUTED_STORAGE_PREFERENCE ?? Object.keys(engines),
    SESSION_COOKIE_SECURE: parsed.SESSION_COOKIE_SECURE ?? parsed.PREFERRED_URL_SCHEME === "https",
  };
}

function finishDatabaseUri(uri: string | undefined, place: Place): string {
  if (uri === undefined) return `sqlite:///${join(place.dataDir, "berth.db")}`;
  const parsed = parseDatabaseUri(uri);
  if (!parsed) return uri; // never reached by a value that passed its schema
  if (parsed.scheme !== "sqlite") return formatDatabaseUri(parsed);
  return formatDatabaseUri({ ...parsed, database: resolvePath(place.configDir, parsed.database) });
}

/** A local store's path is a directory; that of every other engine is a prefix inside a bucket and stays as it is. */
function finishEngine(engine: StorageEngineConfig, configDir: string | undefined): StorageEngineConfig {
  const [driver, args] = engine;
  if (driver === "SwiftStorage" && args.ca_cert_path !== undefined) {
    return [driver, { ...args, ca_cert_path: resolveStackFile(configDir, args.ca_cert_path) }];
  }
  if (driver === "CloudFrontedS3Storage") {
    const path = resolveStackFile(configDir, args.cloudfront_privatekey_filename);
    return [driver, { ...args, cloudfront_privatekey_filename: path }];
  }
  if (driver !== "LocalStorage") return engine;
  return [driver, { ...args, storage_path: resolvePath(configDir, args.storage_path) }];
}

function replaceable(found: Evaluation, given: ReadonlyMap<string, unknown>): ConfigProblem[] {
  return found.problems.filter((problem) => given.has(topKey(problem)) && !NEVER_REPLACED.has(topKey(problem)));
}

function topKey(problem: ConfigProblem): string {
  return problem.key.split(".", 1)[0] ?? problem.key;
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
