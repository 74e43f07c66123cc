/**
 * Log-ins by other services. This build offers none, so every name of one is unknown; the routes are here because Quay's
 * page and its clients ask them. Source: quay-api reference, section 2.
 */

import { z } from "zod";
import { RegistryError } from "../../errors.ts";
import { quoteValue } from "../../oci/quote.ts";
import { type ApiRoute, route } from "./route.ts";
import { successSchema } from "./session.ts";

export const externalLoginRoutes: readonly ApiRoute[] = [
  route({
    method: "POST",
    path: "/externallogin/{service_id}",
    summary: "Begins a log-in by another service",
    needs: "anyone",
    anonymousOk: true,
    internal: true,
    body: () => z.object({ kind: z.enum(["login", "attach", "cli"]) }),
    answers: { 200: () => z.strictObject({ auth_url: z.string() }) },
    async handle({ params }) {
      throw unknownService("invalid_request", params.service_id);
    },
  }),
  route({
    method: "POST",
    path: "/detachexternal/{service_id}",
    summary: "Ends the caller's log-in by another service",
    needs: { account: "admin" },
    internal: true,
    feature: (config) => config.FEATURE_DIRECT_LOGIN,
    answers: { 200: successSchema },
    async handle({ params }) {
      throw unknownService("not_found", params.service_id);
    },
  }),
];

function unknownService(code: "invalid_request" | "not_found", service = ""): RegistryError {
  return new RegistryError(code, {
    message: `There is no external log-in service ${quoteValue(service)} on this registry`,
  });
}
