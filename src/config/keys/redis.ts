/**
 * Redis: section 4 of the reference. Berth needs none; the keys are accepted so that a Quay config starts unchanged, and
 * no warning is given for them.
 */
import { z } from "zod";
import { block, optionalBool, optionalCount, optionalPort, optionalText, requiredText } from "../fields.ts";

export const redis = () =>
  block({
    host: requiredText(),
    port: optionalPort(),
    password: optionalText(),
    ssl: optionalBool(),
    db: optionalCount(),
    // Named by Quay's redis client rather than its schema; operators of managed Redis services set them.
    username: optionalText(),
    ssl_ca_certs: optionalText(),
    ssl_cert_reqs: optionalText(),
  });

export const redisKeys = {
  /** Quay: {host: localhost}. Berth: none. */
  BUILDLOGS_REDIS: redis().optional(),
  /** Quay: {host: localhost}. Berth: none. */
  USER_EVENTS_REDIS: redis().optional(),
  BUILDLOGS_OPTIONS: z.array(z.unknown(), { error: "must be a list" }).default([]),
  PULL_METRICS_REDIS: redis().optional(),
};
