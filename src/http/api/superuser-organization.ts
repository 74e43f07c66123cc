/** Organizations, for superusers. Source: quay-api reference, section 15. */

import { z } from "zod";
import type { Config } from "../../config/schema.ts";
import { deleteManagedOrganization, renameManagedOrganization } from "../../domain/superuser/organizations.ts";
import { findManagedOrganization, listManagedOrganizations } from "../../domain/superuser/queries.ts";
import { RegistryError } from "../../errors.ts";
import { openPage, sealPage } from "./paging.ts";
import { type ApiRoute, json, noContent, route } from "./route.ts";
import {
  listShape,
  managedOrganizationSchema,
  managedOrganizationView,
  reportsOf,
  requirePageLimit,
} from "./superuser-view.ts";

const LIST = "superuser:organizations";
const feature = (config: Config) => config.FEATURE_SUPER_USERS;

export const superuserOrganizationRoutes: readonly ApiRoute[] = [
  route({
    method: "GET",
    path: "/superuser/organizations/",
    summary: "Lists the organizations of the registry",
    needs: "superuser",
    feature,
    freshLogin: true,
    internal: true,
    query: () => z.object(listShape()),
    answers: {
      200: () =>
        z.strictObject({ organizations: z.array(managedOrganizationSchema()), next_page: z.string().optional() }),
    },
    async handle({ app, query }) {
      requirePageLimit(query.limit);
      const last = openPage(app, LIST, query.next_page, z.string()) ?? "";
      const found = await listManagedOrganizations(app.db, { last, limit: query.limit + 1 });
      const organizations = found.slice(0, query.limit);
      const reports = await reportsOf(app, organizations);
      const end = found.length > query.limit ? organizations.at(-1) : undefined;
      return json(200, {
        organizations: organizations.map((each) => managedOrganizationView(each, reports.get(each.id))),
        ...(end ? { next_page: sealPage(app, LIST, end.name) } : {}),
      });
    },
  }),
  route({
    method: "PUT",
    path: "/superuser/organizations/{name}",
    summary: "Gives an organization another name",
    needs: "superuser",
    feature,
    freshLogin: true,
    body: () => z.object({ name: z.string().optional() }),
    answers: { 200: managedOrganizationSchema },
    async handle({ app, caller, params, body, origin }) {
      const name = params.name ?? "";
      const organization =
        body.name === undefined
          ? await findManagedOrganization(app.db, name)
          : await renameManagedOrganization(app, caller, origin(), name, body.name);
      if (!organization) throw new RegistryError("not_found");
      const reports = await reportsOf(app, [organization]);
      return json(200, managedOrganizationView(organization, reports.get(organization.id)));
    },
  }),
  route({
    method: "DELETE",
    path: "/superuser/organizations/{name}",
    summary: "Deletes an organization with everything in it, in the background",
    needs: "superuser",
    feature,
    freshLogin: true,
    answers: { 204: null },
    async handle({ app, caller, params, origin }) {
      await deleteManagedOrganization(app, caller, origin(), params.name ?? "");
      return noContent();
    },
  }),
];
