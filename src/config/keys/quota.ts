/** Storage quotas: section 7 of the reference and what later versions added to them. */
import { bool, bytes, count, seconds, timerSeconds } from "../fields.ts";

export const quotaKeys = {
  FEATURE_QUOTA_MANAGEMENT: bool(false),
  /** For namespaces without a quota of their own; 0 is no limit. */
  DEFAULT_SYSTEM_REJECT_QUOTA_BYTES: bytes(0),
  QUOTA_BACKFILL: bool(true),
  QUOTA_TOTAL_DELAY_SECONDS: timerSeconds(1800, 0),
  QUOTA_INVALIDATE_TOTALS: bool(true),
  QUOTA_BACKFILL_POLL_PERIOD: timerSeconds(15),
  QUOTA_BACKFILL_BATCH_SIZE: count(100, 1),
  QUOTA_REGISTRY_SIZE_POLL_PERIOD: seconds(60, 1),
  // Since 3.9:
  FEATURE_EDIT_QUOTA: bool(true),
  FEATURE_VERIFY_QUOTA: bool(true),
  FEATURE_QUOTA_SUPPRESS_FAILURES: bool(false),
  FEATURE_QUOTA_NOTIFICATIONS: bool(false),
  QUOTA_NOTIFICATION_COOLDOWN_SECONDS: seconds(86_400),
};
