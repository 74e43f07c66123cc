/** Garbage collection, for superusers: what waits, what was freed, and why something is kept. Berth's own routes. */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import { explainKept } from "../../domain/gc/explain.ts";
import { findGcStatus } from "../../domain/gc/status.ts";
import { explanationView, gcStatusView } from "../../domain/gc/views.ts";
import { type ApiRoute, json, route } from "./route.ts";

const feature = (config: Config) => config.FEATURE_SUPER_USERS;
/** A repository's full name with a sha512 digest. */
const REFERENCE_CHARS_MAX = 700;

const count = () => z.number().int().min(0);
const ms = () => z.number().int();

const freedSchema = () =>
  z.strictObject({
    bytes: count(),
    blobs: count(),
    repositories: count(),
    namespaces: count(),
    rows: count(),
    rows_by_table: z.record(z.string(), count()),
  });

const statusSchema = () =>
  z.strictObject({
    at_ms: ms(),
    enabled: z.strictObject({
      garbage_collection: z.boolean(),
      repositories: z.boolean(),
      namespaces: z.boolean(),
      auto_prune: z.boolean(),
    }),
    frequency_s: count(),
    waiting: z.array(
      z.strictObject({
        kind: z.string(),
        waiting: count(),
        waiting_more: z.boolean(),
        due: count(),
        due_more: z.boolean(),
        first_due_ms: ms().nullable(),
        failing: count(),
      }),
    ),
    reclaimable: z.strictObject({
      exact: z.boolean(),
      buckets: z.array(z.strictObject({ when: z.string(), blobs: count(), bytes: count() })),
    }),
    freed: z.strictObject({
      since_ms: ms().nullable(),
      total: freedSchema(),
      last_7_days: freedSchema(),
      today: freedSchema(),
    }),
    rounds: z.array(
      z.strictObject({
        instance: z.string(),
        started_ms: ms(),
        duration_ms: count(),
        state: z.enum(["running", "ended", "lost"]),
        rows: count(),
        blobs: count(),
        bytes: count(),
      }),
    ),
  });

const explanationShape = () => ({
  reference: z.string(),
  kind: z.enum(["repository", "tag", "manifest", "blob"]),
  state: z.enum(["kept", "waits", "due", "deleting"]),
  goes_ms: ms().nullable(),
  size_bytes: count().nullable(),
  exact: z.boolean(),
  reasons: z.array(
    z.strictObject({
      depth: count(),
      kind: z.string(),
      name: z.string(),
      until_ms: ms().nullable(),
      explanation: z.string(),
    }),
  ),
});

export const superuserGcRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/superuser/gc",
    summary: "Shows what waits for garbage collection, what comes back when, and what was freed",
    needs: "superuser",
    feature,
    answers: { 200: statusSchema },
    async handle({ app }) {
      return json(200, gcStatusView(app.config, await findGcStatus(app)));
    },
  }),
  route({
    method: "GET",
    path: "/superuser/gc/explain",
    summary: "Tells what keeps a tag, a manifest, a blob or a repository, or when it goes",
    needs: "superuser",
    feature,
    query: () => z.object({ reference: z.string().min(1).max(REFERENCE_CHARS_MAX) }),
    answers: {
      200: () =>
        z.strictObject({
          ...explanationShape(),
          enabled: z.boolean(),
          content: z.strictObject(explanationShape()).nullable(),
        }),
    },
    async handle({ app, query }) {
      return json(200, explanationView(app.config, await explainKept(app, query.reference)));
    },
  }),
];
