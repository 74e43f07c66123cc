/** The metadata database and Quay's look-up cache: section 2 of the reference. */
import { z } from "zod";
import { isDatabaseUri } from "../db-uri.ts";
import {
  block,
  bool,
  oneOf,
  openBlock,
  optionalBool,
  optionalCount,
  optionalSeconds,
  optionalText,
  requiredText,
  seconds,
} from "../fields.ts";

export const SSL_MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] as const;

export const databaseKeys = {
  /** Quay requires it. Berth: the loader fills in `sqlite:////<data directory>/berth.db`. */
  DB_URI: requiredText()
    .refine(isDatabaseUri, {
      error:
        "must be postgresql://user:password@host:5432/database, sqlite:///relative/path or sqlite:////absolute/path",
    })
    .optional(),
  DB_CONNECTION_ARGS: block({
    max_connections: optionalCount(),
    timeout: optionalSeconds(),
    stale_timeout: optionalSeconds(),
    sslmode: oneOf(SSL_MODES).optional(),
    sslrootcert: optionalText(),
    ssl: block({ ca: optionalText() }).optional(),
    sslcompression: z.union([z.boolean(), z.literal([0, 1])], { error: "must be true, false, 0 or 1" }).optional(),
    threadlocals: optionalBool(),
    autorollback: optionalBool(),
    // libpq's, which Quay's driver passes on; times in milliseconds, as PostgreSQL has them.
    target_session_attrs: optionalText(),
    options: optionalText(),
    statement_timeout: optionalCount(),
    lock_timeout: optionalCount(),
    idle_in_transaction_session_timeout: optionalCount(),
  }).default({ threadlocals: true, autorollback: true }),
  DB_CONNECTION_POOLING: bool(true),
  /** Berth's own: how long pulls go on from memory while nobody reaches the database. 0: they fail with everything else. */
  DB_OUTAGE_PULL_SECONDS: seconds(60),
  DB_TRANSACTION_FACTORY: z.unknown().optional(),
  FEATURE_CLEAR_EXPIRED_RAC_ENTRIES: bool(false),
  FEATURE_REPOSITORY_ACTION_COUNTER: bool(true),
  DATA_MODEL_CACHE_CONFIG: openBlock().default({
    engine: "memcached",
    endpoint: ["127.0.0.1", 18080],
    repository_blob_cache_ttl: "60s",
    catalog_page_cache_ttl: "60s",
    namespace_geo_restrictions_cache_ttl: "240s",
    active_repo_tags_cache_ttl: "120s",
  }),
};
