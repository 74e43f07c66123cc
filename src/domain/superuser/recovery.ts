/** A superuser sends a user the link to choose a new password. Source: quay-api reference, section 15. */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import { RegistryError } from "../../errors.ts";
import { sendRecovery } from "../mail/mail.ts";
import { issueCode } from "../recovery/email-code.ts";
import { isSuperuser } from "../user/account.ts";
import { lockManagedUser } from "./queries.ts";

/**
 * Sends the mail and gives the address it went to. Throws `not_found`, `invalid_request` for a superuser or a user without
 * an address, and `mail_failed`.
 */
export async function sendManagedRecovery(
  app: Pick<App, "config" | "db" | "clock" | "mailer">,
  username: string,
): Promise<string> {
  if (app.config.AUTHENTICATION_TYPE !== "Database") {
    throw invalid("Cannot send a recovery e-mail for non-database auth");
  }
  const lifetimeMs = durationMs(app.config.USER_RECOVERY_TOKEN_LIFETIME);
  const { email, code } = await app.db.tx(async (tx) => {
    const user = await lockManagedUser(tx, username);
    if (!user) throw new RegistryError("not_found");
    if (isSuperuser(app.config, user)) throw invalid("Cannot send a recovery email for a superuser");
    if (user.email === undefined) throw invalid(`User "${username}" has no e-mail address to send to`);
    const made = { accountId: user.id, kind: "recovery", lifetimeMs, nowMs: app.clock.nowMs() } as const;
    return { email: user.email, code: await issueCode(tx, made) };
  });
  await sendRecovery(app, { to: email, username, code, lifetimeMs });
  return email;
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
