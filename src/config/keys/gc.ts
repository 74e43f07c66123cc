/** Garbage collection: section 6 of the reference. */
import { bool, nullableDuration, optionalSeconds, text, timerSeconds } from "../fields.ts";

export const gcKeys = {
  FEATURE_GARBAGE_COLLECTION: bool(true),
  FEATURE_NAMESPACE_GARBAGE_COLLECTION: bool(true),
  FEATURE_REPOSITORY_GARBAGE_COLLECTION: bool(true),
  GARBAGE_COLLECTION_FREQUENCY: timerSeconds(30),
  /** Null keeps expired app-specific tokens for ever. */
  EXPIRED_APP_SPECIFIC_TOKEN_GC: nullableDuration("1d"),
  NAMESPACE_GC_QUEUE_NAME: text("namespacegc"),
  REPOSITORY_GC_QUEUE_NAME: text("repositorygc"),
  QUEUE_CLEANUP_FREQUENCY: optionalSeconds(),
};
