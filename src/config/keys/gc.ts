/** Garbage collection: section 6 of the reference. */
import { bool, nullableDuration, optionalSeconds, seconds, text } from "../fields.ts";

export const gcKeys = {
  FEATURE_GARBAGE_COLLECTION: bool(true),
  FEATURE_NAMESPACE_GARBAGE_COLLECTION: bool(true),
  FEATURE_REPOSITORY_GARBAGE_COLLECTION: bool(true),
  GARBAGE_COLLECTION_FREQUENCY: seconds(30, 1),
  /** Null keeps expired app-specific tokens for ever. */
  EXPIRED_APP_SPECIFIC_TOKEN_GC: nullableDuration("1d"),
  NAMESPACE_GC_QUEUE_NAME: text("namespacegc"),
  REPOSITORY_GC_QUEUE_NAME: text("repositorygc"),
  QUEUE_CLEANUP_FREQUENCY: optionalSeconds(),
};
