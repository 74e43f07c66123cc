/**
 * The table of /api/v1: one line for each resource. Everything that knows the routes (the router, the OpenAPI document, the
 * tests' access matrix) reads this list, so a route that is not in it does not exist.
 */

import { appTokenRoutes } from "./app-token.ts";
import { errorRoutes } from "./error-type.ts";
import { oauthApplicationRoutes } from "./oauth-application.ts";
import { oauthAuthorizationRoutes } from "./oauth-authorization.ts";
import { organizationRoutes } from "./organization.ts";
import { organizationMemberRoutes } from "./organization-member.ts";
import { prototypeRoutes } from "./prototype.ts";
import { robotRoutes } from "./robot.ts";
import type { ApiRoute } from "./route.ts";
import { sessionRoutes } from "./session.ts";
import { teamRoutes } from "./team.ts";
import { teamInviteRoutes } from "./team-invite.ts";

/** All routes. Throws when one declares no need. */
export function apiRoutes(): readonly ApiRoute[] {
  const routes: readonly ApiRoute[] = [
    ...errorRoutes,
    ...appTokenRoutes,
    ...oauthApplicationRoutes,
    ...oauthAuthorizationRoutes,
    ...sessionRoutes,
    ...organizationRoutes,
    ...organizationMemberRoutes,
    ...prototypeRoutes,
    ...robotRoutes,
    ...teamRoutes,
    ...teamInviteRoutes,
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
