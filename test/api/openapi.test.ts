/** The API's description of itself: whole, consistent, and about this server. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { DescribedRoute } from "../../src/http/api/openapi.ts";
import { apiRoutes } from "../../src/http/api/routes.ts";
import { toSwaggerSchema } from "../../src/http/api/swagger.ts";
import { userInitializeDescription } from "../../src/http/api/user-initialize.ts";
import { type Api, startApi } from "./harness.ts";

interface Operation {
  operationId: string;
  summary: string;
  tags: string[];
  parameters: { name: string; in: string; type?: string; required?: boolean; schema?: unknown }[];
  requestBody?: unknown;
  responses: Record<string, unknown>;
  security?: Record<string, string[]>[];
  "x-internal"?: boolean;
}
interface Document {
  openapi?: string;
  swagger?: string;
  servers: { url: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { securitySchemes: Record<string, unknown> };
  tags: { name: string }[];
}

let api: Api;
let openapi: Document;
let swagger: Document;
beforeAll(async () => {
  api = await startApi();
  const nobody = await api.nobody();
  openapi = (await nobody.get("/openapi.json")).body;
  swagger = (await nobody.get("/discovery?internal=true")).body;
}, 60_000);
afterAll(() => api.stop());

const operationsOf = (document: Document) => Object.values(document.paths).flatMap((path) => Object.values(path));
/** The table, and what is served beside it. */
const described = () => [...apiRoutes(), userInitializeDescription];
const operationOf = (document: Document, route: DescribedRoute) =>
  document.paths[`/api/v1${route.path}`]?.[route.method.toLowerCase()];

/** Every object inside a document, with where it stands. */
function* objectsIn(value: unknown, where = "#"): Generator<[string, Record<string, unknown>]> {
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value)) yield [where, value as Record<string, unknown>];
  for (const [name, inner] of Object.entries(value)) {
    yield* objectsIn(inner, `${where}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`);
  }
}

function resolve(document: unknown, pointer: string): unknown {
  const words = pointer.split("/").slice(1);
  return words.reduce<unknown>((inner, word) => {
    const name = word.replaceAll("~1", "/").replaceAll("~0", "~");
    return typeof inner === "object" && inner !== null ? Reflect.get(inner, name) : undefined;
  }, document);
}

for (const [name, document] of [
  ["OpenAPI", () => openapi],
  ["Swagger", () => swagger],
] as const) {
  describe(name, () => {
    test("every route of the table is in it, with all it takes and answers", () => {
      for (const route of described()) {
        const where = `${route.method} ${route.path}`;
        const operation = operationOf(document(), route);
        expect([where, operation?.summary]).toEqual([where, route.summary]);
        const names = [...route.path.matchAll(/\{([a-z_]+)\}/g)].map(([, parameter]) => parameter ?? "");
        const inPath = operation?.parameters.filter((parameter) => parameter.in === "path") ?? [];
        expect([where, ...inPath.map((parameter) => parameter.name)]).toEqual([where, ...names]);
        expect(inPath.every((parameter) => parameter.required)).toBe(true);
        const hasQuery = operation?.parameters.some((parameter) => parameter.in === "query");
        expect([where, hasQuery]).toEqual([where, route.query !== undefined]);
        const hasBody = operation?.requestBody ?? operation?.parameters.some((parameter) => parameter.in === "body");
        expect([where, Boolean(hasBody)]).toEqual([where, route.body !== undefined]);
        expect(Object.keys(operation?.responses ?? {}).sort()).toEqual(
          [...Object.keys(route.answers), "default"].sort(),
        );
      }
      expect(operationsOf(document())).toHaveLength(described().length);
    });

    test("ids are names and stand for one operation each", () => {
      const ids = operationsOf(document()).map(({ operationId }) => operationId);
      expect(ids.filter((id) => !/^[a-z][A-Za-z0-9]*$/.test(id))).toEqual([]);
      expect(new Set(ids).size).toBe(ids.length);
      const tags = new Set(document().tags.map((tag) => tag.name));
      expect(operationsOf(document()).every((operation) => operation.tags.every((tag) => tags.has(tag)))).toBe(true);
    });

    test("every reference leads somewhere, and nothing of the generator is left", () => {
      for (const [where, object] of objectsIn(document())) {
        if (typeof object.$ref === "string") {
          expect([where, typeof resolve(document(), object.$ref)]).toEqual([where, "object"]);
        }
        for (const word of ["$defs", "$schema", "~standard"])
          expect([where, Object.hasOwn(object, word)]).toEqual([where, false]);
      }
      expect(JSON.stringify(document())).not.toContain("urn:berth");
    });
  });
}

