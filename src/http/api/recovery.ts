/** POST /recovery: a forgotten password. What the mailed link opens is http/mail-link. Source: quay-api reference, section 2. */

import { z } from "zod";
import { readonly } from "../../domain/access/require.ts";
import { isMailing } from "../../domain/mail/mailing.ts";
import { requestRecovery } from "../../domain/recovery/recovery.ts";
import { type ApiRoute, json, route } from "./route.ts";

export const recoveryRoutes: readonly ApiRoute[] = [
  route({
    method: "POST",
    path: "/recovery",
    summary: "Sends a mail by which the owner of the address can choose a new password",
    needs: "anyone",
    anonymousOk: true,
    internal: true,
    feature: (config) => isMailing(config) && config.AUTHENTICATION_TYPE === "Database",
    body: () => z.object({ email: z.string(), recaptcha_response: z.string().nullish() }),
    answers: {
      200: () =>
        z.union([
          z.strictObject({ status: z.literal("sent") }),
          z.strictObject({ status: z.literal("org"), orgemail: z.string(), orgname: z.string() }),
        ]),
    },
    async handle({ app, caller, body, origin }) {
      if (app.config.REGISTRY_STATE === "readonly") throw readonly();
      const { email, recaptcha_response } = body;
      const captcha = recaptcha_response ?? undefined;
      return json(200, await requestRecovery(app, { email, captcha, caller, request: origin() }));
    },
  }),
];
