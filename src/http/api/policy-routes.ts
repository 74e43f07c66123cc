/**
 * The five routes that every kind of policy has, below each place that policies can be made for: an organization, the
 * caller's own namespace, a repository. What a policy is and does is the resource's own file.
 */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import { type PolicyScope, repositoryScope } from "../../domain/policy/scope.ts";
import { type ApiContext, type ApiNeeds, type ApiRoute, type HandlerInput, json, noContent } from "./route.ts";

/** A kind of policy. `body` is what `bodySchema` lets through. */
export interface PolicyResource<Body> {
  /** Last word of the paths: `autoprunepolicy`. */
  readonly word: string;
  /** For summaries: `auto-prune`. */
  readonly kind: string;
  feature(config: Config): boolean;
  readonly policySchema: () => z.ZodType;
  readonly bodySchema: () => z.ZodType<Body>;
  /** Policies as they are shown. */
  list(context: ApiContext, scope: PolicyScope): Promise<unknown[]>;
  get(context: ApiContext, scope: PolicyScope, uuid: string): Promise<unknown>;
  /** Gives the uuid of the new policy. */
  create(context: ApiContext, scope: PolicyScope, body: Body): Promise<string>;
  update(context: ApiContext, scope: PolicyScope, uuid: string, body: Body): Promise<void>;
  remove(context: ApiContext, scope: PolicyScope, uuid: string): Promise<void>;
}

type Context = ApiContext & HandlerInput;

export interface Place {
  readonly path: string;
  /** For summaries: `of an organization`. */
  readonly of: string;
  readonly needs: ApiNeeds;
  scopeOf(context: Context): PolicyScope;
}

export const ORGANIZATION_PLACE: Place = {
  path: "/organization/{orgname}",
  of: "of an organization",
  needs: { organization: "admin", superuser: true },
  scopeOf({ organization }) {
    const { id, username } = found(organization).account;
    return { namespaceId: id, namespace: username, repository: undefined };
  },
};

export const USER_PLACE: Place = {
  path: "/user",
  of: "of the caller's namespace",
  needs: { account: "admin" },
  scopeOf({ principal }) {
    const { accountId, username } = found(principal);
    return { namespaceId: accountId, namespace: username, repository: undefined };
  },
};

export const REPOSITORY_PLACE: Place = {
  path: "/repository/{repository}",
  of: "of a repository",
  needs: { repository: "admin" },
  scopeOf: ({ repository }) => repositoryScope(found(repository)),
};

/** All routes of a kind of policy. */
export function policyRoutes<Body>(resource: PolicyResource<Body>, places: readonly Place[]): ApiRoute[] {
  return places.flatMap((place) => routesOf(resource, place));
}

function routesOf<Body>(resource: PolicyResource<Body>, place: Place): ApiRoute[] {
  const all = `${place.path}/${resource.word}/`;
  const one = `${all}{policy_uuid}`;
  const policy = `${resource.kind} policy ${place.of}`;
  const shared = { needs: place.needs, feature: resource.feature, query: undefined };
  const uuidSchema = () => z.strictObject({ uuid: z.string() });
  const uuidOf = ({ params }: Context) => params.policy_uuid ?? "";
  return [
    {
      ...shared,
      method: "GET",
      path: all,
      summary: `Lists the ${resource.kind} policies ${place.of}`,
      body: undefined,
      answers: { 200: () => z.strictObject({ policies: z.array(resource.policySchema()) }) },
      async handle(context) {
        return json(200, { policies: await resource.list(context, place.scopeOf(context)) });
      },
    },
    {
      ...shared,
      method: "POST",
      path: all,
      summary: `Makes an ${policy}`,
      body: resource.bodySchema,
      answers: { 201: uuidSchema },
      async handle(context) {
        return json(201, { uuid: await resource.create(context, place.scopeOf(context), bodyOf(context)) });
      },
    },
    {
      ...shared,
      method: "GET",
      path: one,
      summary: `Shows an ${policy}`,
      body: undefined,
      answers: { 200: resource.policySchema },
      async handle(context) {
        return json(200, await resource.get(context, place.scopeOf(context), uuidOf(context)));
      },
    },
    {
      ...shared,
      method: "PUT",
      path: one,
      summary: `Changes an ${policy}`,
      body: resource.bodySchema,
      answers: { 204: null },
      async handle(context) {
        await resource.update(context, place.scopeOf(context), uuidOf(context), bodyOf(context));
        return noContent();
      },
    },
    {
      ...shared,
      method: "DELETE",
      path: one,
      summary: `Deletes an ${policy}`,
      body: undefined,
      answers: { 200: uuidSchema },
      async handle(context) {
        await resource.remove(context, place.scopeOf(context), uuidOf(context));
        return json(200, { uuid: uuidOf(context) });
      },
    },
  ];

  /** The router has parsed it with the resource's own schema. */
  function bodyOf(context: Context): Body {
    return context.body as Body;
  }
}

/** The router fills in what a place's `needs` ask for. */
function found<T>(subject: T | undefined): T {
  if (subject === undefined) throw new Error("the route was called without what it needs");
  return subject;
}
