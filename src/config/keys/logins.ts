/**
 * External log-ins: section 8.3 of the reference. GitHub and Google have names of their own; every other
 * `<ID>_LOGIN_CONFIG` is an OpenID provider, whose id is the prefix in lower case.
 */
import type { z } from "zod";
import {
  block,
  oneOf,
  openBlock,
  optionalBool,
  optionalText,
  optionalTexts,
  requiredText,
  text,
  url,
} from "../fields.ts";

export const loginKeys = {
  GITHUB_LOGIN_CONFIG: block({
    GITHUB_ENDPOINT: url().optional(),
    API_ENDPOINT: url().optional(),
    CLIENT_ID: requiredText(),
    CLIENT_SECRET: requiredText(),
    ORG_RESTRICT: optionalBool(),
    ALLOWED_ORGANIZATIONS: optionalTexts(),
  })
    .nullable()
    .default(null),
  GOOGLE_LOGIN_CONFIG: block({ CLIENT_ID: requiredText(), CLIENT_SECRET: requiredText() }).nullable().default(null),
};

/** An OpenID provider. The server is https only, except in tests of Quay that set DEBUGGING. */
export const oidcLogin = block({
  OIDC_SERVER: url().refine((value) => value.endsWith("/"), { error: "must end with a trailing /" }),
  CLIENT_ID: requiredText(),
  CLIENT_SECRET: optionalText(),
  SERVICE_NAME: requiredText(),
  SERVICE_ICON: text("fa-user-circle"),
  LOGIN_SCOPES: optionalTexts(),
  VERIFIED_EMAIL_CLAIM_NAME: optionalText(),
  PREFERRED_USERNAME_CLAIM_NAME: optionalText(),
  PREFERRED_GROUP_CLAIM_NAME: optionalText(),
  LOGIN_BINDING_FIELD: oneOf(["sub", "username", "email"]).optional(),
  OIDC_ISSUER: optionalText(),
  OIDC_ENDPOINT_CUSTOM_PARAMS: openBlock().optional(),
  OIDC_DISABLE_USER_ENDPOINT: optionalBool(),
  USE_PKCE: optionalBool(),
  PKCE_METHOD: optionalText(),
  PUBLIC_CLIENT: optionalBool(),
  DEBUGGING: optionalBool(),
}).refine((login) => login.OIDC_SERVER.startsWith("https://") || login.DEBUGGING === true, {
  error: "must use https, unless DEBUGGING is true",
  path: ["OIDC_SERVER"],
});

export type OidcLogin = z.infer<typeof oidcLogin>;

const LOGIN_CONFIG = /^([A-Za-z0-9_]+)_LOGIN_CONFIG$/;
const NOT_OIDC = new Set(["GITHUB", "GOOGLE", "LDAP", "JWT", "KEYSTONE"]);

/** The provider's id (`azure` for AZURE_LOGIN_CONFIG), undefined when the key configures no OpenID provider. */
export function oidcServiceId(key: string): string | undefined {
  const prefix = LOGIN_CONFIG.exec(key)?.[1];
  return prefix === undefined || NOT_OIDC.has(prefix) ? undefined : prefix.toLowerCase();
}
