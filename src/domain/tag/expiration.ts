/**
 * How long tags live when somebody says so: durations of labels and dates of requests, within what the config allows.
 * Source: quay-behaviour reference, sections 6 and 7. No database here.
 */

import type { Config } from "../../config/schema.ts";
import { durationMs } from "../../config/units.ts";

type ExpirationConfig = Pick<Config, "LABELED_EXPIRATION_MINIMUM" | "LABELED_EXPIRATION_MAXIMUM">;

/** The label that gives the tags of an image an end. */
export const EXPIRY_LABEL = "quay.expires-after";

/** Milliseconds that the label's value gives a tag, within the config's bounds; undefined for what is no duration. */
export function labeledLifetimeMs(config: ExpirationConfig, value: string): number | undefined {
  try {
    return clamp(durationMs(value), durationMs(config.LABELED_EXPIRATION_MINIMUM), maximumMs(config));
  } catch {
    return undefined;
  }
}

/**
 * The end of a tag that began at `startMs` and is asked to end at `wantedMs`: from the minimum to the maximum lifetime after
 * its beginning. For a tag that is older than the maximum, which would be dead at once, the maximum counts from now.
 */
export function clampExpiration(
  config: ExpirationConfig,
  tag: { startMs: number; wantedMs: number; nowMs: number },
): number {
  const latestMs = tag.startMs + maximumMs(config);
  return clamp(
    tag.wantedMs,
    tag.startMs + durationMs(config.LABELED_EXPIRATION_MINIMUM),
    latestMs > tag.nowMs ? latestMs : tag.nowMs + maximumMs(config),
  );
}

/**
 * The end of a tag that began at `startMs` when its manifest gets a label now. Not before the minimum from now: whoever
 * labels an old image by mistake has that long to notice.
 */
export function labeledExpiration(
  config: ExpirationConfig,
  tag: { startMs: number; lifetimeMs: number; nowMs: number },
): number {
  return Math.max(tag.startMs + tag.lifetimeMs, tag.nowMs + durationMs(config.LABELED_EXPIRATION_MINIMUM));
}

function maximumMs(config: ExpirationConfig): number {
  return durationMs(config.LABELED_EXPIRATION_MAXIMUM);
}

function clamp(value: number, min: number, max: number): number {
  return Math.max(min, Math.min(value, max));
}
