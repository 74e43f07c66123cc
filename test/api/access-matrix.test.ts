/**
 * Asks for every cell of the API's access matrix: each route of the table as each kind of caller, repositories as private,
 * public and absent ones. A route without a row fails, and so does a row without a route.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { ApiRoute } from "../../src/http/api/route.ts";
import { apiRoutes } from "../../src/http/api/routes.ts";
import {
  CALLERS,
  type CallerCase,
  expected,
  MATRIX,
  type Outcome,
  REPOSITORIES,
  type RepositoryCase,
} from "./access-matrix.ts";
import { ApiAccessWorld } from "./access-world.ts";

const ROUTE_TIMEOUT_MS = 60_000;

let world: ApiAccessWorld;
beforeAll(async () => {
  world = await ApiAccessWorld.open();
}, 60_000);
afterAll(() => world.close());

/** What takes the subject of its own right away, and so gets a new one each time. */
const TAKES_ORGANIZATION = new Set(["DELETE /organization/{orgname}"]);
const TAKES_REPOSITORY = new Set(["DELETE /repository/{repository}"]);
/** Ends the caller's account: asked with an old password check, which is refused only after the right was found good. */
const TAKES_ACCOUNT = new Set(["DELETE /user/"]);
const TAKES_SESSION = new Set(["POST /signout"]);
/** Would stop the registry: who may is asked elsewhere. */
const STOPS = new Set(["POST /superuser/shutdown"]);

/** Bodies for routes whose handler decides by what is asked for. */
function bodyOf(key: string): unknown {
  const name = `made-${world.next()}`;
  switch (key) {
    case "POST /repository":
      return { namespace: "acme", repository: name, visibility: "private", description: "" };
    case "POST /organization/":
      return { name, email: `${name}@example.com` };
    case "POST /user/robots/{}/federation":
      return [{ issuer: "https://issuer.example", subject: name }];
    default:
      return {};
  }
}

/** Values of the other parts of a path: of the right form, and of nothing that is there. */
const PARTS: Record<string, string> = {
  teamname: "devs",
  username: "nosuch",
  error_type: "not_found",
  uuid: "00000000-0000-4000-8000-000000000000",
  prefix: "ali",
};

function rowKey({ method, path }: ApiRoute): string {
  return `${method} ${path.replace(/\{(?!orgname|repository)[a-z_]+\}/g, "{}")}`;
}

function pathOf(route: ApiRoute, repository: RepositoryCase | undefined, organization: string): string {
  const filled = route.path
    .replace("{orgname}", organization)
    .replace("{repository}", `${organization}/${repository ?? "private"}`)
    .replace(
      /\{([a-z_]+)\}/g,
      (_, name: string) => (route.method === "GET" || name !== "teamname" ? PARTS[name] : undefined) ?? "nosuch",
    );
  return filled + (QUERIES[rowKey(route)] ?? "");
}

/** Queries without which a route refuses everybody. */
const QUERIES: Record<string, string> = {
  "GET /repository": "?public=true",
  "GET /explain": "?repository=acme/public&action=pull",
  "GET /superuser/gc/explain": "?reference=acme/public",
};

async function outcomeOf(
  route: ApiRoute,
  caller: CallerCase,
  repository: RepositoryCase | undefined,
): Promise<Outcome | string> {
  const key = rowKey(route);
  let organization = "acme";
  const takesSubject = TAKES_ORGANIZATION.has(key) || (TAKES_REPOSITORY.has(key) && repository !== "absent");
  if (takesSubject && expected(MATRIX[key] ?? "any", caller, repository) === "in") {
    organization = `acme-${world.next()}`;
    await world.makeOrganization(organization);
  }
  const body =
    route.method === "GET" || (route.body === undefined && route.method === "DELETE") ? undefined : bodyOf(key);
  const answer = await world.ask(caller, route.method, pathOf(route, repository, organization), body);
  if (TAKES_SESSION.has(key)) await world.renew(caller);
  if (answer.status >= 500 && !KNOWN_5XX.has(answer.status)) return `${answer.status} ${answer.text}`;
  if (answer.status === 404 && MATRIX[key] === "off") return 404;
  if (answer.status !== 401 && answer.status !== 403) return "in";
  // Asked for only after the right was found good.
  return answer.text.includes('"fresh_login_required"') ? "in" : answer.status;
}

/** What a route that was reached may answer for the world's own reasons: no mail server, nothing behind it. */
const KNOWN_5XX = new Set([501, 520]);

const routes = apiRoutes();

test("each route has a row, and each row a route", () => {
  const keys = routes.map(rowKey);
  expect(keys.filter((key) => MATRIX[key] === undefined)).toEqual([]);
  expect(Object.keys(MATRIX).filter((key) => !keys.includes(key))).toEqual([]);
});

describe.each(routes.map((route) => [rowKey(route), route] as const))("%s", (key, route) => {
  const repositories = route.path.includes("{repository}") ? REPOSITORIES : [undefined];
  test.each(repositories)(
    "%s",
    async (repository) => {
      const right = MATRIX[key];
      if (right === undefined) throw new Error(`the access matrix has no row for "${key}"`);
      const wanted: Record<string, Outcome> = {};
      const found: Record<string, Outcome | string> = {};
      if (TAKES_ACCOUNT.has(key)) await world.setFresh(false);
      for (const caller of CALLERS) {
        const outcome = expected(right, caller, repository);
        const isToken = caller.includes("token");
        if (outcome === "in" && (STOPS.has(key) || (TAKES_ACCOUNT.has(key) && isToken))) continue;
        wanted[caller] = outcome;
        found[caller] = await outcomeOf(route, caller, repository);
      }
      if (TAKES_ACCOUNT.has(key)) await world.setFresh(true);
      expect(found).toEqual(wanted);
    },
    ROUTE_TIMEOUT_MS,
  );
});
