/** Asks the captcha service whether an answer is a person's, by the RECAPTCHA_* keys of the config. */

import { z } from "zod";
import type { Config } from "../config/schema.ts";
import { RegistryError } from "../errors.ts";
import { errorFields, type Logger } from "../observe/logger.ts";

export interface CaptchaVerifier {
  /**
   * True when the service vouches for the answer. Throws `downstream_issue` when it cannot be asked: then nobody is let
   * through, and the operator reads why.
   */
  verify(answer: string, clientIp: string | undefined): Promise<boolean>;
}

/** Somebody waits for the answer. */
const TIMEOUT_MS = 10_000;
/** The service's own are a kilobyte. */
const ANSWER_CHARS_MAX = 4096;

export function createCaptchaVerifier(options: {
  readonly config: Pick<Config, "RECAPTCHA_SECRET_KEY" | "RECAPTCHA_VERIFY_URL">;
  readonly log: Logger;
}): CaptchaVerifier {
  const { config, log } = options;
  return {
    async verify(answer, clientIp) {
      if (answer === "" || answer.length > ANSWER_CHARS_MAX) return false;
      const form = new URLSearchParams({ secret: config.RECAPTCHA_SECRET_KEY ?? "", response: answer });
      if (clientIp !== undefined) form.set("remoteip", clientIp);
      try {
        const signal = AbortSignal.timeout(TIMEOUT_MS);
        const response = await fetch(config.RECAPTCHA_VERIFY_URL, { method: "POST", body: form, signal });
        if (!response.ok) throw new Error(`the captcha service answered ${response.status}`);
        return z.object({ success: z.boolean() }).parse(await response.json(), { jitless: true }).success;
      } catch (cause) {
        log.warn("a captcha cannot be checked", errorFields(cause));
        const message = "The captcha cannot be checked now. Please try again later.";
        throw new RegistryError("downstream_issue", { message, cause });
      }
    },
  };
}
