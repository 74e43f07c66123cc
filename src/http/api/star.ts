/** The repositories a user has starred. Source: quay-api reference, section 2. */

import { z } from "zod";
import { pathRules } from "../../domain/blob/blob.ts";
import { listRepositories } from "../../domain/repository/list.ts";
import { starRepository, unstarRepository } from "../../domain/star/star.ts";
import { parseRepositoryPath } from "../../oci/names.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";

const PAGE = 100;
const PAGE_LIST = "starred";

export const starRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/user/starred",
    summary: "Lists the repositories that the caller has starred",
    needs: { account: "admin" },
    query: () => z.object({ next_page: z.string().optional() }),
    answers: {
      200: () =>
        z.strictObject({
          repositories: z.array(
            z.strictObject({
              namespace: z.string(),
              name: z.string(),
              description: z.string(),
              is_public: z.boolean(),
            }),
          ),
          next_page: z.string().optional(),
        }),
    },
    async handle({ app, caller, query }) {
      const { repositories, next } = await listRepositories(app, caller, {
        starred: true,
        namespace: undefined,
        withPublic: true,
        kind: "image",
        last: openPage(app, PAGE_LIST, query.next_page, z.string()),
        limit: PAGE,
      });
      return json(200, {
        repositories: repositories.map(({ namespace, name, description, visibility }) => ({
          namespace,
          name,
          description,
          is_public: visibility === "public",
        })),
        ...(next === undefined ? {} : { next_page: sealPage(app, PAGE_LIST, next) }),
      });
    },
  }),
  route({
    method: "POST",
    path: "/user/starred",
    summary: "Stars a repository",
    needs: { account: "admin" },
    body: () => z.object({ namespace: z.string(), repository: z.string() }),
    answers: { 201: () => z.strictObject({ namespace: z.string(), repository: z.string() }) },
    async handle({ app, caller, principal, body }) {
      const { namespace, repository } = body;
      const parsed = parseRepositoryPath(`${namespace}/${repository}`, pathRules(app.config));
      await starRepository(app, caller, principal, parsed);
      return json(201, { namespace, repository });
    },
  }),
  route({
    method: "DELETE",
    path: "/user/starred/{repository}",
    summary: "Takes a star away",
    needs: { account: "admin" },
    answers: { 204: null },
    async handle({ app, principal, params }) {
      await unstarRepository(app, principal, parseRepositoryPath(params.repository ?? "", pathRules(app.config)));
      return noContent();
    },
  }),
];
