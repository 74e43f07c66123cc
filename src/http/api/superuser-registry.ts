/** The registry as a whole, for superusers: its size, its change log, its state, its configuration, and its end. */

import { z } from "zod";
import changeLog from "../../../CHANGELOG.md" with { type: "text" };
import type { Config } from "../../config/schema.ts";
import { dumpConfig } from "../../domain/superuser/config-dump.ts";
import { countRegistrySizeLater, getRegistrySize, requestRegistrySize } from "../../domain/superuser/registry-size.ts";
import { RegistryError } from "../../errors.ts";
import { type ApiRoute, json, route } from "./route.ts";

const feature = (config: Config) => config.FEATURE_SUPER_USERS;
/** Quay's word for a config that comes from a file. */
const PROVIDER = "file";
/** The answer to a shutdown is out before connections are refused. */
const SHUTDOWN_DELAY_MS = 100;

export const superuserRegistryRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/superuser/changelog/",
    summary: "Shows the change log of this version",
    needs: "superuser",
    feature,
    freshLogin: true,
    internal: true,
    answers: { 200: () => z.strictObject({ log: z.string() }) },
    async handle() {
      return json(200, { log: changeLog });
    },
  }),
  route({
    method: "GET",
    path: "/superuser/registrysize/",
    summary: "Shows the bytes of the registry's distinct blobs, as last counted",
    needs: "superuser",
    feature,
    freshLogin: true,
    internal: true,
    answers: {
      200: () =>
        z.strictObject({
          size_bytes: z.number().int(),
          last_ran: z.number().int().nullable(),
          queued: z.boolean(),
          running: z.boolean(),
        }),
    },
    async handle({ app }) {
      const { sizeBytes, lastRanMs, queued, running } = await getRegistrySize(app.db);
      return json(200, { size_bytes: sizeBytes, last_ran: lastRanMs ?? null, queued, running });
    },
  }),
  route({
    method: "POST",
    path: "/superuser/registrysize/",
    summary: "Has the registry's size counted in the background",
    needs: "superuser",
    feature,
    freshLogin: true,
    internal: true,
    answers: { 201: null, 202: null },
    async handle({ app }) {
      if (!(await requestRegistrySize(app))) return new Response(null, { status: 202 });
      countRegistrySizeLater(app);
      return new Response(null, { status: 201 });
    },
  }),
  route({
    method: "GET",
    path: "/superuser/registrystatus",
    summary: "Tells whether the registry is set up",
    needs: "superuser",
    feature,
    internal: true,
    answers: { 200: () => z.strictObject({ provider_id: z.string(), status: z.literal("ready") }) },
    async handle() {
      // Berth does not serve before it has a valid config, so Quay's other state does not occur.
      return json(200, { provider_id: PROVIDER, status: "ready" });
    },
  }),
  route({
    method: "POST",
    path: "/superuser/shutdown",
    summary: "Stops this instance in order, as SIGTERM does",
    needs: "superuser",
    feature,
    internal: true,
    answers: { 200: () => z.strictObject({}) },
    async handle({ app, principal }) {
      const { stop } = app.state;
      if (!stop) throw new RegistryError("not_implemented", { message: "this process cannot be stopped from here" });
      setTimeout(() => stop(`shutdown asked for by ${principal.username}`), SHUTDOWN_DELAY_MS);
      return json(200, {});
    },
  }),
  route({
    method: "GET",
    path: "/superuser/config",
    summary: "Shows the configuration with its secrets starred",
    needs: "superuser",
    feature: (config) => config.FEATURE_SUPER_USERS && config.FEATURE_SUPERUSER_CONFIGDUMP,
    freshLogin: true,
    answers: {
      200: () =>
        z.strictObject({
          config: z.record(z.string(), z.unknown()),
          warning: z.record(z.string(), z.unknown()),
          env: z.record(z.string(), z.string()),
          schema: z.record(z.string(), z.unknown()),
        }),
    },
    async handle({ app }) {
      return json(200, dumpConfig(app));
    },
  }),
];
