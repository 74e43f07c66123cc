/**
 * The OpenAPI 3.1 document of /api/v1, made from the table of routes: the schemas that check what comes and what goes are
 * the ones that are described, so the two cannot drift apart. Spec: OpenAPI 3.1.0.
 */

import { z } from "zod";
import { OAUTH_SCOPES, type OauthScope } from "../../domain/access/actor.ts";
import { VERSION } from "../../version.ts";
import { schemaOf } from "./input.ts";
import type { ApiNeeds, ApiRoute } from "./route.ts";

export type JsonObject = { [key: string]: unknown };

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query";
  readonly required: boolean;
  readonly description?: string;
  readonly schema: JsonObject;
}

export interface Answer {
  readonly description: string;
  readonly schema: JsonObject | undefined;
}

/** A route as both kinds of document describe it. */
export interface Operation {
  readonly method: string;
  /** From the root of the server. */
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly tag: string;
  readonly internal: boolean;
  readonly freshLogin: boolean;
  readonly parameters: readonly Parameter[];
  readonly body: JsonObject | undefined;
  readonly answers: Readonly<Record<string, Answer>>;
  /** Undefined: nobody has to be anybody. */
  readonly scopes: readonly OauthScope[] | undefined;
}

const ROOT = "/api/v1";

/** Stands for the root of the registry's URLs until a document is handed out. */
export const BASE = "urn:berth:base";

const STATUS_TEXTS: Readonly<Record<string, string>> = {
  200: "Done.",
  201: "Created.",
  202: "Accepted; it will be done.",
  204: "Done; there is nothing to tell.",
};

/** Texts of scopes, as the document lists them. */
const SCOPE_TEXTS: Readonly<Record<OauthScope, string>> = {
  "repo:read": "See repositories and pull from them",
  "repo:write": "Push to repositories, change their tags and descriptions",
  "repo:admin": "Administer repositories",
  "repo:create": "Create repositories",
  "user:read": "Read the account",
  "user:admin": "Change the account",
  "org:admin": "Administer organizations",
  "super:user": "Administer the registry",
};

export const scopeTexts = (): JsonObject =>
  Object.fromEntries(OAUTH_SCOPES.map((scope) => [scope, SCOPE_TEXTS[scope]]));

/** What is described of a route; one that is served outside the table has this much as well. */
export type DescribedRoute = Pick<
  ApiRoute,
  "method" | "path" | "summary" | "needs" | "freshLogin" | "internal" | "query" | "body" | "answers"
>;

/** Every route, in its order. Throws when two would have the same id. */
export function describeRoutes(routes: readonly DescribedRoute[]): Operation[] {
  const ids = new Set<string>();
  return routes.map((route) => {
    const operationId = [idOf(route, false), idOf(route, true)].find((id) => !ids.has(id));
    if (operationId === undefined) throw new Error(`no operation id for ${route.method} ${route.path}`);
    ids.add(operationId);
    return describe(route, operationId);
  });
}

function describe(route: DescribedRoute, operationId: string): Operation {
  return {
    method: route.method.toLowerCase(),
    path: ROOT + route.path,
    operationId,
    summary: route.summary,
    tag: route.path.split("/", 2)[1] ?? "",
    internal: route.internal === true,
    freshLogin: route.freshLogin === true,
    parameters: [...pathParameters(route.path), ...queryParameters(route)],
    body: route.body && toJsonSchema(route.body, "input"),
    answers: Object.fromEntries(
      Object.entries(route.answers).map(([status, thunk]) => [
        status,
        { description: STATUS_TEXTS[status] ?? "Done.", schema: thunk ? toJsonSchema(thunk, "output") : undefined },
      ]),
    ),
    scopes: scopesOf(route.needs),
  };
}

const VERBS: Readonly<Record<ApiRoute["method"], string>> = {
  GET: "get",
  POST: "create",
  PUT: "update",
  DELETE: "delete",
};

/** `getRepositoryTag`, as Quay words its nicknames; with the names of all parameters where that is not enough. */
function idOf({ method, path }: DescribedRoute, withAll: boolean): string {
  const words = path.split("/").filter((word) => word !== "");
  const parts = words.map((word, index) => {
    const parameter = /^\{(.*)\}$/.exec(word)?.[1];
    if (parameter === undefined) return pascal(word);
    return withAll || index === words.length - 1 ? `By${pascal(parameter)}` : "";
  });
  return VERBS[method] + parts.join("");
}

function pascal(word: string): string {
  return word
    .split(/[^A-Za-z0-9]+/)
    .map((part) => part.slice(0, 1).toUpperCase() + part.slice(1))
    .join("");
}

function pathParameters(path: string): Parameter[] {
  return [...path.matchAll(/\{([a-z_]+)\}/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    ...(name === "repository"
      ? { description: "The full path of the repository, with its slashes: namespace/name" }
      : {}),
    schema: { type: "string" },
  }));
}

