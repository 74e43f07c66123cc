/** Whether this registry sends mail, which is what confirmations, invitations and recovery depend on. */

import type { Config } from "../../config/schema.ts";

/** Mail goes out: the feature is on, as by default, and there is a server to hand it to. */
export function isMailing(config: Pick<Config, "FEATURE_MAILING" | "MAIL_SERVER">): boolean {
  return config.FEATURE_MAILING && config.MAIL_SERVER !== "";
}
