/**
 * Every rule that decides about access, in a sentence. The ids stand in refusals as `decision`; a rule without words does
 * not compile. Which rule decides is `domain/access/access.ts`.
 */

import type { ErrorCode } from "../../errors.ts";
import type { Rule } from "../access/access.ts";

export const RULES: Readonly<Record<Rule, string>> = {
  public:
    "The repository is public: everybody may pull from it, without signing in as long as FEATURE_ANONYMOUS_ACCESS is on.",
  "namespace-owner": "The repository is in the account's own namespace, where it is always admin.",
  role: "A role that allows the action was given on the repository: to the account itself, to a team that it is in, or by being in a team of role admin in the repository's organization.",
  "global-readonly": "GLOBAL_READONLY_SUPER_USERS names the account: it may pull from every repository.",
  "superuser-full-access":
    "The account is a superuser, and FEATURE_SUPERUSERS_FULL_ACCESS makes superusers admins of every repository.",
  "may-create":
    "The repository does not exist, and the account may create repositories in its namespace by pushing to them.",
  "token-scope":
    "The credential covers less than this: a registry token for other repositories or actions, or an OAuth token without the scope. The account itself may or may not have the right.",
  "token-expired": "The token's time is over. Log in again for a new one.",
  anonymous:
    "No credentials came with the request, and what was asked for is not open to everybody; or FEATURE_ANONYMOUS_ACCESS is off.",
  credentials:
    "The credentials that came with the request were not accepted: they are wrong or revoked, or the account is disabled.",
  csrf: "The request came with a browser's session, but without the CSRF value that belongs to it.",
  "fresh-login":
    "This change asks for the password again: the session's last check of it is longer ago than FRESH_LOGIN_TIMEOUT.",
  "no-role":
    "The account has no role that allows this here; or there is nothing here, which is not told to accounts that could not see it.",
  "restricted-user":
    "FEATURE_RESTRICTED_USERS is on, and restricted accounts may neither create nor push in their own namespace.",
  "repository-state": "The repository is read-only, or a mirror that takes pushes from its mirroring robot only.",
  "namespace-disabled": "The namespace of the repository has been disabled by a superuser.",
  "registry-readonly":
    "The registry takes no changes at the moment: REGISTRY_STATE is readonly, or DISABLE_PUSHES is on.",
  "not-superuser":
    "Only superusers may do this: accounts that SUPER_USERS names or that a superuser made one, while FEATURE_SUPER_USERS is on.",
  absent: "There is no such repository.",
};

export function isRule(text: string): text is Rule {
  return Object.hasOwn(RULES, text);
}

const DECISIONS: Partial<Record<ErrorCode, Rule>> = {
  unauthorized: "credentials",
  session_required: "anonymous",
  token_expired: "token-expired",
  denied: "no-role",
  namespace_disabled: "namespace-disabled",
  csrf_invalid: "csrf",
  fresh_login_required: "fresh-login",
  repository_not_normal: "repository-state",
};

/** The rule behind a refusal that names none itself; undefined for errors that are no refusals. */
export function decisionOf(code: ErrorCode): Rule | undefined {
  return DECISIONS[code];
}
