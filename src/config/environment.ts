/**
 * Environment variables that change a config: section 14 of the reference. The environment is handed in by the command
 * line. WORKER_COUNT and its kin are Quay's process counts and have no meaning for one Bun process, so they are not read.
 */
import { ConfigError, type ConfigProblem } from "./error.ts";
import { isSecretName, REDACTED, redactConfig, redactText } from "./redact.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Overrides {
  /** Keys to put over those of config.yaml. */
  readonly values: ReadonlyMap<string, unknown>;
  /** IGNORE_VALIDATION: start although validation fails. */
  readonly ignoresValidation: boolean;
}

/** Reads the overrides. Throws ConfigError when one cannot be read at all. */
export function readOverrides(env: Environment): Overrides {
  const problems: ConfigProblem[] = [];
  const values = new Map<string, unknown>(Object.entries(readOverrideConfig(env, problems)));
  const preference = env.QUAY_DISTRIBUTED_STORAGE_PREFERENCE;
  if (preference) {
    const ids = preference.split(",").map((id) => id.trim());
    values.set(
      "DISTRIBUTED_STORAGE_PREFERENCE",
      ids.filter((id) => id !== ""),
    );
  }
  const pooling = readSwitch(env, "DB_CONNECTION_POOLING", problems);
  if (pooling !== undefined) values.set("DB_CONNECTION_POOLING", pooling);
  if (readSwitch(env, "DEBUGLOG", problems)) values.set("LOGGING_LEVEL", "DEBUG");
  const ignoresValidation = readSwitch(env, "IGNORE_VALIDATION", problems) ?? false;
  if (problems.length > 0) throw new ConfigError(problems);
  return { values, ignoresValidation };
}

/** What AWS's own tools read, of this process: where a program gets its access keys, and its region. */
export function awsEnvironment(): Environment {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith("AWS_")));
}

/** Variables that have a meaning for a registry, Quay's and ours, and those that its libraries look at. */
const MEANINGFUL =
  /^(QUAY_|BERTH_|WORKER_|NODE_EXTRA_CA_CERTS$|DB_CONNECTION_POOLING$|DEBUGLOG$|IGNORE_VALIDATION$|TZ$|(HTTPS?|NO|ALL)_PROXY$)/i;

/** The variables that matter to a registry, fit for printing: by name, with secrets starred. */
export function shownEnvironment(env: Environment): Readonly<Record<string, string>> {
  const shown: [string, string][] = [];
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || !MEANINGFUL.test(name)) continue;
    shown.push([
      name,
      isSecretName(name) ? REDACTED : name === "QUAY_OVERRIDE_CONFIG" ? redactJson(value) : redactText(value),
    ]);
  }
  return Object.fromEntries(shown.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function redactJson(text: string): string {
  try {
    return JSON.stringify(redactConfig(JSON.parse(text)));
  } catch {
    // Not readable, so nobody can say which parts of it are secrets.
    return REDACTED;
  }
}

function readOverrideConfig(env: Environment, problems: ConfigProblem[]): object {
  const key = "QUAY_OVERRIDE_CONFIG";
  const text = env[key];
  if (!text) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // The parser's message quotes the text, which may hold secrets.
  }
  problems.push({
    key,
    message: `${key} must be a JSON object of config keys, such as {"FEATURE_ANONYMOUS_ACCESS": false}`,
  });
  return {};
}

function readSwitch(env: Environment, key: string, problems: ConfigProblem[]): boolean | undefined {
  const text = env[key]?.trim().toLowerCase();
  if (text === undefined || text === "") return undefined;
  if (["true", "1", "yes", "on"].includes(text)) return true;
  if (["false", "0", "no", "off"].includes(text)) return false;
  problems.push({ key, message: `${key} must be true or false. It is ${JSON.stringify(env[key])}.` });
  return undefined;
}
