/** What every command does first: load the config and say what is odd about it. */

import { statSync } from "node:fs";
import { type LoadedConfig, loadConfig } from "../config/load.ts";
import { sqlitePath } from "../db/open.ts";
import { type Invocation, UsageError } from "./invocation.ts";

const DATA_DEFAULT = "berth-data";

/** Throws ConfigError. */
export function loadFor({ options, env }: Invocation): LoadedConfig {
  return loadConfig({ configPath: text(options.config), dataDir: dataDirOf({ options }), env });
}

/**
 * For commands that work on a registry that is there. A SQLite file is made when it is opened: in the wrong folder they would
 * make an empty registry and say that all is well. Throws UsageError.
 */
export function requireRegistry({ config }: LoadedConfig): void {
  if (!config.DB_URI.startsWith("sqlite")) return;
  const path = sqlitePath(config.DB_URI);
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) return;
  throw new UsageError(
    `there is no registry: "${path}" is not there; name its data with --data or its config with --config`,
  );
}

/** Where the embedded default keeps its data. */
export function dataDirOf({ options }: Pick<Invocation, "options">): string {
  return text(options.data) ?? DATA_DEFAULT;
}

export function text(value: string | boolean | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}
