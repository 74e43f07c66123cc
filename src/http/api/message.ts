/** The registry's notices to everybody. Source: quay-api reference, section 16. */

import { z } from "zod";
import {
  CONTENT_CHARS_MAX,
  createMessage,
  deleteMessage,
  listMessages,
  MEDIA_TYPES,
  SEVERITIES,
} from "../../domain/message/message.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";

const severity = () => z.enum(SEVERITIES);
const mediaType = () => z.enum(MEDIA_TYPES);

export const messageRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/messages",
    summary: "Lists the registry's notices to everybody",
    needs: "anyone",
    // The page shows them beside its sign-in form too.
    anonymousOk: true,
    answers: {
      200: () =>
        z.strictObject({
          messages: z.array(
            z.strictObject({ uuid: z.string(), content: z.string(), severity: severity(), media_type: mediaType() }),
          ),
        }),
    },
    async handle({ app }) {
      const messages = await listMessages(app.db);
      return json(200, {
        messages: messages.map((each) => ({
          uuid: each.uuid,
          content: each.content,
          severity: each.severity,
          media_type: each.mediaType,
        })),
      });
    },
  }),
  route({
    method: "POST",
    path: "/messages",
    summary: "Adds a notice to everybody",
    needs: "superuser",
    feature: (config) => config.FEATURE_SUPER_USERS,
    freshLogin: true,
    body: () =>
      z.object({
        message: z.object({
          content: z.string().min(1).max(CONTENT_CHARS_MAX),
          media_type: mediaType(),
          severity: severity(),
        }),
      }),
    answers: { 201: null },
    async handle({ app, body }) {
      const { content, severity, media_type } = body.message;
      await createMessage(app, { content, severity, mediaType: media_type });
      return new Response(null, { status: 201 });
    },
  }),
  route({
    method: "DELETE",
    path: "/message/{uuid}",
    summary: "Removes a notice to everybody",
    needs: "superuser",
    feature: (config) => config.FEATURE_SUPER_USERS,
    freshLogin: true,
    answers: { 204: null },
    async handle({ app, params }) {
      await deleteMessage(app, params.uuid ?? "");
      return noContent();
    },
  }),
];
