/** The API's description of itself: Swagger 2.0 where Quay has it, and OpenAPI 3.1. Source: quay-api reference, section 16. */

import { z } from "zod";
import { BASE, buildOpenApi, describeRoutes, type Operation } from "./openapi.ts";
import { type ApiRoute, route } from "./route.ts";
import { buildSwagger } from "./swagger.ts";
import { userInitializeDescription } from "./user-initialize.ts";
import { queryBool } from "./views.ts";

const document = (version: Record<string, z.ZodType>) =>
  z.looseObject({ ...version, info: z.looseObject({}), paths: z.record(z.string(), z.looseObject({})) });

/** The routes that describe `table`, which they are part of. Documents are built when first asked for, and kept as texts. */
export function discoveryRoutes(table: () => readonly ApiRoute[]): readonly ApiRoute[] {
  const texts = new Map<string, string>();
  let operations: readonly Operation[] | undefined;

  /** The text of a document with this registry's address in it. */
  function text(name: string, build: (operations: readonly Operation[]) => unknown, baseUrl: string): Response {
    let kept = texts.get(name);
    if (kept === undefined) {
      operations ??= describeRoutes([...table(), userInitializeDescription]);
      kept = JSON.stringify(build(operations));
      texts.set(name, kept);
    }
    return new Response(kept.replaceAll(BASE, baseUrl), { headers: { "Content-Type": "application/json" } });
  }

  return [
    route({
      method: "GET",
      path: "/discovery",
      summary: "Describes this API as a Swagger 2.0 document",
      needs: "anyone",
      anonymousOk: true,
      query: () => z.object({ internal: queryBool(false) }),
      answers: { 200: () => document({ swagger: z.literal("2.0") }) },
      async handle({ query, baseUrl }) {
        if (query.internal) return text("swagger-internal", buildSwagger, baseUrl);
        return text("swagger", (all) => buildSwagger(all.filter(({ internal }) => !internal)), baseUrl);
      },
    }),
    route({
      method: "GET",
      path: "/openapi.json",
      summary: "Describes this API as an OpenAPI 3.1 document",
      needs: "anyone",
      anonymousOk: true,
      answers: { 200: () => document({ openapi: z.literal("3.1.0") }) },
      async handle({ app, baseUrl }) {
        return text("openapi", (all) => buildOpenApi(all, app.config.SESSION_COOKIE_NAME), baseUrl);
      },
    }),
  ];
}