function queryParameters(route: DescribedRoute): Parameter[] {
  if (!route.query) return [];
  const schema = toJsonSchema(route.query, "input");
  const properties = schema.properties as Record<string, JsonObject> | undefined;
  if (!properties) throw new Error(`the query of ${route.method} ${route.path} is no object of parameters`);
  const required = new Set(schema.required as string[] | undefined);
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: "query",
    required: required.has(name),
    schema: property,
  }));
}

function toJsonSchema(thunk: () => z.ZodType, io: "input" | "output"): JsonObject {
  const { $schema, ...schema } = z.toJSONSchema(schemaOf(thunk), { io, unrepresentable: "any" });
  return schema as JsonObject;
}

/** The narrowest scope that covers it. Source: quay-api reference, section 1.2. */
function scopesOf(needs: ApiNeeds): readonly OauthScope[] | undefined {
  if (needs === "anyone") return undefined;
  if (needs === "signed-in") return [];
  if (needs === "superuser") return ["super:user"];
  if ("account" in needs) return [needs.account === "read" ? "user:read" : "user:admin"];
  if ("organization" in needs) return needs.organization === "any" ? undefined : ["org:admin"];
  return [`repo:${needs.repository}`];
}

/** The envelope of errors. Source: quay-api reference, section 1.3. */
export const errorSchema = (): JsonObject => ({
  type: "object",
  description: "What went wrong",
  properties: {
    detail: { type: "string", description: "What went wrong, for people" },
    error_message: { type: "string", description: "The same as detail" },
    error_type: { type: "string", description: "What went wrong, for programs" },
    title: { type: "string", description: "The same as error_type" },
    type: { type: "string", description: "Where the error type is explained" },
    status: { type: "integer", description: "The HTTP status" },
    decision: {
      type: "string",
      description: "Of refusals: the rule that decided, explained at /api/v1/explain/{decision}",
    },
    message: { type: "string", description: "In place of all of these for some errors: what went wrong" },
  },
});

/** The document. Building it takes some tens of milliseconds: keep it. */
export function buildOpenApi(operations: readonly Operation[], sessionCookie: string): JsonObject {
  const paths: Record<string, JsonObject> = {};
  for (const operation of operations) {
    const path = paths[operation.path] ?? {};
    path[operation.method] = toOperation(operation);
    paths[operation.path] = path;
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Berth",
      version: VERSION,
      description: "The REST API of Red Hat Quay, as Berth answers it. Image clients use the OCI API under /v2.",
    },
    servers: [{ url: BASE }],
    tags: [...new Set(operations.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: { ApiError: errorSchema() },
      responses: {
        Error: {
          description: "What went wrong.",
          content: {
            "application/json": { schema: { $ref: "#/components/schemas/ApiError" } },
            // Quay's answer to too many log-ins.
            "text/plain": { schema: { type: "string" } },
          },
        },
      },
      securitySchemes: securitySchemes(sessionCookie),
    },
  };
}

function securitySchemes(sessionCookie: string): JsonObject {
  const authorizationUrl = `${BASE}/oauth/authorize`;
  const scopes = scopeTexts();
  return {
    oauth2: {
      type: "oauth2",
      description: "A token of an OAuth application, sent as bearer token",
      flows: {
        implicit: { authorizationUrl, scopes },
        authorizationCode: { authorizationUrl, tokenUrl: `${BASE}/oauth/access_token`, scopes },
      },
    },
    session: { type: "apiKey", in: "cookie", name: sessionCookie, description: "A browser's session" },
    csrf: {
      type: "apiKey",
      in: "header",
      name: "X-CSRF-Token",
      description: "The value of GET /csrf_token, with every change that comes with a session",
    },
  };
}

function toOperation(operation: Operation): JsonObject {
  const { body, answers } = operation;
  return {
    operationId: operation.operationId,
    summary: operation.summary,
    tags: [operation.tag],
    ...(operation.internal ? { "x-internal": true } : {}),
    ...(operation.freshLogin ? { "x-fresh-login": true } : {}),
    parameters: operation.parameters,
    ...(body ? { requestBody: { required: true, content: { "application/json": { schema: body } } } } : {}),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, { description, schema }]) => [
          status,
          { description, ...(schema ? { content: { "application/json": { schema } } } : {}) },
        ]),
      ),
      default: { $ref: "#/components/responses/Error" },
    },
    security: securityOf(operation),
  };
}

function securityOf({ method, scopes }: Operation): JsonObject[] {
  const session = method === "get" ? { session: [] } : { session: [], csrf: [] };
  const ways = [{ oauth2: scopes ?? [] }, session];
  return scopes ? ways : [{}, ...ways];
}
