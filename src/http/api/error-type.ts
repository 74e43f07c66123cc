/** GET /error/{type}: what an error type means, where the `type` of an error points. */

import { z } from "zod";
import { RegistryError } from "../../errors.ts";
import { ERROR_TYPES } from "./errors.ts";
import { type ApiRoute, json, route } from "./route.ts";

export const errorRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/error/{error_type}",
    summary: "Explains an error type",
    needs: "anyone",
    anonymousOk: true,
    answers: { 200: () => z.strictObject({ type: z.string(), title: z.string(), description: z.string() }) },
    async handle({ params, baseUrl }) {
      const title = params.error_type ?? "";
      const known: Readonly<Record<string, string>> = ERROR_TYPES;
      const description = Object.hasOwn(known, title) ? known[title] : undefined;
      if (description === undefined) throw new RegistryError("not_found");
      return json(200, { type: `${baseUrl}/api/v1/error/${title}`, title, description });
    },
  }),
];
