/** The time machine's window of a namespace: for how long a deleted tag can be restored. */

import type { Config } from "../../config/schema.ts";
import { durationMs } from "../../config/units.ts";
import { RegistryError } from "../../errors.ts";

/**
 * Throws `invalid_request` unless a namespace may change its window from `currentSeconds` to `seconds`: one of
 * TAG_EXPIRATION_OPTIONS, and only with FEATURE_CHANGE_TAG_EXPIRATION. Source: quay-behaviour reference, section 6.
 */
export function requireTagExpiration(
  config: Pick<Config, "TAG_EXPIRATION_OPTIONS" | "FEATURE_CHANGE_TAG_EXPIRATION">,
  seconds: number,
  currentSeconds: number,
): void {
  if (seconds === currentSeconds) return;
  if (!config.FEATURE_CHANGE_TAG_EXPIRATION) {
    throw new RegistryError("invalid_request", {
      message: `The tag expiration stays at ${currentSeconds} seconds: FEATURE_CHANGE_TAG_EXPIRATION is off`,
    });
  }
  if (config.TAG_EXPIRATION_OPTIONS.some((option) => durationMs(option) === seconds * 1000)) return;
  throw new RegistryError("invalid_request", { message: "Invalid tag expiration option" });
}
