/**
 * The one place that decides who may do what with a repository, for /v2 and /api/v1 alike. It works on facts that were
 * loaded before (repository, namespace, role), so that the same rules serve cached pulls, token requests and tests, and
 * it names the rule that decided. Rules: quay-behaviour reference, sections 3 to 5.
 */

import { type Caller, hasScope, type Principal, type RegistryAction, scopesCoverRole, tokenCovers } from "./actor.ts";
import type { NamespaceFacts, RepositoryFacts, Role } from "./facts.ts";

/** What may be asked of a repository. "admin" is never granted to /v2 tokens by name; `*` asks for it. */
export type Action = RegistryAction | "admin";

export type Rule =
  | "public"
  | "namespace-owner"
  | "role"
  | "global-readonly"
  | "superuser-full-access"
  | "may-create"
  | "token-scope"
  | "token-expired"
  | "anonymous"
  | "credentials"
  | "csrf"
  | "fresh-login"
  | "no-role"
  | "restricted-user"
  | "repository-state"
  | "namespace-disabled"
  | "registry-readonly"
  | "not-superuser"
  | "absent";

export interface Decision {
  readonly allowed: boolean;
  readonly rule: Rule;
  /** True when the caller may know that the repository exists, whatever else was decided. */
  readonly mayKnow: boolean;
}

/** The settings that rights depend on; Quay's own keys. */
export interface AccessPolicy {
  readonly FEATURE_ANONYMOUS_ACCESS: boolean;
  readonly FEATURE_SUPERUSERS_FULL_ACCESS: boolean;
  readonly REGISTRY_STATE: "normal" | "readonly";
  readonly DISABLE_PUSHES: boolean;
}

const RANK: Record<Role, number> = { none: 0, read: 1, write: 2, admin: 3 };
const NEEDED: Record<Action, Exclude<Role, "none">> = { pull: "read", push: "write", delete: "write", admin: "admin" };

/**
 * Decides an action on an existing repository. `role` is what `findRole` gave for this principal ("none" for anonymous).
 * Whether the token covers the action is decided here too.
 */
export function decide(
  policy: AccessPolicy,
  caller: Caller,
  repository: RepositoryFacts,
  role: Role,
  action: Action,
): Decision {
  const right = decideRight(policy, caller.principal, repository, role, action);
  if (caller.expired) return { ...right, allowed: false, rule: "token-expired" };
  if (action !== "admin" && !tokenCovers(caller, repository.path, action)) {
    // The token service leaves out what the account may not do now: a client that may read is told why (READ_ONLY, say),
    // because asking for a wider token would not help it.
    if (!right.allowed && tokenCovers(caller, repository.path, "pull")) return right;
    return { allowed: false, rule: "token-scope", mayKnow: right.mayKnow };
  }
  if (!scopesCoverRole(caller, NEEDED[action])) {
    return { allowed: false, rule: "token-scope", mayKnow: right.mayKnow && scopesCoverRole(caller, "read") };
  }
  return right;
}

/**
 * Decides a role on an existing repository for /api/v1, where what matters is the role alone: a repository that takes no
 * pushes may still be described, and the routes that change tags ask for its state themselves.
 */
export function decideRole(
  policy: AccessPolicy,
  caller: Caller,
  repository: RepositoryFacts,
  role: Role,
  needed: "read" | "write" | "admin",
): Decision {
  if (repository.state === "MARKED_FOR_DELETION") return deny("absent", false);
  const best = bestRole(policy, caller.principal, repository, role);
  const mayKnow = RANK[best.role] >= RANK.read && scopesCoverRole(caller, "read");
  if (RANK[best.role] < RANK[needed]) return deny(caller.principal ? "no-role" : "anonymous", mayKnow);
  // What anybody may read without a token is not refused to one that was made for something else.
  const isForAll = repository.visibility === "public" && policy.FEATURE_ANONYMOUS_ACCESS;
  if (needed === "read" && isForAll) return { allowed: true, rule: "public", mayKnow: true };
  if (!scopesCoverRole(caller, needed)) return deny("token-scope", mayKnow);
  if (needed !== "read" && policy.REGISTRY_STATE === "readonly") return deny("registry-readonly", mayKnow);
  return { allowed: true, rule: best.rule, mayKnow };
}

/**
 * The rule told to who may not know whether a repository exists: it follows from the caller alone, so that an absent one and
 * a hidden one look the same. `isCovered`: the token names the repository and action, or the scopes cover the role.
 */
