/** Repository mirroring: section 10 of the reference, and organization mirroring of later versions. */
import { bool, bytes, count, hostname, number, seconds, texts } from "../fields.ts";

export const mirrorKeys = {
  FEATURE_REPO_MIRROR: bool(false),
  REPO_MIRROR_INTERVAL: number(30, 1),
  REPO_MIRROR_SERVER_HOSTNAME: hostname().nullable().default(null),
  REPO_MIRROR_TLS_VERIFY: bool(true),
  REPO_MIRROR_ROLLBACK: bool(false),
  REPO_MIRROR_TAG_ROLLBACK_PAGE_SIZE: count(100, 1),
  // Since 3.9:
  FEATURE_ORG_MIRROR: bool(false),
  ORG_MIRROR_INTERVAL: number(30, 1),
  ORG_MIRROR_MAX_DISCOVERY_DURATION: seconds(1800, 1),
  /** Hosts that user-supplied addresses may reach although they are private. */
  SSRF_ALLOWED_HOSTS: texts(),
  REPO_MIRROR_MAX_MANIFEST_LIST_SIZE: bytes(10_485_760),
  REPO_MIRROR_MAX_MANIFEST_ENTRIES: count(1000, 1),
};
