/** Vulnerability scanning with Clair: section 9 of the reference and its later additions. */
import { bool, count, nullableText, number, oneOf, seconds, sizeText, text, url } from "../fields.ts";

export const secscanKeys = {
  FEATURE_SECURITY_SCANNER: bool(false),
  SECURITY_SCANNER_V4_ENDPOINT: url().nullable().default(null),
  /** Base64 of the key shared with Clair. */
  SECURITY_SCANNER_V4_PSK: nullableText(),
  SECURITY_SCANNER_INDEXING_INTERVAL: number(30, 1),
  SECURITY_SCANNER_V4_REINDEX_THRESHOLD: seconds(300),
  /** 0 takes the whole range at once. */
  SECURITY_SCANNER_V4_BATCH_SIZE: count(0),
  SECURITY_SCANNER_V4_RECENT_MANIFEST_BATCH_SIZE: count(1000),
  SECURITY_SCANNER_V4_SKIP_RECENT_MANIFEST_BATCH_LOCK: bool(false),
  SECURITY_SCANNER_V4_INDEX_MAX_LAYER_SIZE: sizeText().nullable().default(null),
  FEATURE_SECURITY_NOTIFICATIONS: bool(false),
  FEATURE_SECURITY_SCANNER_NOTIFY_ON_NEW_INDEX: bool(true),
  SECSCAN_V4_NOTIFICATION_QUEUE_NAME: text("secscanv4"),
  SECURITY_SCANNER_ENDPOINT: url().nullable().default(null),
  SECURITY_SCANNER_ISSUER_NAME: text("security_scanner"),
  // Since 3.9:
  NOTIFICATION_MIN_SEVERITY_ON_NEW_INDEX: oneOf(["Critical", "High", "Medium", "Low", "Negligible", "Unknown"]).default(
    "High",
  ),
  SECURITY_SCANNER_V4_MANIFEST_CLEANUP: bool(false),
  FEATURE_SECURITY_SCANNER_V2: bool(false),
  SECURITY_SCANNER_V2_BATCH_SIZE: count(0),
  SECURITY_SCANNER_V2_INDEXING_INTERVAL: number(30, 1),
};
