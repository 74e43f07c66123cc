/**
 * What routes of /api/v1 ask before they act: a role on a repository, a standing in an organization, the caller's own
 * account, or a superuser. Each refusal carries the id of the rule that decided, which `explain` spells out.
 */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { NamespaceName, ParsedRepositoryPath } from "../../oci/names.ts";
import { capStanding, findStanding, type OrganizationStanding, OUTSIDE } from "../organization/standing.ts";
import { type Account, findAccount } from "../user/account.ts";
import { decideRole, hiddenRule, type Rule, restrictedInOwnNamespace } from "./access.ts";
import { type Caller, hasScope, type Principal, scopesCoverRole } from "./actor.ts";
import { findNamespaceFacts, type RepositoryFacts } from "./facts.ts";

type AccessApp = Pick<App, "config" | "db" | "lookup">;

/** The refusal that fits the caller: who is nobody may log in, others can only be told no. */
export function refused(caller: Caller, rule: Rule): RegistryError {
  const detail = { decision: rule };
  if (!caller.principal) return new RegistryError("unauthorized", { detail });
  return new RegistryError("denied", { detail });
}

/**
 * The repository, if the caller has the role there. Throws `not_found` only to those who may know that it is absent; to
 * others an absent and a hidden repository are the same. Throws `registry_readonly` for changes while nothing may change.
 */
export async function requireRepositoryRole(
  app: AccessApp,
  caller: Caller,
  parsed: ParsedRepositoryPath,
  needed: "read" | "write" | "admin",
): Promise<RepositoryFacts> {
  const repository = await app.lookup.repository(parsed.path);
  if (repository) {
    const role = await app.lookup.role(caller.principal, repository);
    const decision = decideRole(app.config, caller, repository, role, needed);
    if (decision.allowed) return repository;
    if (decision.rule === "registry-readonly") throw readonly();
    if (decision.mayKnow) throw refused(caller, decision.rule);
    throw refused(caller, hiddenRule(caller, scopesCoverRole(caller, needed)));
  }
  if (caller.principal && scopesCoverRole(caller, needed) && (await mayKnowAbsence(app, caller.principal, parsed))) {
    throw new RegistryError("not_found");
  }
  throw refused(caller, hiddenRule(caller, scopesCoverRole(caller, needed)));
}

/** Who would see the repository if it were there: the namespace's owner and admins, and superusers with full access. */
async function mayKnowAbsence(app: AccessApp, principal: Principal, parsed: ParsedRepositoryPath): Promise<boolean> {
  if (principal.globalReadonly || (principal.superuser && app.config.FEATURE_SUPERUSERS_FULL_ACCESS)) return true;
  const namespace = await findNamespaceFacts(app.db, parsed.namespace as NamespaceName, principal);
  if (!namespace) return false;
  return namespace.creatorRole || (principal.kind === "user" && principal.accountId === namespace.id);
}

/** Throws for a repository of kind application: it has a name and no tags. Source: quay-api reference, section 1.3. */
export function requireImages(repository: RepositoryFacts): void {
  if (repository.kind === "image") return;
  const message = `"${repository.path}" is a repository of kind "${repository.kind}", which has no images`;
  throw new RegistryError("not_implemented", { message });
}

/** Throws when the repository takes no changes to its tags. Source: quay-api reference, section 1.3. */
export function requireNormalState(repository: RepositoryFacts): void {
  if (repository.state === "NORMAL") return;
  throw new RegistryError("repository_not_normal", {
    message: `Repository is in read only or mirror mode: ${repository.state}`,
  });
}

/** Throws for a restricted user's own namespace: what is pushed there may not be changed either. Source: section 1.3. */
export function requireUnrestricted(caller: Caller, repository: RepositoryFacts): void {
  if (!restrictedInOwnNamespace(caller.principal, repository.namespaceId)) return;
  throw new RegistryError("denied", {
    message: "Operation not allowed on restricted user owned namespace",
    detail: { decision: "restricted-user" },
  });
}

export interface OrganizationAccess {
  readonly account: Account;
  /** As far as the caller's scopes go; a superuser counts as admin where the route lets it in. */
  readonly standing: OrganizationStanding;
}

/** The organization, if the caller stands as needed towards it. Throws `not_found` for one that is not there. */
export async function requireOrganization(
  app: AccessApp,
  caller: Caller,
  name: string,
  needed: "any" | "member" | "admin",
  superusersToo: boolean | "any",
): Promise<OrganizationAccess> {
  const { principal } = caller;
  if (!principal && needed !== "any") throw refused(caller, "anonymous");
  const account = await findAccount(app.db, name);
  if (account?.kind !== "organization") throw new RegistryError("not_found");
  const own = principal ? await findStanding(app.db, account.id, principal) : OUTSIDE;
  const capped = capStanding(caller, own);
  const asSuperuser = superusersToo && letsSuperuserIn(app, principal, superusersToo === "any");
  const standing = asSuperuser ? { isMember: true, isCreator: true, isAdmin: true } : capped;
  const isEnough = needed === "any" || (needed === "member" ? standing.isMember : standing.isAdmin);
  if (isEnough) return { account, standing };
  const wouldDo = needed === "member" ? own.isMember : own.isAdmin;
  throw refused(caller, wouldDo ? "token-scope" : "no-role");
}

/** Superusers act on others' organizations with FEATURE_SUPERUSERS_FULL_ACCESS; some things any of them may see. */
function letsSuperuserIn(app: Pick<App, "config">, principal: Principal | undefined, anyone: boolean): boolean {
  if (principal?.superuser !== true) return false;
  return app.config.FEATURE_SUPERUSERS_FULL_ACCESS || (anyone && app.config.FEATURE_SUPER_USERS);
}

/** The caller's own account. Throws for robots, and for tokens without the scope. */
export function requireAccountScope(caller: Caller, needed: "read" | "admin"): Principal {
  const { principal } = caller;
  if (!principal) throw refused(caller, "anonymous");
  if (principal.kind !== "user") throw refused(caller, "no-role");
  const isCovered = needed === "read" ? hasScope(caller, "user:read", "user:admin") : hasScope(caller, "user:admin");
  if (!isCovered) throw refused(caller, "token-scope");
  return principal;
}

/** A superuser whose credential covers that. */
export function requireSuperuser(app: Pick<App, "config">, caller: Caller): Principal {
  const { principal } = caller;
  if (!principal) throw refused(caller, "anonymous");
  if (!app.config.FEATURE_SUPER_USERS || !principal.superuser) {
    throw refused(
      caller,
      app.config.FEATURE_SUPER_USERS && principal.withoutSuperuser ? "token-scope" : "not-superuser",
    );
  }
  return principal;
}

export function readonly(): RegistryError {
  return new RegistryError("registry_readonly", {
    message: "System is currently read-only. Pulls will succeed but all write operations are currently suspended.",
  });
}
