/**
 * What a route of /api/v1 is: its path, what it needs of its caller, the zod schemas of what it takes and gives, and its
 * handler. Routing, access control, the OpenAPI document and the tests' access matrix are all made from these.
 */

import type { z } from "zod";
import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import type { Caller, Principal } from "../../domain/access/actor.ts";
import type { RepositoryFacts } from "../../domain/access/facts.ts";
import type { OrganizationAccess } from "../../domain/access/require.ts";
import type { RequestOrigin } from "../../domain/audit/audit.ts";
import type { Session } from "../../domain/session/session.ts";
import type { ErrorDetail } from "../../errors.ts";

export type ApiMethod = "GET" | "POST" | "PUT" | "DELETE";

/**
 * - "anyone": no right is asked for; with FEATURE_ANONYMOUS_ACCESS off only callers with credentials, unless `anonymousOk`;
 * - "signed-in": any user with valid credentials, whatever its scopes;
 * - account: the caller's own account, with the scope user:read or user:admin;
 * - organization: a standing in the organization of `{orgname}`; `superuser` lets superusers with full access in, or any;
 * - repository: a role on the repository of `{repository}`; `normalState` refuses changes in READ_ONLY and MIRROR,
 *   `images` refuses repositories of a kind that has none;
 * - "superuser": a superuser whose credential covers that.
 */
export type ApiNeeds =
  | "anyone"
  | "signed-in"
  | "superuser"
  | { readonly account: "read" | "admin" }
  | { readonly organization: "any" | "member" | "admin"; readonly superuser?: true | "any" }
  | { readonly repository: "read" | "write" | "admin"; readonly normalState?: true; readonly images?: true };

/** Who may be nobody: only where a right can be had without an account. */
type PrincipalOf<N> = N extends "anyone" | { organization: "any" } | { repository: "read" }
  ? Principal | undefined
  : Principal;
type Subject<N> = N extends { organization: string }
  ? { readonly organization: OrganizationAccess }
  : N extends { repository: string }
    ? { readonly repository: RepositoryFacts }
    : unknown;

/** What every handler works on. */
export interface ApiContext {
  readonly app: App;
  readonly caller: Caller;
  readonly request: Request;
  /** The variable parts of the path, decoded. */
  readonly params: Readonly<Record<string, string>>;
  /** The browser's session, when the caller came with one. */
  readonly session: Session | undefined;
  /** Root of this registry's URLs as the client knows it, without a slash at the end. */
  readonly baseUrl: string;
  /** Where the request came from, for the action log. */
  origin(): RequestOrigin;
}

/** Schemas stand behind functions, so that a start builds none of them. */
type SchemaThunk = () => z.ZodType;
type Parsed<T> = T extends () => infer S ? (S extends z.ZodType ? z.output<S> : undefined) : undefined;

interface RouteFacts {
  readonly method: ApiMethod;
  /** Below /api/v1, as Quay writes it: `/organization/{orgname}/team/{teamname}`; `{repository}` may hold slashes. */
  readonly path: string;
  readonly summary: string;
  /** The session's password check must be recent. OAuth tokens are exempt. */
  readonly freshLogin?: true;
  /** The route does not exist while this is false. */
  feature?(config: Config): boolean;
  /** Left out of the public description, as Quay does with routes of its own page. */
  readonly internal?: true;
  /** Answers nobody even when FEATURE_ANONYMOUS_ACCESS is off: signing in, recovering a password. */
  readonly anonymousOk?: true;
  /** Said besides, in the 401, to callers who are nobody. */
  readonly anonymousDetail?: ErrorDetail;
  /** A request without a body is one with an empty object, as Quay takes it there. */
  readonly bodyOptional?: true;
  /** Bytes of the largest body; 1 MiB by default. */
  readonly bodyBytesMax?: number;
  /** Strict schemas of the bodies of success, by status; null where there is none. */
  readonly answers: Readonly<Record<number, SchemaThunk | null>>;
}

/** A route as the table holds it. `handle` is only ever given what `needs`, `query` and `body` say. */
export interface ApiRoute extends RouteFacts {
  readonly needs: ApiNeeds;
  readonly query: SchemaThunk | undefined;
  readonly body: SchemaThunk | undefined;
  handle(context: ApiContext & HandlerInput): Promise<Response>;
}

/** The parts that depend on the route; `defineRoute` gives them their types. */
export interface HandlerInput {
  readonly query: unknown;
  readonly body: unknown;
  readonly principal: Principal | undefined;
  readonly organization: OrganizationAccess | undefined;
  readonly repository: RepositoryFacts | undefined;
}

/** Makes a route whose handler sees exactly what the route declares. */
export function route<
  const N extends ApiNeeds,
  Q extends SchemaThunk | undefined = undefined,
  B extends SchemaThunk | undefined = undefined,
>(
  definition: RouteFacts & {
    readonly needs: N;
    readonly query?: Q;
    readonly body?: B;
    handle(
      context: ApiContext & Subject<N> & { principal: PrincipalOf<N>; query: Parsed<Q>; body: Parsed<B> },
    ): Promise<Response>;
  },
): ApiRoute {
  // The router fills in what `needs`, `query` and `body` ask for before it calls; an array of routes cannot say so.
  return { query: undefined, body: undefined, ...definition } as unknown as ApiRoute;
}

/** A JSON answer. */
export function json(status: number, body: unknown, headers?: Record<string, string>): Response {
  return Response.json(body, { status, ...(headers ? { headers } : {}) });
}

/** 204. */
export function noContent(headers?: Record<string, string>): Response {
  return new Response(null, { status: 204, ...(headers ? { headers } : {}) });
}