export function hiddenRule(caller: Caller, isCovered: boolean): Rule {
  if (!caller.principal) return "anonymous";
  if (caller.expired) return "token-expired";
  return isCovered ? "no-role" : "token-scope";
}

/** What the account may do, whatever its token says: the token service asks this. */
export function decideRight(
  policy: AccessPolicy,
  principal: Principal | undefined,
  repository: RepositoryFacts,
  role: Role,
  action: Action,
): Decision {
  if (repository.state === "MARKED_FOR_DELETION") return deny("absent", false);
  const best = bestRole(policy, principal, repository, role);
  const mayKnow = RANK[best.role] >= RANK.read;
  if (RANK[best.role] < RANK[NEEDED[action]]) return deny(principal ? "no-role" : "anonymous", mayKnow);
  if (!repository.namespaceEnabled) return deny("namespace-disabled", mayKnow);
  if (action === "pull") return { allowed: true, rule: best.rule, mayKnow };

  if (policy.REGISTRY_STATE === "readonly") return deny("registry-readonly", mayKnow);
  if (policy.DISABLE_PUSHES && action === "push") return deny("registry-readonly", mayKnow);
  if (action !== "admin" && !writable(repository, principal)) return deny("repository-state", mayKnow);
  if (restrictedInOwnNamespace(principal, repository.namespaceId)) return deny("restricted-user", mayKnow);
  return { allowed: true, rule: best.rule, mayKnow };
}

/** Whether a repository that does not exist may be created, by pushing to it or by name. */
export function decideCreate(policy: AccessPolicy, caller: Caller, namespace: NamespaceFacts | undefined): Decision {
  const principal = caller.principal;
  if (!principal) return deny("anonymous", false);
  const inside = namespace !== undefined && mayCreateIn(policy, principal, namespace);
  if (!inside) return deny("no-role", false);
  if (!hasScope(caller, "repo:create")) return deny("token-scope", scopesCoverRole(caller, "read"));
  if (caller.expired) return deny("token-expired", true);
  if (!namespace.enabled) return deny("namespace-disabled", true);
  if (policy.REGISTRY_STATE === "readonly" || policy.DISABLE_PUSHES) return deny("registry-readonly", true);
  if (restrictedInOwnNamespace(principal, namespace.id)) return deny("restricted-user", true);
  return { allowed: true, rule: "may-create", mayKnow: true };
}

function mayCreateIn(policy: AccessPolicy, principal: Principal, namespace: NamespaceFacts): boolean {
  if (principal.kind === "user" && principal.accountId === namespace.id) return true;
  if (namespace.creatorRole) return true;
  return principal.superuser && policy.FEATURE_SUPERUSERS_FULL_ACCESS;
}

function bestRole(
  policy: AccessPolicy,
  principal: Principal | undefined,
  repository: RepositoryFacts,
  role: Role,
): { role: Role; rule: Rule } {
  const candidates: { role: Role; rule: Rule }[] = [{ role, rule: "role" }];
  if (repository.visibility === "public" && (principal || policy.FEATURE_ANONYMOUS_ACCESS)) {
    candidates.push({ role: "read", rule: "public" });
  }
  if (principal) {
    if (principal.kind === "user" && principal.accountId === repository.namespaceId) {
      candidates.push({ role: "admin", rule: "namespace-owner" });
    }
    if (principal.superuser && policy.FEATURE_SUPERUSERS_FULL_ACCESS) {
      candidates.push({ role: "admin", rule: "superuser-full-access" });
    }
    if (principal.globalReadonly) candidates.push({ role: "read", rule: "global-readonly" });
  }
  return candidates.reduce((best, next) => (RANK[next.role] > RANK[best.role] ? next : best));
}

/** Source: quay-behaviour reference, section 5: MIRROR takes pushes from its own robot only, READ_ONLY from nobody. */
function writable(repository: RepositoryFacts, principal: Principal | undefined): boolean {
  if (repository.state === "NORMAL") return true;
  return repository.state === "MIRROR" && principal !== undefined && repository.mirrorRobotId === principal.accountId;
}

/** True for a restricted user, or a robot of one, in the namespace that it owns. */
export function restrictedInOwnNamespace(principal: Principal | undefined, namespaceId: number): boolean {
  if (!principal?.restricted || principal.superuser) return false;
  return principal.accountId === namespaceId || principal.ownerId === namespaceId;
}

function deny(rule: Rule, mayKnow: boolean): Decision {
  return { allowed: false, rule, mayKnow };
}
