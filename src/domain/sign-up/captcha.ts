/** FEATURE_RECAPTCHA: sign-up, recovery and new organizations ask for proof that a person asks. */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import type { RequestOrigin } from "../audit/audit.ts";

/**
 * Throws `captcha_failed` with Quay's text unless the captcha's answer is good, or the caller is one of
 * RECAPTCHA_WHITELISTED_USERS. Source: quay-api reference, section 2.2.
 */
export async function requireHuman(
  app: Pick<App, "config" | "captcha">,
  input: { caller: Caller; answer: string | undefined; request: RequestOrigin },
): Promise<void> {
  if (!app.config.FEATURE_RECAPTCHA) return;
  const { caller, answer, request } = input;
  if (caller.principal && app.config.RECAPTCHA_WHITELISTED_USERS.includes(caller.principal.username)) return;
  if (answer !== undefined && (await app.captcha.verify(answer, request.ip))) return;
  throw new RegistryError("captcha_failed", {
    message: "Are you a bot? If not, please revalidate the captcha.",
  });
}
