/**
 * The configuration this instance runs with, for superusers who look for a fault: secrets are starred, whatever key they
 * stand under. Source: quay-api reference, section 20.
 */

import type { App } from "../../app.ts";
import { configJsonSchema } from "../../config/dump-schema.ts";
import { redactConfig } from "../../config/redact.ts";

export interface ConfigDump {
  /** Every key with its effective value, defaults included. */
  readonly config: unknown;
  /** Keys that were given and that nobody knows. */
  readonly warning: Readonly<Record<string, unknown>>;
  readonly env: Readonly<Record<string, string>>;
  /** JSON Schema of config.yaml. */
  readonly schema: Readonly<Record<string, unknown>>;
}

export function dumpConfig(app: Pick<App, "config" | "given">): ConfigDump {
  const { unknownKeys, environment } = app.given;
  return { config: redactConfig(app.config), warning: unknownKeys, env: environment, schema: configJsonSchema() };
}
