/**
 * Reads config.yaml with Bun's parser, which reads YAML 1.2 and names no line in its errors. This file finds the line, and
 * the duplicates that every YAML parser Quay uses swallows; `fields.ts` takes YAML 1.1's yes and no.
 */
import { ConfigError } from "./error.ts";

/** No real config.yaml is a hundredth of this; it bounds what a wrong --config can make us read. */
export const CONFIG_SIZE_BYTES_MAX = 1_048_576;

export interface ParsedYaml {
  /** Top-level keys with their values, as written. Empty for an empty file. */
  readonly values: ReadonlyMap<string, unknown>;
  readonly warnings: readonly string[];
}

/** Parses the text of a config file. Throws ConfigError with the line when it is no YAML or not a block of keys. */
export function parseConfigYaml(text: string, fileName: string): ParsedYaml {
  const fail = (message: string, cause?: unknown): never => {
    throw new ConfigError([{ key: fileName, message }], cause);
  };
  let document: unknown;
  try {
    document = Bun.YAML.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^YAML Parse error: /, "") : String(error);
    return fail(`cannot read "${fileName}" as YAML: ${findBrokenLine(text)}${reason}`, error);
  }
  if (document === null || document === undefined) return { values: new Map(), warnings: [] };
  if (typeof document !== "object" || Array.isArray(document)) {
    return fail(
      `cannot use "${fileName}": it must be one block of keys and values, such as SERVER_HOSTNAME: registry.example.com`,
    );
  }
  return { values: new Map(Object.entries(document)), warnings: duplicateWarnings(text, fileName) };
}

/** Each line of a broken file may cost one parse of what is before it, so only files of a human size are searched. */
const SEARCHED_LINES_MAX = 5_000;

/** "line 12: ", the first line that cannot be part of any readable beginning of the file; empty for huge files. */
function findBrokenLine(text: string): string {
  const lines = text.split("\n");
  if (lines.length > SEARCHED_LINES_MAX) return "";
  // An unfinished beginning may fail where the file would not; the longest readable one ends right before the fault.
  let readable = lines.length - 1;
  while (readable > 0 && !isReadable(lines.slice(0, readable).join("\n"))) readable--;
  return `line ${firstFilledLine(lines, readable)}: `;
}

function firstFilledLine(lines: readonly string[], from: number): number {
  const found = lines.findIndex((line, index) => index >= from && /^\s*[^\s#]/.test(line));
  return (found < 0 ? from : found) + 1;
}

function isReadable(text: string): boolean {
  try {
    Bun.YAML.parse(text);
    return true;
  } catch {
    return false;
  }
}

function duplicateWarnings(text: string, fileName: string): string[] {
  const firstLines = new Map<string, number>();
  const warnings: string[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const key = /^([A-Za-z0-9_]+)\s*:(\s|$)/.exec(line)?.[1];
    if (key === undefined) continue;
    const first = firstLines.get(key);
    if (first !== undefined)
      warnings.push(`${fileName} sets ${key} twice, in lines ${first} and ${index + 1}; the last one counts`);
    firstLines.set(key, index + 1);
  }
  return warnings;
}
