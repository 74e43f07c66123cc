/** What every command does first: load the config and say what is odd about it. */

import { type LoadedConfig, loadConfig } from "../config/load.ts";
import type { Invocation } from "./invocation.ts";

const DATA_DEFAULT = "berth-data";

/** Throws ConfigError. */
export function loadFor({ options, env }: Invocation): LoadedConfig {
  return loadConfig({ configPath: text(options.config), dataDir: dataDirOf({ options }), env });
}

/** Where the embedded default keeps its data. */
export function dataDirOf({ options }: Pick<Invocation, "options">): string {
  return text(options.data) ?? DATA_DEFAULT;
}

export function text(value: string | boolean | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}
