/**
 * The table of /api/v1: one line for each resource. Everything that knows the routes (the router, the OpenAPI document, the
 * tests' access matrix) reads this list, so a route that is not in it does not exist.
 */

import { appTokenRoutes } from "./app-token.ts";
import { autoprunePolicyRoutes } from "./autoprune-policy.ts";
import { capabilitiesRoutes } from "./capabilities.ts";
import { deletedRoutes } from "./deleted.ts";
import { discoveryRoutes } from "./discovery.ts";
import { entityRoutes } from "./entity.ts";
import { errorRoutes } from "./error-type.ts";
import { explainRoutes } from "./explain.ts";
import { externalLoginRoutes } from "./external-login.ts";
import { immutabilityPolicyRoutes } from "./immutability-policy.ts";
import { labelRoutes } from "./label.ts";
import { logRoutes } from "./logs.ts";
import { manifestRoutes } from "./manifest.ts";
import { messageRoutes } from "./message.ts";
import { oauthApplicationRoutes } from "./oauth-application.ts";
import { oauthAuthorizationRoutes } from "./oauth-authorization.ts";
import { organizationRoutes } from "./organization.ts";
import { organizationMemberRoutes } from "./organization-member.ts";
import { prototypeRoutes } from "./prototype.ts";
import { quotaRoutes } from "./quota.ts";
import { recoveryRoutes } from "./recovery.ts";
import { repositoryRoutes } from "./repository.ts";
import { repositoryEmailRoutes } from "./repository-email.ts";
import { repositoryListRoutes } from "./repository-list.ts";
import { repositoryPermissionRoutes } from "./repository-permission.ts";
import { robotRoutes } from "./robot.ts";
import { robotFederationRoutes } from "./robot-federation.ts";
import type { ApiRoute } from "./route.ts";
import { searchRoutes } from "./search.ts";
import { serviceKeyRoutes } from "./service-key.ts";
import { sessionRoutes } from "./session.ts";
import { starRoutes } from "./star.ts";
import { superuserGcRoutes } from "./superuser-gc.ts";
import { superuserOrganizationRoutes } from "./superuser-organization.ts";
import { superuserQuotaRoutes } from "./superuser-quota.ts";
import { superuserRegistryRoutes } from "./superuser-registry.ts";
import { superuserScrubRoutes } from "./superuser-scrub.ts";
import { superuserUserRoutes } from "./superuser-user.ts";
import { tagRoutes } from "./tag.ts";
import { teamRoutes } from "./team.ts";
import { teamInviteRoutes } from "./team-invite.ts";
import { userRoutes } from "./user.ts";
import { userNotificationRoutes } from "./user-notification.ts";

/** All routes. Throws when one declares no need. */
export function apiRoutes(): readonly ApiRoute[] {
  const routes: readonly ApiRoute[] = [
    ...errorRoutes,
    ...appTokenRoutes,
    ...oauthApplicationRoutes,
    ...oauthAuthorizationRoutes,
    ...sessionRoutes,
    ...userRoutes,
    ...recoveryRoutes,
    ...userNotificationRoutes,
    ...externalLoginRoutes,
    ...organizationRoutes,
    ...organizationMemberRoutes,
    ...prototypeRoutes,
    ...robotRoutes,
    ...robotFederationRoutes,
    ...teamRoutes,
    ...teamInviteRoutes,
    ...quotaRoutes,
    ...autoprunePolicyRoutes,
    ...immutabilityPolicyRoutes,
    ...labelRoutes,
    ...logRoutes,
    ...manifestRoutes,
    ...tagRoutes,
    ...repositoryRoutes,
    ...repositoryListRoutes,
    ...repositoryPermissionRoutes,
    ...repositoryEmailRoutes,
    ...deletedRoutes,
    ...starRoutes,
    ...searchRoutes,
    ...entityRoutes,
    ...superuserUserRoutes,
    ...messageRoutes,
    ...explainRoutes,
    ...superuserOrganizationRoutes,
    ...superuserQuotaRoutes,
    ...serviceKeyRoutes,
    ...capabilitiesRoutes,
    ...superuserRegistryRoutes,
    ...superuserGcRoutes,
    ...superuserScrubRoutes,
    ...discoveryRoutes(() => routes),
  ];
  for (const { method, path, needs } of routes) {
    if (!isDeclared(needs)) throw new Error(`route ${method} ${path} does not declare what it needs of its caller`);
  }
  return routes;
}

function isDeclared(needs: unknown): boolean {
  if (needs === "anyone" || needs === "signed-in" || needs === "superuser") return true;
  if (typeof needs !== "object" || needs === null) return false;
  return "account" in needs || "organization" in needs || "repository" in needs;
}
