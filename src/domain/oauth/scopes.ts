/** OAuth scopes as texts: how they are read from requests and rows, and what people are told of them. */

import { RegistryError } from "../../errors.ts";
import { quoteValue } from "../../oci/quote.ts";
import { OAUTH_SCOPES, type OauthScope } from "../access/actor.ts";

/** What a person who is asked for consent sees, and what the API lists. Source: quay-api reference, sections 1.2 and 2. */
export interface ScopeView {
  readonly scope: OauthScope;
  readonly title: string;
  readonly description: string;
  readonly icon: string;
  /** Reaches further than a site should get without being asked again. */
  readonly dangerous: boolean;
}

const VIEWS: Record<OauthScope, Omit<ScopeView, "scope">> = {
  "repo:read": {
    title: "View all visible repositories",
    description: "See and pull every repository that you can see.",
    icon: "fa-hdd-o",
    dangerous: false,
  },
  "repo:write": {
    title: "Read/Write to any accessible repositories",
    description: "See, pull and push to every repository that you may push to, and change its tags and description.",
    icon: "fa-hdd-o",
    dangerous: false,
  },
  "repo:admin": {
    title: "Administer Repositories",
    description: "Everything you may do with a repository, its permissions and settings included.",
    icon: "fa-hdd-o",
    dangerous: false,
  },
  "repo:create": {
    title: "Create Repositories",
    description: "Create repositories in every namespace where you may.",
    icon: "fa-plus",
    dangerous: false,
  },
  "user:read": {
    title: "Read User Information",
    description: "See your account: name, e-mail address and organizations.",
    icon: "fa-user",
    dangerous: false,
  },
  "user:admin": {
    title: "Administer User",
    description: "Change your account, its robots and its tokens.",
    icon: "fa-gear",
    dangerous: true,
  },
  "org:admin": {
    title: "Administer Organization",
    description: "Manage your organizations: teams, robots, applications and default permissions.",
    icon: "fa-gear",
    dangerous: true,
  },
  "super:user": {
    title: "Super User Access",
    description: "Use the superuser's interfaces of this registry, if you are a superuser.",
    icon: "fa-street-view",
    dangerous: true,
  },
};

export function scopeViews(scopes: Iterable<OauthScope>): ScopeView[] {
  return [...scopes].map((scope) => ({ scope, ...VIEWS[scope] }));
}

export function isDangerous(scopes: Iterable<OauthScope>): boolean {
  return [...scopes].some((scope) => VIEWS[scope].dangerous);
}

/** Scopes of a row that we wrote; a word that this version does not know allows nothing. */
export function parseStoredScopes(text: string): ReadonlySet<OauthScope> {
  return new Set(words(text).filter(isScope));
}

/** Scopes of a request, separated by spaces or commas. Throws `invalid_request` for an unknown one or none at all. */
export function parseRequestedScopes(text: string): ReadonlySet<OauthScope> {
  const asked = words(text);
  const unknown = asked.find((word) => !isScope(word));
  if (unknown !== undefined) {
    const message = `The scope ${quoteValue(unknown)} is unknown; there are ${OAUTH_SCOPES.join(", ")}`;
    throw new RegistryError("invalid_request", { message });
  }
  if (asked.length === 0) throw new RegistryError("invalid_request", { message: "At least one scope must be given" });
  return new Set(asked.filter(isScope));
}

/** As rows and answers spell a set of scopes: in the order of the table. */
export function formatScopes(scopes: ReadonlySet<OauthScope>): string {
  return OAUTH_SCOPES.filter((scope) => scopes.has(scope)).join(" ");
}

/** True when every scope asked for is covered by those that were given before: the wider holds the narrower. */
export function scopesInclude(given: ReadonlySet<OauthScope>, asked: ReadonlySet<OauthScope>): boolean {
  return [...asked].every((scope) => given.has(scope) || WIDER[scope].some((wider) => given.has(wider)));
}

const WIDER: Record<OauthScope, readonly OauthScope[]> = {
  "repo:read": ["repo:write", "repo:admin"],
  "repo:write": ["repo:admin"],
  "repo:admin": [],
  "repo:create": [],
  "user:read": ["user:admin"],
  "user:admin": [],
  "org:admin": [],
  "super:user": [],
};

function words(text: string): string[] {
  return text.split(/[\s,]+/).filter((word) => word !== "");
}

function isScope(word: string): word is OauthScope {
  return (OAUTH_SCOPES as readonly string[]).includes(word);
}
