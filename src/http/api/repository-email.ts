/** Addresses that may be told of events of a repository. Source: quay-api reference, section 7. */

import { z } from "zod";
import type { RepositoryFacts } from "../../domain/access/facts.ts";
import {
  type AuthorizedEmail,
  findAuthorizedEmail,
  requestEmailAuthorization,
} from "../../domain/repository/authorized-email.ts";
import { RegistryError } from "../../errors.ts";
import { type ApiRoute, json, route } from "./route.ts";

const PATH = "/repository/{repository}/authorizedemail/{email}";

const emailSchema = () =>
  z.strictObject({ email: z.string(), repository: z.string(), namespace: z.string(), confirmed: z.boolean() });

function emailView({ name, namespace }: RepositoryFacts, { email, confirmed }: AuthorizedEmail) {
  return { email, repository: name, namespace, confirmed };
}

export const repositoryEmailRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: PATH,
    summary: "Tells whether an address agreed to be told of events of a repository",
    needs: { repository: "admin" },
    internal: true,
    feature: (config) => config.FEATURE_MAILING,
    answers: { 200: emailSchema },
    async handle({ app, repository, params }) {
      const found = await findAuthorizedEmail(app, repository, params.email ?? "");
      if (!found) throw new RegistryError("not_found");
      return json(200, emailView(repository, found));
    },
  }),
  route({
    method: "POST",
    path: PATH,
    summary: "Asks an address by mail to be told of events of a repository",
    needs: { repository: "admin" },
    internal: true,
    feature: (config) => config.FEATURE_MAILING,
    answers: { 200: emailSchema },
    async handle({ app, principal, repository, params }) {
      return json(
        200,
        emailView(repository, await requestEmailAuthorization(app, principal, repository, params.email ?? "")),
      );
    },
  }),
];