describe("OpenAPI", () => {
  test("names the way in and the scope of what is not for everybody", () => {
    expect(openapi).toMatchObject({ openapi: "3.1.0", servers: [{ url: api.berth.url }] });
    const schemes = Object.keys(openapi.components.securitySchemes);
    for (const operation of operationsOf(openapi)) {
      for (const way of operation.security ?? []) {
        for (const scheme of Object.keys(way)) expect(schemes).toContain(scheme);
      }
    }
    const superuser = openapi.paths["/api/v1/superuser/users/"];
    expect(superuser?.get?.security).toEqual([{ oauth2: ["super:user"] }, { session: [] }]);
    expect(superuser?.post?.security).toEqual([{ oauth2: ["super:user"] }, { session: [], csrf: [] }]);
    expect(openapi.paths["/api/v1/messages"]?.get?.security).toContainEqual({});
  });

  test("describes fields as the schemas check them", () => {
    const create = openapi.paths["/api/v1/superuser/users/"]?.post;
    expect(create?.requestBody).toMatchObject({
      content: { "application/json": { schema: { type: "object", required: ["username"] } } },
    });
    const explain = openapi.paths["/api/v1/explain"]?.get;
    expect(explain?.parameters).toContainEqual({
      name: "action",
      in: "query",
      required: true,
      schema: { type: "string", enum: ["pull", "push", "delete", "admin"] },
    });
  });
});

describe("Swagger", () => {
  test("says only what Swagger 2.0 knows", () => {
    for (const [where, object] of objectsIn(swagger.paths)) {
      if (where.endsWith("/properties")) continue;
      for (const word of ["anyOf", "oneOf", "const", "prefixItems", "propertyNames", "not"]) {
        expect([where, word, Object.hasOwn(object, word)]).toEqual([where, word, false]);
      }
      expect([where, Array.isArray(object.type)]).toEqual([where, false]);
      if (object.type === "array") expect([where, typeof object.items]).toEqual([where, "object"]);
    }
    for (const operation of operationsOf(swagger)) {
      for (const parameter of operation.parameters) {
        const isTyped = parameter.in === "body" ? parameter.schema !== undefined : typeof parameter.type === "string";
        expect([operation.operationId, parameter.name, isTyped]).toEqual([operation.operationId, parameter.name, true]);
      }
    }
  });

  test("leaves out what only the registry's own page uses, unless asked", async () => {
    const open = (await (await api.nobody()).get("/discovery")).body as Document;
    const internal = operationsOf(swagger).filter((operation) => operation["x-internal"]);
    expect(internal.length).toBeGreaterThan(0);
    const shown = new Set(operationsOf(open).map(({ operationId }) => operationId));
    expect(internal.filter(({ operationId }) => shown.has(operationId))).toEqual([]);
    expect(shown.size + internal.length).toBe(operationsOf(swagger).length);
  });

  const cases: [name: string, schema: Record<string, unknown>, expected: Record<string, unknown>][] = [
    ["null", { type: "null" }, { "x-nullable": true }],
    ["a choice with null", { anyOf: [{ type: "string" }, { type: "null" }] }, { type: "string", "x-nullable": true }],
    ["a choice of two", { anyOf: [{ type: "string" }, { type: "number" }] }, {}],
    ["one of two types", { type: ["integer", "null"] }, { type: "integer", "x-nullable": true }],
    ["a constant", { type: "string", const: "a" }, { type: "string", enum: ["a"] }],
    ["a bound", { type: "number", exclusiveMinimum: 0 }, { type: "number", minimum: 0, exclusiveMinimum: true }],
    ["a list", { type: "array", prefixItems: [{ type: "string" }] }, { type: "array", items: {} }],
    [
      "a block",
      { type: "object", properties: { a: { const: 1 } }, additionalProperties: { type: ["string", "null"] } },
      {
        type: "object",
        properties: { a: { enum: [1] } },
        additionalProperties: { type: "string", "x-nullable": true },
      },
    ],
  ];
  for (const [name, schema, expected] of cases) {
    test(`${name} of JSON Schema becomes Swagger`, () => expect(toSwaggerSchema(schema)).toEqual(expected));
  }
});

test("the small public files are where others look for them", async () => {
  const get = (path: string) => fetch(`${api.berth.url}${path}`, { redirect: "manual" });
  expect(await (await get("/robots.txt")).text()).toContain("Disallow: /api/");
  expect(await (await get("/.well-known/app-capabilities")).json()).toEqual({
    appName: "io.quay",
    capabilities: { "io.quay.view-image": { "url-template": `${api.berth.url}/{namespace}/{reponame}:{tag}` } },
  });
  const settings = await get("/.well-known/change-password");
  expect([settings.status, settings.headers.get("location")]).toEqual([302, "/user/?tab=settings"]);
  expect((await get("/.well-known/other")).status).toBe(404);
  const capabilities = await (await api.nobody()).get("/registry/capabilities");
  expect(capabilities.body.sparse_manifests.supported).toBe(true);
});
