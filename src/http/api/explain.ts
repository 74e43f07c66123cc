/** Why an account may or may not do something with a repository. Berth's own: Quay has nothing like it. */

import { z } from "zod";
import { pathRules } from "../../domain/blob/blob.ts";
import { ACTIONS, type Explanation, explain } from "../../domain/explain/explain.ts";
import { isRule, RULES } from "../../domain/explain/rules.ts";
import { RegistryError } from "../../errors.ts";
import { parseRepositoryPath } from "../../oci/names.ts";
import { type ApiRoute, json, route } from "./route.ts";

/** Of a repository's full name and of an account's. */
const NAME_CHARS_MAX = 511;

const explanationSchema = () =>
  z.strictObject({
    repository: z.string(),
    account: z.string(),
    action: z.enum(ACTIONS),
    allowed: z.boolean(),
    decision: z.string(),
    explanation: z.string(),
    facts: z.strictObject({
      repository: z
        .strictObject({
          visibility: z.enum(["public", "private"]),
          state: z.string(),
          namespace_enabled: z.boolean(),
        })
        .nullable(),
      roles: z.array(
        z.strictObject({
          role: z.enum(["read", "write", "admin"]),
          source: z.enum(["direct", "team", "organization-admin"]),
          team: z.string().nullable(),
        }),
      ),
      namespace_owner: z.boolean(),
      superuser: z.boolean(),
      global_readonly: z.boolean(),
      restricted: z.boolean(),
      scopes: z.array(z.string()).nullable(),
    }),
  });

function factsView(explanation: Explanation) {
  const { repository } = explanation;
  return {
    repository: repository
      ? {
          visibility: repository.visibility,
          state: repository.state,
          namespace_enabled: repository.namespaceEnabled,
        }
      : null,
    roles: explanation.roles.map(({ role, source, team }) => ({ role, source, team: team ?? null })),
    namespace_owner: explanation.owner,
    superuser: explanation.superuser,
    global_readonly: explanation.globalReadonly,
    restricted: explanation.restricted,
    scopes: explanation.scopes ?? null,
  };
}

export const explainRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/explain",
    summary: "Tells which rule allows or denies an account an action on a repository",
    needs: "signed-in",
    query: () =>
      z.object({
        repository: z.string().max(NAME_CHARS_MAX),
        action: z.enum(ACTIONS),
        account: z.string().max(NAME_CHARS_MAX).optional(),
      }),
    answers: { 200: explanationSchema },
    async handle({ app, caller, query }) {
      const parsed = parseRepositoryPath(query.repository, pathRules(app.config));
      const { action } = query;
      const explanation = await explain(app, caller, { account: query.account || undefined, parsed, action });
      return json(200, {
        repository: parsed.path,
        account: explanation.account,
        action,
        allowed: explanation.allowed,
        decision: explanation.rule,
        explanation: explanation.sentence,
        facts: factsView(explanation),
      });
    },
  }),
  route({
    method: "GET",
    path: "/explain/{decision}",
    summary: "Tells what the id of a decision in a refusal means",
    needs: "anyone",
    anonymousOk: true,
    answers: { 200: () => z.strictObject({ decision: z.string(), explanation: z.string() }) },
    async handle({ params }) {
      const decision = params.decision ?? "";
      if (!isRule(decision)) throw new RegistryError("not_found");
      return json(200, { decision, explanation: RULES[decision] });
    },
  }),
];
