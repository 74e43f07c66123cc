/**
 * The table of /v2: every route and method with what it needs of its caller. A row that declares nothing is refused when
 * the table is built, so that no handler can be reached without a decision.
 */

import type { App } from "../../app.ts";
import type { Caller, RegistryAction } from "../../domain/access/actor.ts";
import type { RepositoryFacts } from "../../domain/access/facts.ts";
import type { RequestOrigin } from "../../domain/audit/audit.ts";
import type { ParsedRepositoryPath } from "../../oci/names.ts";
import type { V2Route } from "../../oci/path.ts";
import { blobRoutes } from "./blobs.ts";
import { catalogRoutes } from "./catalog.ts";
import { manifestRoutes } from "./manifests.ts";
import { referrerRoutes } from "./referrers.ts";
import { tagRoutes } from "./tags.ts";
import { uploadRoutes } from "./uploads.ts";

export type Method = "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
export type RouteKind = V2Route["kind"];

/** Everything a /v2 handler works on. */
export interface RegistryContext<Kind extends RouteKind = RouteKind> {
  readonly app: App;
  readonly caller: Caller;
  readonly request: Request;
  readonly route: Extract<V2Route, { kind: Kind }>;
  readonly query: URLSearchParams;
  /** Where the request came from, for the action log. */
  origin(): RequestOrigin;
}

/** A handler of a route that has a repository in its path. */
export interface RepositoryContext<Kind extends RouteKind = RouteKind> extends RegistryContext<Kind> {
  readonly repository: RepositoryFacts;
}

/**
 * - an action: the caller must be allowed it on the repository in the path, which must exist;
 * - `creates`: as push, but a missing repository is created if the caller may;
 * - `upload`: the session in the path must be the caller's own;
 * - `caller`: anybody with valid credentials or a valid token, an anonymous one too.
 *
 * The token service, which makes tokens out of credentials, stands outside this table.
 */
export type Needs = RegistryAction | "creates" | "upload" | "caller";

export type RouteEntry<Kind extends RouteKind> =
  | {
      readonly needs: RegistryAction;
      handle(context: RepositoryContext<Kind>): Promise<Response>;
      /** Answers for a repository that does not exist, to those who may know that; otherwise it is `name_unknown`. */
      whenAbsent?(context: RegistryContext<Kind>): Response;
    }
  | { readonly needs: "creates"; handle(context: RepositoryContext<Kind>): Promise<Response> }
  | {
      readonly needs: "upload";
      handle(context: RegistryContext<Kind> & { parsed: ParsedRepositoryPath }): Promise<Response>;
    }
  | { readonly needs: "caller"; handle(context: RegistryContext<Kind>): Promise<Response> };

export type MethodTable<Kind extends RouteKind> = Partial<Record<Method, RouteEntry<Kind>>>;
export type RouteTable = { readonly [Kind in Exclude<RouteKind, "token" | "unknown">]: MethodTable<Kind> };

const NEEDS: ReadonlySet<string> = new Set<Needs>(["pull", "push", "delete", "creates", "upload", "caller"]);

/** All of /v2 but the token service. Throws when a row declares no need. */
export function buildRoutes(): RouteTable {
  const table: RouteTable = {
    base: {
      GET: {
        needs: "caller",
        handle: async () => new Response("true", { headers: { "Content-Type": "application/json" } }),
      },
    },
    catalog: catalogRoutes,
    manifest: manifestRoutes,
    blob: blobRoutes,
    tags: tagRoutes,
    referrers: referrerRoutes,
    ...uploadRoutes,
  };
  requireNeeds(table);
  return table;
}

/** Throws for a row without a declared need. HEAD is served by GET's row. */
export function requireNeeds(table: Record<string, Record<string, { needs?: string }>>): void {
  for (const [kind, methods] of Object.entries(table)) {
    for (const [method, entry] of Object.entries(methods)) {
      if (NEEDS.has(entry.needs ?? "")) continue;
      throw new Error(`route ${method} ${kind} does not declare what it needs of its caller`);
    }
  }
}
