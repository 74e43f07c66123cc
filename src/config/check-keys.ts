/**
 * Holds each key of a config against its own schema and words what is wrong. Rules between keys are in `cross-checks.ts`,
 * and what this build can do with a value is in `support.ts`.
 */
import { z } from "zod";
import type { ConfigProblem } from "./error.ts";
import { isStorageDriver, storageDrivers } from "./keys/storage.ts";
import { isSecretName, REDACTED, redactText } from "./redact.ts";
import { configShape, schemaOf } from "./schema.ts";
import { nearestName } from "./suggest.ts";

export interface CheckedKeys {
  /** Parsed values of the keys that were given and are right, `<ID>_LOGIN_CONFIG` among them. */
  readonly values: ReadonlyMap<string, unknown>;
  readonly problems: readonly ConfigProblem[];
  readonly warnings: readonly string[];
}

/** Checks every given key by itself. Unknown keys are left out and warned about, as Quay keeps and ignores them. */
export function checkKeys(given: ReadonlyMap<string, unknown>): CheckedKeys {
  const values = new Map<string, unknown>();
  const problems: ConfigProblem[] = [];
  const warnings: string[] = [];
  for (const [key, value] of given) {
    const schema = schemaOf(key);
    if (!schema) {
      warnings.push(unknownName(key, key, Object.keys(configShape)));
      continue;
    }
    const parsed = schema.safeParse(value, { jitless: true });
    if (parsed.success) {
      if (parsed.data !== undefined) values.set(key, parsed.data);
      warnings.push(...unknownSubKeys(key, schema, value));
    } else if (value === null && isOptional(schema)) {
      // `KEY:` with nothing behind it is Python's None to Quay: for a key without a default that is the same as no key.
    } else {
      problems.push(...parsed.error.issues.map((issue) => describe(key, value, issue)));
    }
  }
  return { values, problems, warnings };
}

function isOptional(schema: z.ZodType): boolean {
  const absent = schema.safeParse(undefined);
  return absent.success && absent.data === undefined;
}

function describe(key: string, given: unknown, issue: z.core.$ZodIssue): ConfigProblem {
  const path = [key, ...issue.path.map(String)];
  const value = issue.path.reduce<unknown>(
    (inner, step) => (typeof inner === "object" && inner !== null ? Reflect.get(inner, step) : undefined),
    given,
  );
  // Quay names a driver's argument right behind its location; the place in the pair would only confuse.
  const shown = key === "DISTRIBUTED_STORAGE_CONFIG" ? path.filter((_, index) => index !== 2) : path;
  const name = shown.join(".");
  if (value === undefined) return { key: name, message: `${name} is required` };
  return { key: name, message: `${name} ${issue.message.replace(/\.$/, "")}. It is ${show(path, value)}.` };
}

/** A wrong value for a message: secrets starred, blocks and long text cut, so that nothing leaks that redaction knows. */
function show(path: readonly string[], value: unknown): string {
  if (value === null) return "empty";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a block";
  if (path.some(isSecretName)) return REDACTED;
  if (typeof value !== "string") return String(value);
  // Text where a block of settings belongs may well be that block, quoted by mistake, with its passwords.
  if (/_CONFIG$|_REDIS$|_ARGS$/.test(path.at(-1) ?? "") || /[{\n]|^\s*\[.*,/.test(value)) return "text";
  const text = redactText(value);
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

function unknownName(path: string, name: string, known: Iterable<string>): string {
  const nearest = nearestName(name, known);
  const hint = nearest === undefined ? "" : `; did you mean ${nearest}?`;
  return `${path} is not a key that Quay or Berth knows and is ignored${hint}`;
}

/** Misspelt sub-keys of the blocks whose sub-keys are all known. */
function unknownSubKeys(path: string, schema: z.ZodType, value: unknown): string[] {
  if (path === "DISTRIBUTED_STORAGE_CONFIG") return unknownStorageArguments(value);
  const inner = unwrap(schema);
  if (!(inner instanceof z.ZodObject) || typeof value !== "object" || value === null) return [];
  const shape: Record<string, z.ZodType | undefined> = inner.shape;
  return Object.entries(value).flatMap(([name, part]) => {
    const known = Object.hasOwn(shape, name) ? shape[name] : undefined;
    if (!known) return [unknownName(`${path}.${name}`, name, Object.keys(shape))];
    return unknownSubKeys(`${path}.${name}`, known, part);
  });
}

function unknownStorageArguments(value: unknown): string[] {
  return Object.entries(value ?? {}).flatMap(([id, engine]) => {
    const [driver, args]: unknown[] = Array.isArray(engine) ? engine : [];
    return isStorageDriver(driver)
      ? unknownSubKeys(`DISTRIBUTED_STORAGE_CONFIG.${id}`, storageDrivers[driver], args)
      : [];
  });
}

function unwrap(schema: unknown): unknown {
  let inner = schema;
  while (inner instanceof z.ZodDefault || inner instanceof z.ZodOptional || inner instanceof z.ZodNullable) {
    inner = inner.unwrap();
  }
  return inner;
}
