/**
 * The access table of /api/v1: who is let in at each route. Each route names its right in the words of the reference, and
 * below them stands who has that right. The rows are written from the reference, not from the routes' own declarations,
 * and `access-matrix.test.ts` asks for every cell over the routes that are served.
 */

export const CALLERS = [
  "anonymous",
  "stranger",
  "organization member",
  "organization creator",
  "organization admin",
  "repository reader",
  "repository writer",
  "repository admin",
  "robot of the organization",
  "robot of a user",
  "restricted user",
  "superuser",
  "superuser with full access",
  "global read-only superuser",
  "token repo:read",
  "token repo:write",
  "token repo:admin",
  "token repo:create",
  "token user:read",
  "token user:admin",
  "token org:admin",
  "token of every scope",
  "superuser's token super:user",
  "superuser's token of every other scope",
  "full access superuser's token repo:admin",
  "app token",
  "expired token",
  "revoked token",
  "session that was ended",
  "disabled user",
] as const;
export type CallerCase = (typeof CALLERS)[number];

/** A right as the reference's tables name it; `+SU` lets superusers with full access in. */
export type Right =
  | "any"
  | "signed in"
  | "user:read"
  | "user:admin"
  | "organization"
  | "org member"
  | "org member +SU"
  /** Any superuser, also without FEATURE_SUPERUSERS_FULL_ACCESS. */
  | "org member or SU"
  | "org admin"
  | "org admin +SU"
  | "team member"
  | "create organization"
  | "own robots"
  | "repository read"
  | "repository write"
  | "repository admin"
  | "create repository"
  | "superuser"
  /** Not there under Database authentication: 404 to everybody. */
  | "off";

export const REPOSITORIES = ["private", "public", "absent"] as const;
export type RepositoryCase = (typeof REPOSITORIES)[number];

/** "in": the handler was reached, whatever it made of the request. */
export type Outcome = "in" | 401 | 403 | 404;

/** Credentials that are good for nothing, or that /api/v1 does not take. */
const REFUSED_AT_ONCE: ReadonlySet<CallerCase> = new Set(["app token", "expired token", "revoked token"]);
/** What they came with makes nobody of them: robots have no log-in here, and an ended session is a visitor's cookie. */
const NOBODY: ReadonlySet<CallerCase> = new Set([
  "anonymous",
  "robot of the organization",
  "robot of a user",
  "session that was ended",
  "disabled user",
]);

const set = (...callers: CallerCase[]): ReadonlySet<CallerCase> => new Set(callers);

const SESSIONS = [
  "stranger",
  "organization member",
  "organization creator",
  "organization admin",
  "repository reader",
  "repository writer",
  "repository admin",
  "restricted user",
  "superuser",
  "superuser with full access",
  "global read-only superuser",
] as const;
/** Tokens are the organization admin's, but for those that say superuser. */
const TOKENS = [
  "token repo:read",
  "token repo:write",
  "token repo:admin",
  "token repo:create",
  "token user:read",
  "token user:admin",
  "token org:admin",
  "token of every scope",
  "superuser's token super:user",
  "superuser's token of every other scope",
  "full access superuser's token repo:admin",
] as const;
const REPOSITORY_TOKENS = ["token repo:read", "token repo:write", "token repo:admin", "token repo:create"] as const;
const ADMIN = ["organization admin", "token org:admin", "token of every scope"] as const;
const READERS = [
  "repository reader",
  "repository writer",
  "repository admin",
  "organization admin",
  "superuser with full access",
  "global read-only superuser",
  "token repo:read",
  "token repo:write",
  "token repo:admin",
  "token of every scope",
] as const;

