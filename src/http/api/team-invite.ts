/** Answering an invitation to a team, with the code that came by mail or notice. Source: quay-api reference, section 4. */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import { answerInvite } from "../../domain/team/invites.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";

/** Invitations outlive a mail server that is switched off for a while. */
const feature = (config: Config) => config.FEATURE_MAILING;

export const teamInviteRoutes: readonly ApiRoute[] = [
  route({
    method: "PUT",
    path: "/teaminvite/{code}",
    summary: "Accepts an invitation",
    needs: { account: "admin" },
    feature,
    internal: true,
    answers: { 200: () => z.strictObject({ org: z.string(), team: z.string() }) },
    async handle({ app, caller, params, origin }) {
      const answer = await answerInvite(app, params.code ?? "", "accept", { caller, request: origin() });
      return json(200, { org: answer.organization, team: answer.team });
    },
  }),
  route({
    method: "DELETE",
    path: "/teaminvite/{code}",
    summary: "Declines an invitation",
    needs: { account: "admin" },
    feature,
    internal: true,
    answers: { 204: null },
    async handle({ app, caller, params, origin }) {
      await answerInvite(app, params.code ?? "", "decline", { caller, request: origin() });
      return noContent();
    },
  }),
];
