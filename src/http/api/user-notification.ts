/** The notices in the caller's page. Source: quay-api reference, section 2. */

import { z } from "zod";
import {
  dismissUserNotification,
  findUserNotification,
  listUserNotifications,
  type UserNotification,
} from "../../domain/notification/user-notification.ts";
import { RegistryError } from "../../errors.ts";
import { type ApiRoute, json, route } from "./route.ts";
import { httpDate, httpDateSchema } from "./views.ts";

/** Together they bound what a page costs: 10,000 rows are passed over at most. */
const LIMIT_MAX = 100;
const PAGE_MAX = 100;

const noteSchema = () =>
  z.strictObject({
    id: z.uuid(),
    organization: z.string().nullable(),
    kind: z.string(),
    created: httpDateSchema(),
    metadata: z.record(z.string(), z.unknown()),
    dismissed: z.boolean(),
  });

function noteView({ uuid, organization, kind, createdMs, metadata, dismissed }: UserNotification) {
  return { id: uuid, organization: organization ?? null, kind, created: httpDate(createdMs), metadata, dismissed };
}

export const userNotificationRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/user/notifications",
    summary: "Lists the caller's notices that were not put aside, newest first",
    needs: { account: "admin" },
    internal: true,
    query: () =>
      z.object({
        page: z.coerce.number().int().min(0).max(PAGE_MAX).default(0),
        limit: z.coerce.number().int().min(1).max(LIMIT_MAX).default(5),
      }),
    answers: { 200: () => z.strictObject({ notifications: z.array(noteSchema()), additional: z.boolean() }) },
    async handle({ app, principal, query: { page, limit } }) {
      const found = await listUserNotifications(app.db, principal.accountId, { skip: page * limit, limit: limit + 1 });
      return json(200, { notifications: found.slice(0, limit).map(noteView), additional: found.length > limit });
    },
  }),
  route({
    method: "GET",
    path: "/user/notifications/{uuid}",
    summary: "Shows one of the caller's notices",
    needs: { account: "admin" },
    internal: true,
    answers: { 200: noteSchema },
    async handle({ app, principal, params }) {
      const found = await findUserNotification(app.db, principal.accountId, params.uuid ?? "");
      if (!found) throw new RegistryError("not_found");
      return json(200, noteView(found));
    },
  }),
  route({
    method: "PUT",
    path: "/user/notifications/{uuid}",
    summary: "Puts a notice aside, or takes it up again",
    needs: { account: "admin" },
    internal: true,
    body: () => z.object({ dismissed: z.boolean().default(false) }),
    answers: { 200: noteSchema },
    async handle({ app, principal, params, body }) {
      const found = await app.db.tx((tx) =>
        dismissUserNotification(tx, principal.accountId, params.uuid ?? "", body.dismissed),
      );
      if (!found) throw new RegistryError("not_found");
      return json(200, noteView(found));
    },
  }),
];