/** Who has each right. Of repositories: on the private one. */
const HOLDERS: Record<Right, ReadonlySet<CallerCase>> = {
  any: set(...SESSIONS, ...TOKENS, ...NOBODY),
  organization: set(...SESSIONS, ...TOKENS, ...NOBODY),
  "signed in": set(...SESSIONS, ...TOKENS),
  "user:read": set(
    ...SESSIONS,
    "token user:read",
    "token user:admin",
    "token of every scope",
    "superuser's token of every other scope",
  ),
  "user:admin": set(...SESSIONS, "token user:admin", "token of every scope", "superuser's token of every other scope"),
  "org member": set("organization member", "organization creator", ...ADMIN, ...REPOSITORY_TOKENS),
  "org member +SU": set(
    "organization member",
    "organization creator",
    ...ADMIN,
    ...REPOSITORY_TOKENS,
    "superuser with full access",
  ),
  "org member or SU": set(
    "organization member",
    "organization creator",
    ...ADMIN,
    ...REPOSITORY_TOKENS,
    "superuser",
    "superuser with full access",
    "superuser's token super:user",
  ),
  "org admin": set(...ADMIN),
  "org admin +SU": set(...ADMIN, "superuser with full access"),
  "team member": set("organization member", ...ADMIN),
  "create organization": set(
    ...SESSIONS.filter((caller) => caller !== "restricted user"),
    "token user:admin",
    "token of every scope",
    "superuser's token of every other scope",
  ),
  "own robots": set(
    ...SESSIONS.filter((caller) => caller !== "restricted user"),
    "token user:admin",
    "token of every scope",
    "superuser's token of every other scope",
  ),
  "repository read": set(...READERS),
  "repository write": set(
    "repository writer",
    "repository admin",
    "organization admin",
    "superuser with full access",
    "token repo:write",
    "token repo:admin",
    "token of every scope",
  ),
  "repository admin": set(
    "repository admin",
    "organization admin",
    "superuser with full access",
    "token repo:admin",
    "token of every scope",
  ),
  "create repository": set(
    "organization creator",
    "organization admin",
    "superuser with full access",
    "token repo:create",
    "token of every scope",
  ),
  off: set(),
  superuser: set("superuser", "superuser with full access", "superuser's token super:user"),
};

/** Who is told that a repository is absent: who would see it if it were there, by more than a grant on it. */
const KNOWS_ABSENCE = set(
  "organization admin",
  "organization creator",
  "superuser with full access",
  "global read-only superuser",
  "token repo:read",
  "token repo:write",
  "token repo:admin",
  "token of every scope",
);

/** What a cell must answer. */
export function expected(right: Right, caller: CallerCase, repository: RepositoryCase | undefined): Outcome {
  if (right === "off") return 404;
  if (REFUSED_AT_ONCE.has(caller)) return 401;
  if (holds(right, caller, repository)) return "in";
  return NOBODY.has(caller) ? 401 : 403;
}

function holds(right: Right, caller: CallerCase, repository: RepositoryCase | undefined): boolean {
  if (repository === "public" && right === "repository read") return true;
  // A grant needs a repository to be on; the scope must cover what is asked, or absence is not told.
  if (repository === "absent" && right.startsWith("repository "))
    return KNOWS_ABSENCE.has(caller) && scopeCovers(right, caller);
  return HOLDERS[right].has(caller);
}

function scopeCovers(right: Right, caller: CallerCase): boolean {
  return !caller.startsWith("token ") || HOLDERS[right].has(caller);
}

