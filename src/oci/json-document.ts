/**
 * From bytes to a JSON object that every parser reads alike. Two programs that see different manifests in the same bytes
 * are a way past whoever checks them, so invalid UTF-8, repeated keys and keys that only differ in letter case from one
 * that matters are refused here. Nothing is ever encoded again: the bytes stay what is stored and served.
 */

import { quoteValue, showValue } from "./quote.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** Nesting that a document may have. Manifests have four levels; this leaves room for foreign fields and bounds the scan. */
export const JSON_DEPTH_MAX = 64;

/** What is wrong with a document, and where: `layers[3].size`. Turned into a RegistryError by whoever asked. */
export class DocumentFault extends Error {
  constructor(path: string, problem: string) {
    super(path === "" ? problem : `${path}: ${problem}`);
    this.name = "DocumentFault";
  }
}

/** Reads bytes as one JSON object. Throws `DocumentFault`. */
export function readJsonObject(bytes: Uint8Array): JsonObject {
  const text = decodeUtf8(bytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // RangeError: nested so deeply that the parser ran out of stack.
    const reason = error instanceof SyntaxError ? showValue(error.message) : "it is nested too deeply";
    throw new DocumentFault("", `the document is not valid JSON: ${reason}`);
  }
  if (!isJsonObject(value)) throw new DocumentFault("", `the document must be a JSON object, got ${kindOf(value)}`);
  requireUniqueKeys(text);
  return value;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The word for a value's type in messages, with the value itself when it is short. */
export function kindOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  return typeof value === "string" ? quoteValue(value) : String(value);
}

/** Field names that matter in one kind of object, by their spelling without letter case. */
export type FieldNames = ReadonlyMap<string, string>;

export function fieldNames(...names: string[]): FieldNames {
  return new Map(names.map((name) => [foldKey(name), name]));
}

/**
 * Refuses keys that are one of `known` but for letter case: decoders that ignore case (Go's does) would take them for it.
 */
export function requireExactKeys(object: JsonObject, known: FieldNames, path: string): void {
  for (const key of Object.keys(object)) {
    const name = known.get(foldKey(key));
    if (name !== undefined && name !== key) {
      throw new DocumentFault(path, `field ${quoteValue(key)} differs from ${quoteValue(name)} only in letter case`);
    }
  }
}

/** Upper case first, so that characters outside ASCII that some decoders fold onto letters (ſ, K) end up there too. */
function foldKey(key: string): string {
  return key.length > 64 ? key : key.toUpperCase().toLowerCase();
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    // A byte order mark stays in, and then is no JSON: other parsers refuse it as well.
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new DocumentFault("", "the document is not valid UTF-8");
  }
}

/**
 * Finds a key that stands twice in one object, at any depth. `text` is known to be valid JSON, so only strings, brackets
 * and colons need looking at, and strings are skipped by searching for their end.
 */
function requireUniqueKeys(text: string): void {
  // One entry for each open bracket: the keys of an object, nothing for an array.
  const open: (Set<string> | undefined)[] = [];
  let position = 0;
  while (position < text.length) {
    const code = text.charCodeAt(position);
    if (code === 0x22) {
      const end = endOfString(text, position);
      const keys = open[open.length - 1];
      if (keys && isKey(text, end)) addKey(keys, text.slice(position, end));
      position = end;
      continue;
    }
    if (code === 0x7b || code === 0x5b) {
      if (open.length === JSON_DEPTH_MAX) {
        throw new DocumentFault("", `the document is nested deeper than ${JSON_DEPTH_MAX} levels`);
      }
      open.push(code === 0x7b ? new Set() : undefined);
    } else if (code === 0x7d || code === 0x5d) {
      open.pop();
    }
    position += 1;
  }
}

/** Index after the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number): number {
  let quote = text.indexOf('"', start + 1);
  while (quote !== -1) {
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === 0x5c) backslashes += 1;
    if (backslashes % 2 === 0) return quote + 1;
    quote = text.indexOf('"', quote + 1);
  }
  return text.length;
}

function isKey(text: string, from: number): boolean {
  for (let position = from; position < text.length; position += 1) {
    const code = text.charCodeAt(position);
    if (code !== 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d) return code === 0x3a;
  }
  return false;
}

function addKey(keys: Set<string>, quoted: string): void {
  const key = quoted.includes("\\") ? (JSON.parse(quoted) as string) : quoted.slice(1, -1);
  if (keys.has(key)) throw new DocumentFault("", `field ${quoteValue(key)} stands twice in one object`);
  keys.add(key);
}
