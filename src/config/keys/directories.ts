/** Outside directories that check passwords, LDAP, JWT and Keystone: sections 8.1 and 8.2 of the reference. */
import { z } from "zod";
import {
  bool,
  durationText,
  optionalSecret,
  optionalText,
  optionalTexts,
  seconds,
  text,
  texts,
  url,
} from "../fields.ts";

/** Filters are pasted into a larger one, so they must bring their own parentheses. */
const ldapFilter = () =>
  z
    .string({ error: "must be an LDAP filter in parentheses" })
    .regex(/^\(.*\)$/s, {
      error: "must be an LDAP filter in parentheses, such as (memberOf=cn=staff,dc=example,dc=com)",
    })
    .optional();

export const directoryKeys = {
  LDAP_URI: url(["ldap", "ldaps"]).default("ldap://localhost"),
  LDAP_BASE_DN: optionalTexts(),
  LDAP_ADMIN_DN: optionalText(),
  LDAP_ADMIN_PASSWD: optionalSecret(),
  LDAP_USER_RDN: texts(),
  LDAP_SECONDARY_USER_RDNS: texts(),
  LDAP_UID_ATTR: text("uid"),
  LDAP_EMAIL_ATTR: text("mail"),
  LDAP_USER_FILTER: ldapFilter(),
  LDAP_SUPERUSER_FILTER: ldapFilter(),
  LDAP_RESTRICTED_USER_FILTER: ldapFilter(),
  LDAP_ALLOW_INSECURE_FALLBACK: bool(false),
  LDAP_TIMEOUT: seconds(10, 1),
  LDAP_NETWORK_TIMEOUT: seconds(10, 1),
  LDAP_FOLLOW_REFERRALS: bool(true),
  JWT_VERIFY_ENDPOINT: url().optional(),
  JWT_QUERY_ENDPOINT: url().optional(),
  JWT_GETUSER_ENDPOINT: url().optional(),
  JWT_AUTH_ISSUER: optionalText(),
  JWT_AUTH_MAX_FRESH_S: seconds(300, 1),
  KEYSTONE_AUTH_URL: url().optional(),
  KEYSTONE_AUTH_VERSION: z.literal([2, 3], { error: "must be 2 or 3" }).optional(),
  /** Seconds, or a duration as the config tool writes it. */
  KEYSTONE_AUTH_TIMEOUT: z
    .union([z.int().min(1), durationText()], { error: "must be a whole number of seconds" })
    .optional(),
  KEYSTONE_ADMIN_USERNAME: optionalText(),
  KEYSTONE_ADMIN_PASSWORD: optionalSecret(),
  KEYSTONE_ADMIN_TENANT: optionalText(),
};
