/** Users, for superusers. Source: quay-api reference, section 15. */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import { makeClientKey } from "../../domain/client-key/client-key.ts";
import { isMailing } from "../../domain/mail/mailing.ts";
import { findManagedUser, listManagedUsers } from "../../domain/superuser/queries.ts";
import { sendManagedRecovery } from "../../domain/superuser/recovery.ts";
import {
  createManagedUser,
  deleteManagedUser,
  takeNamespace,
  updateManagedUser,
} from "../../domain/superuser/users.ts";
import { RegistryError } from "../../errors.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import { listShape, managedUserSchema, managedUserView, reportsOf, requirePageLimit } from "./superuser-view.ts";
import { queryBool } from "./views.ts";

const LIST = "superuser:users";
const feature = (config: Config) => config.FEATURE_SUPER_USERS;

export const superuserUserRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/superuser/users/",
    summary: "Lists the users of the registry",
    needs: "superuser",
    feature,
    freshLogin: true,
    query: () => z.object({ disabled: queryBool(true), ...listShape() }),
    answers: { 200: () => z.strictObject({ users: z.array(managedUserSchema()), next_page: z.string().optional() }) },
    async handle({ app, query }) {
      requirePageLimit(query.limit);
      const last = openPage(app, LIST, query.next_page, z.string()) ?? "";
      const page = { last, limit: query.limit + 1, withDisabled: query.disabled };
      const found = await listManagedUsers(app.db, page);
      const users = found.slice(0, query.limit);
      const reports = await reportsOf(app, users);
      const end = found.length > query.limit ? users.at(-1) : undefined;
      return json(200, {
        users: users.map((user) => managedUserView(app.config, user, reports.get(user.id))),
        ...(end ? { next_page: sealPage(app, LIST, end.username) } : {}),
      });
    },
  }),
  route({
    method: "POST",
    path: "/superuser/users/",
    summary: "Makes a user with a random password",
    needs: "superuser",
    feature,
    freshLogin: true,
    body: () => z.object({ username: z.string(), email: z.string().nullish() }),
    answers: {
      200: () =>
        z.strictObject({
          username: z.string(),
          email: z.string().nullable(),
          password: z.string().length(32),
          encrypted_password: z.string(),
        }),
    },
    async handle({ app, caller, body, origin }) {
      // An empty field is how web forms leave it out.
      const input = { username: body.username, email: body.email || undefined };
      const { password } = await createManagedUser(app, caller, origin(), input);
      return json(200, {
        username: input.username,
        email: input.email ?? null,
        password,
        encrypted_password: makeClientKey(app, password),
      });
    },
  }),
  route({
    method: "GET",
    path: "/superuser/users/{username}",
    summary: "Shows a user",
    needs: "superuser",
    feature,
    freshLogin: true,
    internal: true,
    answers: { 200: managedUserSchema },
    async handle({ app, params }) {
      const user = await findManagedUser(app.db, params.username ?? "");
      if (!user) throw new RegistryError("not_found");
      return json(200, managedUserView(app.config, user, (await reportsOf(app, [user])).get(user.id)));
    },
  }),
  route({
    method: "PUT",
    path: "/superuser/users/{username}",
    summary: "Changes a user's password or e-mail address, enables or disables it, or makes it a superuser",
    needs: "superuser",
    feature,
    freshLogin: true,
    internal: true,
    body: () =>
      z.object({
        password: z.string().optional(),
        email: z.string().optional(),
        enabled: z.boolean().optional(),
        superuser: z.boolean().optional(),
      }),
    answers: { 200: () => managedUserSchema().extend({ encrypted_password: z.string().optional() }) },
    async handle({ app, caller, params, body, origin }) {
      const user = await updateManagedUser(app, caller, origin(), params.username ?? "", body);
      const view = managedUserView(app.config, user, (await reportsOf(app, [user])).get(user.id));
      const { password } = body;
      return json(200, password === undefined ? view : { ...view, encrypted_password: makeClientKey(app, password) });
    },
  }),
  route({
    method: "DELETE",
    path: "/superuser/users/{username}",
    summary: "Deletes a user with its repositories and robots, in the background",
    needs: "superuser",
    feature,
    freshLogin: true,
    internal: true,
    answers: { 204: null },
    async handle({ app, caller, params, origin }) {
      await deleteManagedUser(app, caller, origin(), params.username ?? "");
      return noContent();
    },
  }),
  route({
    method: "POST",
    path: "/superusers/users/{username}/sendrecovery",
    summary: "Sends a user the link to choose a new password",
    needs: "superuser",
    feature: (config) => config.FEATURE_SUPER_USERS && isMailing(config),
    freshLogin: true,
    internal: true,
    answers: { 200: () => z.strictObject({ email: z.string() }) },
    async handle({ app, params }) {
      return json(200, { email: await sendManagedRecovery(app, params.username ?? "") });
    },
  }),
  route({
    method: "POST",
    path: "/superuser/takeownership/{namespace}",
    summary: "Makes the caller admin of a namespace; a user's becomes an organization",
    needs: "superuser",
    feature,
    freshLogin: true,
    internal: true,
    answers: { 200: () => z.strictObject({ namespace: z.string() }) },
    async handle({ app, caller, params, origin }) {
      const namespace = params.namespace ?? "";
      await takeNamespace(app, caller, origin(), namespace);
      return json(200, { namespace });
    },
  }),
];
