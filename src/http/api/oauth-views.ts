/** How applications and what they were given look in answers. Source: quay-api reference, sections 2 and 16. */

import { z } from "zod";
import type { OauthScope } from "../../domain/access/actor.ts";
import { scopeViews } from "../../domain/oauth/scopes.ts";
import type { AuthorizedApplication } from "../../domain/oauth/token.ts";
import { avatar, avatarSchema } from "./views.ts";

export function applicationView(application: AuthorizedApplication) {
  const { name, description, applicationUri, avatarEmail, organization } = application;
  return {
    name,
    description,
    url: applicationUri,
    avatar: avatar("app", name, avatarEmail),
    organization: {
      name: organization.username,
      avatar: avatar("org", organization.username, organization.email),
    },
  };
}

export const applicationFields = () => ({
  name: z.string(),
  description: z.string(),
  url: z.string(),
  avatar: avatarSchema(),
  organization: z.strictObject({ name: z.string(), avatar: avatarSchema() }),
});

export function scopesView(scopes: ReadonlySet<OauthScope>) {
  return scopeViews(scopes);
}

export const scopesSchema = () =>
  z.array(
    z.strictObject({
      scope: z.string(),
      title: z.string(),
      description: z.string(),
      icon: z.string(),
      dangerous: z.boolean(),
    }),
  );
