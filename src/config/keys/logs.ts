/** Action logs and where they go: section 11 of the reference and its later additions. */
import { z } from "zod";
import {
  block,
  bool,
  duration,
  nullableCount,
  oneOf,
  openBlock,
  optionalCount,
  optionalPort,
  optionalSeconds,
  optionalText,
  optionalTexts,
  requiredText,
  seconds,
  text,
  texts,
  timerSeconds,
} from "../fields.ts";

export const LOG_PRODUCERS = ["elasticsearch", "kafka", "kinesis_stream", "splunk", "splunk_hec"] as const;

const logsModelConfig = block({
  producer: oneOf(LOG_PRODUCERS).optional(),
  elasticsearch_config: block({
    host: optionalText(),
    port: optionalPort(),
    access_key: optionalText(),
    secret_key: optionalText(),
    aws_region: optionalText(),
    use_ssl: bool(true),
    index_prefix: text("logentry_"),
    index_settings: openBlock().optional(),
  }).optional(),
  kafka_config: block({
    bootstrap_servers: optionalTexts(),
    topic: optionalText(),
    max_block_seconds: optionalSeconds(),
  }).optional(),
  kinesis_stream_config: block({
    stream_name: optionalText(),
    aws_region: optionalText(),
    aws_access_key: optionalText(),
    aws_secret_key: optionalText(),
    connect_timeout: optionalSeconds(),
    read_timeout: optionalSeconds(),
    retries: optionalCount(),
    max_pool_connections: optionalCount(),
  }).optional(),
  splunk_config: block({
    host: optionalText(),
    port: optionalPort(),
    bearer_token: optionalText(),
    url_scheme: oneOf(["http", "https"]).default("https"),
    verify_ssl: bool(true),
    index_prefix: optionalText(),
    ssl_ca_path: optionalText(),
  }).optional(),
  splunk_hec_config: block({
    host: requiredText(),
    port: optionalPort(),
    hec_token: requiredText(),
    url_scheme: oneOf(["http", "https"]).default("https"),
    verify_ssl: bool(true),
    index: optionalText(),
    splunk_host: optionalText(),
    splunk_sourcetype: optionalText(),
    ssl_ca_path: optionalText(),
  }).optional(),
});

/** A folder of a blob store that is neither a blob's nor an upload's: what `storage/paths.ts` takes. */
const FOLDER = /^\/?(?!(?:sha256|sha512|md5|uploads)(?:\/|$))(?:(?!\.\.?(?:\/|$))[A-Za-z0-9._-]{1,128}(?:\/|$)){1,8}$/i;
const folder = (initial: string, mayBeEmpty: boolean) =>
  z
    .string({ error: "must be text" })
    .refine((path) => (mayBeEmpty && path === "") || FOLDER.test(path), {
      error:
        "must be a folder in the blob store such as archive/logs, in letters, digits, dots, dashes and underscores",
    })
    .default(initial);

export const logKeys = {
  LOGS_MODEL: oneOf(["database", "transition_reads_both_writes_es", "elasticsearch", "splunk"]).default("database"),
  LOGS_MODEL_CONFIG: logsModelConfig.default({}),
  FEATURE_ACTION_LOG_ROTATION: bool(false),
  ACTION_LOG_ARCHIVE_LOCATION: optionalText(),
  ACTION_LOG_ARCHIVE_PATH: folder("actionlogarchive/", true),
  ACTION_LOG_ROTATION_THRESHOLD: duration("30d"),
  ACTION_LOG_ROTATION_FREQUENCY: seconds(43_200, 1),
  MINIMUM_LOGS_AGE_FOR_ARCHIVE: duration("7d"),
  ACTION_LOG_AUDIT_LOGINS: bool(true),
  ACTION_LOG_MAX_PAGE: nullableCount(),
  ALLOW_PULLS_WITHOUT_STRICT_LOGGING: bool(false),
  FEATURE_LOG_EXPORT: bool(true),
  EXPORT_ACTION_LOGS_STORAGE_PATH: folder("exportedactionlogs", false),
  EXPORT_ACTION_LOGS_SECONDS: seconds(3600, 1),
  EXPORT_ACTION_LOGS_MAXIMUM_SECONDS: seconds(3600, 1),
  EXPORT_ACTION_LOGS_MAXIMUM_QUERY_TIME_SECONDS: seconds(30, 1),
  EXPORT_ACTION_LOGS_WORKER_POLL_PERIOD: timerSeconds(60),
  FEATURE_AGGREGATED_LOG_COUNT_RETRIEVAL: bool(true),
  DISABLED_FOR_AUDIT_LOGS: texts(),
  DISABLED_FOR_PULL_LOGS: texts(),
  FEATURE_DISABLE_PULL_LOGS_FOR_FREE_NAMESPACES: bool(false),
  // Since 3.9:
  ACTION_LOG_AUDIT_LOGIN_FAILURES: bool(false),
  ACTION_LOG_AUDIT_PULL_FAILURES: bool(false),
  ACTION_LOG_AUDIT_PUSH_FAILURES: bool(false),
  ACTION_LOG_AUDIT_DELETE_FAILURES: bool(false),
  ALLOW_WITHOUT_STRICT_LOGGING: bool(false),
  FEATURE_EXTENDED_ACTION_LOGGING: bool(false),
};
