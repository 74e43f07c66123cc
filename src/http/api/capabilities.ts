/** What this registry can do, for tools that adapt to it. Source: quay-api reference, section 20. */

import { z } from "zod";
import { type ApiRoute, json, route } from "./route.ts";

/** What a mirror can be narrowed to: names of Go's GOARCH, as manifests carry them. */
const ARCHITECTURES = ["amd64", "arm64", "ppc64le", "s390x"] as const;

export const capabilitiesRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/registry/capabilities",
    summary: "Tells what this registry supports",
    needs: "anyone",
    anonymousOk: true,
    answers: {
      200: () =>
        z.strictObject({
          sparse_manifests: z.strictObject({
            supported: z.boolean(),
            required_architectures: z.array(z.string()),
            optional_architectures_allowed: z.boolean(),
          }),
          mirror_architectures: z.array(z.string()),
        }),
    },
    async handle({ app }) {
      const supported = app.config.FEATURE_SPARSE_INDEX;
      return json(200, {
        // Berth asks for no architecture of an index: whichever are missing may come later.
        sparse_manifests: { supported, required_architectures: [], optional_architectures_allowed: supported },
        mirror_architectures: ARCHITECTURES,
      });
    },
  }),
];
