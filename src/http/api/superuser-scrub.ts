/** How the comparison of stored blobs with their digests stands, for superusers. Berth's own: Quay has nothing like it. */

import { z } from "zod";
import { BAD_KINDS } from "../../domain/blob/bad-copies.ts";
import { listBadCopies, scrubStatus } from "../../domain/scrub/status.ts";
import { scrubView } from "../../domain/scrub/view.ts";
import { type ApiRoute, json, route } from "./route.ts";

/** Copies that are named: who has more of them looks at the whole store. */
const NAMED_MAX = 100;

const count = () => z.number().int().min(0);
const time = () => z.number().int().nullable();

const scrubSchema = () =>
  z.strictObject({
    enabled: z.boolean(),
    bytes_per_second: count(),
    pass_interval_seconds: count(),
    locations: z.array(
      z.strictObject({
        location: z.string(),
        state: z.enum(["running", "waiting", "resting"]),
        progress: z.number().min(0).max(1),
        started_ms: time(),
        ended_ms: time(),
        last_full_ms: time(),
        age_seconds: count(),
        blobs: count(),
        bytes: count(),
        bad: count(),
        repaired: count(),
        unreadable: count(),
        bad_copies: count(),
      }),
    ),
    bad_copies: z.array(
      z.strictObject({
        digest: z.string(),
        location: z.string(),
        kind: z.enum(BAD_KINDS),
        found_ms: z.number().int(),
      }),
    ),
  });

export const superuserScrubRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/superuser/scrub",
    summary: "Shows how the comparison of stored blobs with their digests stands, and which copies are out of service",
    needs: "superuser",
    feature: (config) => config.FEATURE_SUPER_USERS,
    answers: { 200: scrubSchema },
    async handle({ app }) {
      const status = await scrubStatus(app);
      return json(200, scrubView(app.config, status, await listBadCopies(app.db, NAMED_MAX)));
    },
  }),
];