/** One row for each route: its right. Parts of a path other than these two are written `{}`. */
export const MATRIX: Record<string, Right> = {
  // conventions
  "GET /error/{}": "any",
  "GET /discovery": "any",
  "GET /openapi.json": "any",
  "GET /registry/capabilities": "any",
  "GET /explain": "signed in",
  "GET /explain/{}": "any",

  // what was deleted: Berth's own
  "GET /user/deleted": "user:admin",
  "POST /user/deleted/{}/restore": "user:admin",
  "DELETE /user/deleted/{}": "user:admin",
  "GET /organization/{orgname}/deleted": "org admin +SU",
  "POST /organization/{orgname}/deleted/{}/restore": "org admin +SU",
  "DELETE /organization/{orgname}/deleted/{}": "org admin +SU",
  "GET /superuser/deleted": "superuser",
  "POST /superuser/deleted/{}/restore": "superuser",
  "DELETE /superuser/deleted/{}": "superuser",

  // section 2: user and session
  "GET /user/": "user:read",
  "POST /user/": "any",
  "PUT /user/": "user:admin",
  "DELETE /user/": "user:admin",
  "GET /users/{}": "any",
  "POST /user/clientkey": "user:admin",
  "POST /user/convert": "user:admin",
  "POST /recovery": "any",
  "GET /user/notifications": "user:admin",
  "GET /user/notifications/{}": "user:admin",
  "PUT /user/notifications/{}": "user:admin",
  "POST /externallogin/{}": "any",
  "POST /detachexternal/{}": "user:admin",
  "POST /signin": "any",
  "POST /signin/verify": "user:admin",
  "POST /signout": "any",
  "GET /user/authorizations": "user:admin",
  "GET /user/authorizations/{}": "user:admin",
  "DELETE /user/authorizations/{}": "user:admin",
  "GET /user/assignedauthorization": "user:admin",
  "DELETE /user/assignedauthorization/{}": "user:admin",
  "GET /user/starred": "user:admin",
  "POST /user/starred": "user:admin",
  "DELETE /user/starred/{repository}": "user:admin",

  // section 3: organizations
  "POST /organization/": "create organization",
  "GET /organization/{orgname}": "organization",
  "PUT /organization/{orgname}": "org admin",
  "DELETE /organization/{orgname}": "org admin",
  "GET /organization/{orgname}/collaborators": "org admin",
  "GET /organization/{orgname}/members": "org admin +SU",
  "GET /organization/{orgname}/members/{}": "org admin",
  "DELETE /organization/{orgname}/members/{}": "org admin",

  // section 4: teams
  "PUT /organization/{orgname}/team/{}": "org admin +SU",
  "DELETE /organization/{orgname}/team/{}": "org admin +SU",
  "GET /organization/{orgname}/team/{}/members": "team member",
  "PUT /organization/{orgname}/team/{}/members/{}": "org admin +SU",
  "DELETE /organization/{orgname}/team/{}/members/{}": "org admin",
  "PUT /organization/{orgname}/team/{}/invite/{}": "org admin",
  "DELETE /organization/{orgname}/team/{}/invite/{}": "org admin",
  "GET /organization/{orgname}/team/{}/permissions": "org admin",
  "PUT /teaminvite/{}": "user:admin",
  "DELETE /teaminvite/{}": "user:admin",

  // section 5: default permissions
  "GET /organization/{orgname}/prototypes": "org admin",
  "POST /organization/{orgname}/prototypes": "org admin",
  "PUT /organization/{orgname}/prototypes/{}": "org admin",
  "DELETE /organization/{orgname}/prototypes/{}": "org admin",

  // section 6: robots
  "GET /user/robots": "user:admin",
  "GET /user/robots/{}": "user:admin",
  "PUT /user/robots/{}": "own robots",
  "DELETE /user/robots/{}": "own robots",
  "GET /user/robots/{}/permissions": "user:admin",
  "POST /user/robots/{}/regenerate": "own robots",
  "GET /user/robots/{}/federation": "user:admin",
  "POST /user/robots/{}/federation": "own robots",
  "DELETE /user/robots/{}/federation": "own robots",
  "GET /organization/{orgname}/robots": "org member +SU",
  "GET /organization/{orgname}/robots/{}": "org admin +SU",
  "PUT /organization/{orgname}/robots/{}": "org admin +SU",
  "DELETE /organization/{orgname}/robots/{}": "org admin +SU",
  "GET /organization/{orgname}/robots/{}/permissions": "org admin +SU",
  "POST /organization/{orgname}/robots/{}/regenerate": "org admin +SU",
  "GET /organization/{orgname}/robots/{}/federation": "org admin +SU",
  "POST /organization/{orgname}/robots/{}/federation": "org admin +SU",
  "DELETE /organization/{orgname}/robots/{}/federation": "org admin +SU",

  // section 7: repositories
  "POST /repository": "create repository",
  "GET /repository": "any",
  "GET /repository/{repository}": "repository read",
  "PUT /repository/{repository}": "repository write",
  "DELETE /repository/{repository}": "repository admin",
  "POST /repository/{repository}/changevisibility": "repository admin",
  "PUT /repository/{repository}/changestate": "repository admin",
  "POST /repository/{repository}/changetrust": "repository admin",
  "GET /repository/{repository}/tokens/": "repository admin",
  "POST /repository/{repository}/tokens/": "repository admin",
  "GET /repository/{repository}/tokens/{}": "repository admin",
  "PUT /repository/{repository}/tokens/{}": "repository admin",
  "DELETE /repository/{repository}/tokens/{}": "repository admin",
  "GET /repository/{repository}/authorizedemail/{}": "repository admin",
  "POST /repository/{repository}/authorizedemail/{}": "repository admin",

  // section 8: tags
  "GET /repository/{repository}/tag/": "repository read",
  "PUT /repository/{repository}/tag/{}": "repository write",
  "DELETE /repository/{repository}/tag/{}": "repository write",
  "POST /repository/{repository}/tag/{}/restore": "repository write",
  "POST /repository/{repository}/tag/{}/expire": "repository write",
  "GET /repository/{repository}/tag/{}/pull_statistics": "repository read",

  // section 9: manifests and labels
  "GET /repository/{repository}/manifest/{}": "repository read",
  "GET /repository/{repository}/manifest/{}/labels": "repository read",
  "POST /repository/{repository}/manifest/{}/labels": "repository write",
  "GET /repository/{repository}/manifest/{}/labels/{}": "repository read",
  "DELETE /repository/{repository}/manifest/{}/labels/{}": "repository write",
  "GET /repository/{repository}/manifest/{}/pull_statistics": "repository read",

  // section 11: repository permissions
  "GET /repository/{repository}/permissions/user/": "repository admin",
  "GET /repository/{repository}/permissions/user/{}": "repository admin",
  "PUT /repository/{repository}/permissions/user/{}": "repository admin",
  "DELETE /repository/{repository}/permissions/user/{}": "repository admin",
  "GET /repository/{repository}/permissions/user/{}/transitive": "repository admin",
  "GET /repository/{repository}/permissions/team/": "repository admin",
  "GET /repository/{repository}/permissions/team/{}": "repository admin",
  "PUT /repository/{repository}/permissions/team/{}": "repository admin",
  "DELETE /repository/{repository}/permissions/team/{}": "repository admin",

  // section 13: quota
  "GET /organization/{orgname}/quota": "org member or SU",
  "POST /organization/{orgname}/quota": "superuser",
  "GET /organization/{orgname}/quota/{}": "org member or SU",
  "PUT /organization/{orgname}/quota/{}": "superuser",
  "DELETE /organization/{orgname}/quota/{}": "superuser",
  "GET /organization/{orgname}/quota/{}/limit": "org member",
  "POST /organization/{orgname}/quota/{}/limit": "superuser",
  "GET /organization/{orgname}/quota/{}/limit/{}": "org member",
  "PUT /organization/{orgname}/quota/{}/limit/{}": "superuser",
  "DELETE /organization/{orgname}/quota/{}/limit/{}": "superuser",
  "GET /user/quota": "user:admin",
  "GET /user/quota/{}": "user:admin",
  "GET /user/quota/{}/limit": "user:admin",
  "GET /user/quota/{}/limit/{}": "user:admin",
  "GET /superuser/users/{}/quota": "superuser",
  "POST /superuser/users/{}/quota": "superuser",
  "PUT /superuser/users/{}/quota/{}": "superuser",
  "DELETE /superuser/users/{}/quota/{}": "superuser",
  "GET /superuser/organization/{}/quota": "superuser",
  "POST /superuser/organization/{}/quota": "superuser",
  "PUT /superuser/organization/{}/quota/{}": "superuser",
  "DELETE /superuser/organization/{}/quota/{}": "superuser",

  // section 14: logs
  "GET /repository/{repository}/logs": "repository admin",
  "GET /repository/{repository}/aggregatelogs": "repository admin",
  "POST /repository/{repository}/exportlogs": "repository admin",
  "GET /user/logs": "user:admin",
  "GET /user/aggregatelogs": "user:admin",
  "POST /user/exportlogs": "user:admin",
  "GET /organization/{orgname}/logs": "org admin",
  "GET /organization/{orgname}/aggregatelogs": "org admin",
  "POST /organization/{orgname}/exportlogs": "org admin",

  // section 15: superusers
  "GET /superuser/logs": "superuser",
  "GET /superuser/aggregatelogs": "superuser",
  "GET /superuser/changelog/": "superuser",
  "GET /superuser/organizations/": "superuser",
  "PUT /superuser/organizations/{}": "superuser",
  "DELETE /superuser/organizations/{}": "superuser",
  "GET /superuser/gc": "superuser",
  "GET /superuser/gc/explain": "superuser",
  "GET /superuser/registrysize/": "superuser",
  "POST /superuser/registrysize/": "superuser",
  "GET /superuser/users/": "superuser",
  "POST /superuser/users/": "superuser",
  "GET /superuser/users/{}": "superuser",
  "PUT /superuser/users/{}": "superuser",
  "DELETE /superuser/users/{}": "superuser",
  "POST /superusers/users/{}/sendrecovery": "superuser",
  "POST /superuser/takeownership/{}": "superuser",
  "GET /superuser/keys": "superuser",
  "POST /superuser/keys": "superuser",
  "GET /superuser/keys/{}": "superuser",
  "PUT /superuser/keys/{}": "superuser",
  "DELETE /superuser/keys/{}": "superuser",
  "POST /superuser/approvedkeys/{}": "superuser",
  "GET /superuser/registrystatus": "superuser",
  "POST /superuser/shutdown": "superuser",
  "GET /superuser/config": "superuser",
  "GET /superuser/scrub": "superuser",
  "GET /superuser/apptokens": "superuser",

  // section 16: app tokens, applications, messages, search
  "GET /user/apptoken": "user:admin",
  "POST /user/apptoken": "user:admin",
  "GET /user/apptoken/{}": "user:admin",
  "DELETE /user/apptoken/{}": "user:admin",
  "GET /organization/{orgname}/applications": "org admin +SU",
  "POST /organization/{orgname}/applications": "org admin +SU",
  "GET /organization/{orgname}/applications/{}": "org admin +SU",
  "PUT /organization/{orgname}/applications/{}": "org admin +SU",
  "DELETE /organization/{orgname}/applications/{}": "org admin +SU",
  "POST /organization/{orgname}/applications/{}/resetclientsecret": "org admin +SU",
  "GET /organization/{orgname}/applications/{}/tokens": "org admin +SU",
  "POST /organization/{orgname}/applications/{}/tokens": "org admin +SU",
  "GET /organization/{orgname}/applications/{}/tokens/{}": "org admin +SU",
  "DELETE /organization/{orgname}/applications/{}/tokens/{}": "org admin +SU",
  "GET /app/{}": "any",
  "GET /messages": "any",
  "POST /messages": "superuser",
  "DELETE /message/{}": "superuser",
  "GET /entities/{}": "any",
  "POST /entities/link/{}": "off",
  "GET /find/all": "any",
  "GET /find/repositories": "any",
  "POST /bootstrap/renew": "signed in",

  // section 20: policies
  "GET /organization/{orgname}/autoprunepolicy/": "org admin +SU",
  "POST /organization/{orgname}/autoprunepolicy/": "org admin +SU",
  "GET /organization/{orgname}/autoprunepolicy/{}": "org admin +SU",
  "PUT /organization/{orgname}/autoprunepolicy/{}": "org admin +SU",
  "DELETE /organization/{orgname}/autoprunepolicy/{}": "org admin +SU",
  "POST /organization/{orgname}/autoprunepolicy/dryrun": "org admin +SU",
  "GET /organization/{orgname}/immutabilitypolicy/": "org admin +SU",
  "POST /organization/{orgname}/immutabilitypolicy/": "org admin +SU",
  "GET /organization/{orgname}/immutabilitypolicy/{}": "org admin +SU",
  "PUT /organization/{orgname}/immutabilitypolicy/{}": "org admin +SU",
  "DELETE /organization/{orgname}/immutabilitypolicy/{}": "org admin +SU",
  "GET /user/autoprunepolicy/": "user:admin",
  "POST /user/autoprunepolicy/": "user:admin",
  "GET /user/autoprunepolicy/{}": "user:admin",
  "PUT /user/autoprunepolicy/{}": "user:admin",
  "DELETE /user/autoprunepolicy/{}": "user:admin",
  "POST /user/autoprunepolicy/dryrun": "user:admin",
  "GET /repository/{repository}/autoprunepolicy/": "repository admin",
  "POST /repository/{repository}/autoprunepolicy/": "repository admin",
  "GET /repository/{repository}/autoprunepolicy/{}": "repository admin",
  "PUT /repository/{repository}/autoprunepolicy/{}": "repository admin",
  "DELETE /repository/{repository}/autoprunepolicy/{}": "repository admin",
  "POST /repository/{repository}/autoprunepolicy/dryrun": "repository admin",
  "GET /repository/{repository}/immutabilitypolicy/": "repository admin",
  "POST /repository/{repository}/immutabilitypolicy/": "repository admin",
  "GET /repository/{repository}/immutabilitypolicy/{}": "repository admin",
  "PUT /repository/{repository}/immutabilitypolicy/{}": "repository admin",
  "DELETE /repository/{repository}/immutabilitypolicy/{}": "repository admin",
};
