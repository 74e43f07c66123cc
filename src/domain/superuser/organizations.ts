/** What superusers do with organizations: renaming and deleting them. Source: quay-api reference, section 15. */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { deleteNamespace } from "../namespace/delete-namespace.ts";
import { renameNamespace } from "../namespace/rename.ts";
import { lockManagedOrganization, type ManagedOrganization } from "./queries.ts";

type OrganizationApp = Pick<App, "config" | "db" | "clock">;

/** Gives an organization another name and gives it as it is then. Throws `not_found`, `name_invalid`, `invalid_request`. */
export async function renameManagedOrganization(
  app: OrganizationApp,
  caller: Caller,
  request: RequestOrigin,
  name: string,
  newName: string,
): Promise<ManagedOrganization> {
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    const organization = await lockManagedOrganization(tx, name);
    if (!organization) throw new RegistryError("not_found");
    const namespace = { id: organization.id, kind: "organization", username: name } as const;
    await renameNamespace(app, tx, { namespace, newName, caller, request, nowMs });
    return { ...organization, name: newName };
  });
}

/** Deletes an organization in the background. Throws `not_found`. */
export async function deleteManagedOrganization(
  app: OrganizationApp,
  caller: Caller,
  request: RequestOrigin,
  name: string,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const organization = await lockManagedOrganization(tx, name);
    if (!organization) throw new RegistryError("not_found");
    await deleteNamespace(tx, { id: organization.id, kind: "organization", username: name });
    await logAction(tx, {
      kind: "org_delete",
      caller,
      namespaceId: organization.id,
      request,
      nowMs,
      metadata: { namespace: name, superuser: caller.principal?.username ?? null },
    });
  });
}
