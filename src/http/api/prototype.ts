/** Default permissions of an organization's new repositories. Source: quay-api reference, section 5. */

import { z } from "zod";
import {
  createPrototype,
  deletePrototype,
  listPrototypes,
  type Prototype,
  type PrototypeAccount,
  updatePrototype,
} from "../../domain/prototype/prototype.ts";
import { RegistryError } from "../../errors.ts";
import { LIST_MAX, nextPageField, nextPageQuery, personAvatar, roleSchema } from "./organization-views.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { avatar, avatarSchema } from "./views.ts";

const accountSchema = () =>
  z.strictObject({
    name: z.string(),
    kind: z.literal("user"),
    is_robot: z.boolean(),
    avatar: avatarSchema(),
    is_org_member: z.boolean(),
  });
const prototypeSchema = () =>
  z.strictObject({
    id: z.string(),
    role: roleSchema(),
    activating_user: accountSchema().nullable(),
    delegate: z.union([
      accountSchema(),
      z.strictObject({ name: z.string(), kind: z.literal("team"), avatar: avatarSchema() }),
    ]),
  });

function accountView(account: PrototypeAccount) {
  const { name, isRobot, isMember } = account;
  return { name, kind: "user", is_robot: isRobot, avatar: personAvatar(account), is_org_member: isMember };
}

function prototypeView({ uuid, role, activating, delegate }: Prototype) {
  const teamView = (name: string) => ({ name, kind: "team", avatar: avatar("team", name) });
  return {
    id: uuid,
    role,
    activating_user: activating ? accountView(activating) : null,
    delegate: "team" in delegate ? teamView(delegate.team) : accountView(delegate.account),
  };
}

const delegateSchema = () => z.object({ name: z.string().optional(), kind: z.string().optional() });

function readDelegate(delegate: z.infer<ReturnType<typeof delegateSchema>> | undefined) {
  const { name, kind } = delegate ?? {};
  if (name && (kind === "user" || kind === "team")) return { name, kind } as const;
  throw new RegistryError("invalid_request", { message: "Missing delegate user or team" });
}

export const prototypeRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/organization/{orgname}/prototypes",
    summary: "Lists the default permissions of new repositories",
    needs: { organization: "admin" },
    query: () => z.object(nextPageQuery()),
    answers: { 200: () => z.strictObject({ prototypes: z.array(prototypeSchema()), ...nextPageField() }) },
    async handle({ app, organization, query }) {
      const list = `prototypes:${organization.account.id}`;
      const afterId = openPage(app, list, query.next_page, z.number()) ?? 0;
      const prototypes = await listPrototypes(app.db, organization.account.id, { afterId, limit: LIST_MAX });
      const last = prototypes.length === LIST_MAX ? prototypes.at(-1) : undefined;
      const next = last ? { next_page: sealPage(app, list, last.id) } : {};
      return json(200, { prototypes: prototypes.map(prototypeView), ...next });
    },
  }),
  route({
    method: "POST",
    path: "/organization/{orgname}/prototypes",
    summary: "Makes a default permission",
    needs: { organization: "admin" },
    body: () =>
      z.object({
        role: roleSchema(),
        activating_user: z.object({ name: z.string() }).nullish(),
        delegate: delegateSchema().nullish(),
      }),
    answers: { 200: prototypeSchema },
    async handle({ app, caller, organization, body, origin }) {
      const input = {
        role: body.role,
        activating: body.activating_user?.name,
        delegate: readDelegate(body.delegate ?? undefined),
      };
      const made = await createPrototype(app, organization.account, input, { caller, request: origin() });
      return json(200, prototypeView(made));
    },
  }),
  route({
    method: "PUT",
    path: "/organization/{orgname}/prototypes/{prototypeid}",
    summary: "Changes the role of a default permission",
    needs: { organization: "admin" },
    body: () => z.object({ role: roleSchema() }),
    answers: { 200: prototypeSchema },
    async handle({ app, caller, organization, params, body, origin }) {
      const change = { caller, request: origin() };
      const changed = await updatePrototype(app, organization.account, params.prototypeid ?? "", body.role, change);
      return json(200, prototypeView(changed));
    },
  }),
  route({
    method: "DELETE",
    path: "/organization/{orgname}/prototypes/{prototypeid}",
    summary: "Takes a default permission away",
    needs: { organization: "admin" },
    answers: { 204: null },
    async handle({ app, caller, organization, params, origin }) {
      const change = { caller, request: origin() };
      await deletePrototype(app, organization.account, params.prototypeid ?? "", change);
      return noContent();
    },
  }),
];
