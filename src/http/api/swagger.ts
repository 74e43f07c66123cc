/**
 * The same routes as a Swagger 2.0 document, which is what Quay's discovery gives and its clients read. Swagger knows less
 * than JSON Schema: what it cannot say is left open.
 */

import { VERSION } from "../../version.ts";
import { BASE, errorSchema, type JsonObject, type Operation, type Parameter, scopeTexts } from "./openapi.ts";

const SECURITY = "oauth2_implicit";

/** The document of these routes. */
export function buildSwagger(operations: readonly Operation[]): JsonObject {
  const paths: Record<string, JsonObject> = {};
  for (const operation of operations) {
    const path = paths[operation.path] ?? {};
    path[operation.method] = toOperation(operation);
    paths[operation.path] = path;
  }
  return {
    swagger: "2.0",
    info: { title: "Berth", version: VERSION, description: "The REST API of Red Hat Quay, as Berth answers it." },
    basePath: "/",
    produces: ["application/json"],
    securityDefinitions: {
      [SECURITY]: {
        type: "oauth2",
        flow: "implicit",
        authorizationUrl: `${BASE}/oauth/authorize`,
        scopes: scopeTexts(),
      },
    },
    paths,
    definitions: { ApiError: errorSchema() },
    tags: [...new Set(operations.map(({ tag }) => tag))].map((name) => ({ name })),
  };
}

function toOperation(operation: Operation): JsonObject {
  const { body, answers, scopes } = operation;
  const failed = { description: "What went wrong.", schema: { $ref: "#/definitions/ApiError" } };
  return {
    operationId: operation.operationId,
    summary: operation.summary,
    tags: [operation.tag],
    ...(operation.internal ? { "x-internal": true } : {}),
    ...(body ? { consumes: ["application/json"] } : {}),
    parameters: [
      ...operation.parameters.map(toParameter),
      ...(body ? [{ name: "body", in: "body", required: true, schema: toSwaggerSchema(body) }] : []),
    ],
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, { description, schema }]) => [
          status,
          { description, ...(schema ? { schema: toSwaggerSchema(schema) } : {}) },
        ]),
      ),
      default: failed,
    },
    ...(scopes ? { security: [{ [SECURITY]: scopes }] } : {}),
  };
}

/** A parameter has no schema of its own in Swagger: its type stands beside its name. */
function toParameter({ schema, ...parameter }: Parameter): JsonObject {
  const { type, ...rest } = toSwaggerSchema(schema);
  const simple = typeof type === "string" && type !== "object" ? type : "string";
  const { properties, required, additionalProperties, anyOf, allOf, ...kept } = rest;
  return { ...parameter, type: simple, ...kept };
}

/** Words of JSON Schema that Swagger's has too and that need no change. */
const KEPT: ReadonlySet<string> = new Set([
  "$ref",
  "type",
  "format",
  "description",
  "default",
  "enum",
  "pattern",
  "required",
  "minimum",
  "maximum",
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "uniqueItems",
  "minProperties",
  "maxProperties",
]);

/** A JSON Schema as Swagger can say it: choices become their one possibility or anything, null becomes `x-nullable`. */
export function toSwaggerSchema(schema: JsonObject): JsonObject {
  const choices = (schema.anyOf ?? schema.oneOf) as JsonObject[] | undefined;
  if (choices) return fromChoices(choices);
  const result: JsonObject = {};
  for (const [word, value] of Object.entries(schema)) {
    if (KEPT.has(word)) result[word] = value;
  }
  if (Array.isArray(schema.type)) {
    const types = schema.type.filter((type) => type !== "null");
    delete result.type;
    if (types.length === 1) result.type = types[0];
    if (types.length < schema.type.length) result["x-nullable"] = true;
  }
  if (schema.type === "null") return { "x-nullable": true };
  if (Object.hasOwn(schema, "const")) result.enum = [schema.const];
  if (typeof schema.exclusiveMinimum === "number") setBound(result, "minimum", schema.exclusiveMinimum);
  if (typeof schema.exclusiveMaximum === "number") setBound(result, "maximum", schema.exclusiveMaximum);
  if (isObject(schema.properties)) {
    result.properties = Object.fromEntries(
      Object.entries(schema.properties).map(([name, inner]) => [name, toSwaggerSchema(inner as JsonObject)]),
    );
  }
  if (result.type === "array") result.items = isObject(schema.items) ? toSwaggerSchema(schema.items) : {};
  if (isObject(schema.additionalProperties)) result.additionalProperties = toSwaggerSchema(schema.additionalProperties);
  else if (typeof schema.additionalProperties === "boolean") result.additionalProperties = schema.additionalProperties;
  return result;
}

function fromChoices(choices: readonly JsonObject[]): JsonObject {
  const real = choices.filter((choice) => choice.type !== "null");
  const nullable = real.length < choices.length ? { "x-nullable": true } : {};
  const [only] = real;
  return real.length === 1 && only ? { ...toSwaggerSchema(only), ...nullable } : nullable;
}

function setBound(result: JsonObject, word: "minimum" | "maximum", value: number): void {
  result[word] = value;
  result[word === "minimum" ? "exclusiveMinimum" : "exclusiveMaximum"] = true;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
