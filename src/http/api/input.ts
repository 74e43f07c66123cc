/** Reads what a route takes: its query and its JSON body, each through the route's own schema. */

import type { z } from "zod";
import { RegistryError } from "../../errors.ts";
import { readBody } from "../registry/body.ts";
import type { ApiRoute } from "./route.ts";

const BODY_BYTES_MAX = 1024 * 1024;

/** Schemas are made at a route's first call and kept: a start builds none. */
const made = new WeakMap<() => z.ZodType, z.ZodType>();

export function schemaOf(thunk: () => z.ZodType): z.ZodType {
  let schema = made.get(thunk);
  if (!schema) {
    schema = thunk();
    made.set(thunk, schema);
  }
  return schema;
}

/** Throws `invalid_request` with what is wrong in the first field that is, `request_too_large` beyond the bound. */
export async function readInput(
  route: Pick<ApiRoute, "query" | "body" | "bodyBytesMax" | "bodyOptional">,
  request: Request,
  query: URLSearchParams,
): Promise<{ query: unknown; body: unknown }> {
  return {
    query: route.query && check(route.query, Object.fromEntries(query), "query parameter"),
    body: route.body && check(route.body, await readJson(route, request), "field"),
  };
}

async function readJson(route: Pick<ApiRoute, "bodyBytesMax" | "bodyOptional">, request: Request): Promise<unknown> {
  const text = new TextDecoder().decode(await readBody(request, route.bodyBytesMax ?? BODY_BYTES_MAX));
  if (text.trim() === "" && route.bodyOptional) return {};
  if (text.trim() === "") throw new RegistryError("invalid_request", { message: "Missing JSON body" });
  try {
    return JSON.parse(text);
  } catch {
    throw new RegistryError("invalid_request", { message: "Missing JSON body: what was sent is not JSON" });
  }
}

function check(thunk: () => z.ZodType, value: unknown, what: string): unknown {
  // Not compiled: most routes are called rarely, and compiled schemas are what fills memory.
  const parsed = schemaOf(thunk).safeParse(value, { jitless: true });
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const where = issue?.path.length ? `${what} '${issue.path.join(".")}': ` : "";
    throw new RegistryError("invalid_request", { message: `${where}${issue?.message ?? "not valid"}` });
  }
  requireNoNul(parsed.data, what);
  return parsed.data;
}

/** No name, text or address has a NUL in it, and PostgreSQL takes none. */
function requireNoNul(value: unknown, what: string): void {
  if (typeof value === "string") {
    if (value.includes("\u0000")) {
      throw new RegistryError("invalid_request", { message: `a ${what} holds a NUL character` });
    }
  } else if (value !== null && typeof value === "object") {
    for (const [key, inner] of Object.entries(value)) {
      requireNoNul(key, what);
      requireNoNul(inner, what);
    }
  }
}
