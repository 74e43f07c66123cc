/** Service keys, for superusers. Source: quay-api reference, section 15. */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import { listKeys, type ServiceKey } from "../../domain/service-key/queries.ts";
import {
  approveServiceKey,
  createServiceKey,
  deleteServiceKey,
  getServiceKey,
  updateServiceKey,
} from "../../domain/service-key/service-key.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { userFields, userView } from "./superuser-view.ts";
import { httpDate, httpDateSchema } from "./views.ts";

const LIST = "superuser:keys";
/** Quay gives the whole list; here it goes on behind this many. */
const PAGE_MAX = 200;
const NOTES_CHARS_MAX = 10_000;
const feature = (config: Config) => config.FEATURE_SUPER_USERS;

const block = () => z.record(z.string(), z.unknown());
/** Unix seconds, also with a fraction or as text; null and empty text: never. */
const expiration = () =>
  z
    .union([
      z.number(),
      z
        .string()
        .regex(/^[0-9]+(\.[0-9]+)?$/)
        .transform(Number),
      z.literal("").transform(() => null),
    ])
    .nullable();
const notes = () => z.string().max(NOTES_CHARS_MAX).nullish();

const keySchema = () =>
  z.strictObject({
    name: z.string(),
    kid: z.string(),
    service: z.string(),
    jwk: block(),
    metadata: block(),
    created_date: httpDateSchema(),
    expiration_date: httpDateSchema().nullable(),
    rotation_duration: z.number().int().nullable(),
    approval: z
      .strictObject({
        approver: z.strictObject(userFields()).nullable(),
        approval_type: z.string(),
        approved_date: httpDateSchema(),
        notes: z.string(),
      })
      .nullable(),
  });

function keyView(config: Pick<Config, "SUPER_USERS">, key: ServiceKey) {
  const { approval } = key;
  return {
    name: key.name,
    kid: key.kid,
    service: key.service,
    jwk: key.jwk,
    metadata: key.metadata,
    created_date: httpDate(key.createdMs),
    expiration_date: key.expiresMs === undefined ? null : httpDate(key.expiresMs),
    rotation_duration: key.rotationSeconds ?? null,
    approval: approval
      ? {
          approver: approval.approver ? userView(config, approval.approver) : null,
          approval_type: approval.type,
          approved_date: httpDate(approval.approvedMs),
          notes: approval.notes,
        }
      : null,
  };
}

const toMs = (seconds: number) => Math.floor(seconds * 1000);

export const serviceKeyRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/superuser/keys",
    summary: "Lists the keys of all services",
    needs: "superuser",
    feature,
    query: () => z.object({ next_page: z.string().optional() }),
    answers: { 200: () => z.strictObject({ keys: z.array(keySchema()), next_page: z.string().optional() }) },
    async handle({ app, query }) {
      const last = openPage(app, LIST, query.next_page, z.string()) ?? "";
      const found = await listKeys(app.db, { last, limit: PAGE_MAX + 1 });
      const keys = found.slice(0, PAGE_MAX);
      const end = found.length > PAGE_MAX ? keys.at(-1) : undefined;
      return json(200, {
        keys: keys.map((key) => keyView(app.config, key)),
        ...(end ? { next_page: sealPage(app, LIST, end.kid) } : {}),
      });
    },
  }),
  route({
    method: "POST",
    path: "/superuser/keys",
    summary: "Makes a key pair for a service; the private key is shown this once",
    needs: "superuser",
    feature,
    freshLogin: true,
    body: () =>
      z.object({
        service: z.string(),
        expiration: expiration(),
        name: z.string().nullish(),
        metadata: block().nullish(),
        notes: notes(),
      }),
    answers: {
      200: () =>
        z.strictObject({
          kid: z.string(),
          name: z.string(),
          service: z.string(),
          public_key: z.string(),
          private_key: z.string(),
        }),
    },
    async handle({ app, caller, body, origin }) {
      const { service } = body;
      const name = body.name ?? "";
      const { kid, publicPem, privatePem } = await createServiceKey(app, caller, origin(), {
        service,
        name,
        expiresMs: body.expiration === null ? undefined : toMs(body.expiration),
        metadata: body.metadata ?? {},
        notes: body.notes ?? "",
      });
      return json(200, { kid, name, service, public_key: publicPem, private_key: privatePem });
    },
  }),
  route({
    method: "GET",
    path: "/superuser/keys/{kid}",
    summary: "Shows a service's key",
    needs: "superuser",
    feature,
    answers: { 200: keySchema },
    async handle({ app, params }) {
      return json(200, keyView(app.config, await getServiceKey(app, params.kid ?? "")));
    },
  }),
  route({
    method: "PUT",
    path: "/superuser/keys/{kid}",
    summary: "Changes the name, metadata or expiration of a service's key",
    needs: "superuser",
    feature,
    freshLogin: true,
    body: () =>
      z.object({ name: z.string().optional(), metadata: block().optional(), expiration: expiration().optional() }),
    answers: { 200: keySchema },
    async handle({ app, caller, params, body, origin }) {
      const { name, metadata, expiration: expires } = body;
      const expiresMs = typeof expires === "number" ? toMs(expires) : expires;
      const change = { name, metadata, expiresMs };
      return json(200, keyView(app.config, await updateServiceKey(app, caller, origin(), params.kid ?? "", change)));
    },
  }),
  route({
    method: "DELETE",
    path: "/superuser/keys/{kid}",
    summary: "Deletes a service's key",
    needs: "superuser",
    feature,
    freshLogin: true,
    answers: { 204: null },
    async handle({ app, caller, params, origin }) {
      await deleteServiceKey(app, caller, origin(), params.kid ?? "");
      return noContent();
    },
  }),
  route({
    method: "POST",
    path: "/superuser/approvedkeys/{kid}",
    summary: "Trusts a key that a service brought itself",
    needs: "superuser",
    feature,
    freshLogin: true,
    body: () => z.object({ notes: notes() }),
    answers: { 201: null },
    async handle({ app, caller, params, body, origin }) {
      await approveServiceKey(app, caller, origin(), params.kid ?? "", body.notes ?? "");
      return new Response(null, { status: 201 });
    },
  }),
];
