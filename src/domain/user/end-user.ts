/** A user ends its own account: deletes it, or makes an organization of it that another user administers. */

import type { App } from "../../app.ts";
import { RegistryError } from "../../errors.ts";
import type { Caller, Principal } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { deleteNamespace } from "../namespace/delete-namespace.ts";
import { requireUnlisted } from "../namespace/rename.ts";
import { convertUserToOrganization } from "../organization/convert.ts";
import type { Account } from "./account.ts";
import { checkPassword, needsVerification } from "./check-password.ts";
import { requireUnchanged } from "./sign-in.ts";

interface Ending {
  principal: Principal;
  caller: Caller;
  request: RequestOrigin;
}

/**
 * The name is free and nothing of the account answers any more when this resolves; what it stored is collected later. Throws
 * `invalid_request` for the only admin of organizations, and for a name that the config gives rights to.
 */
export async function deleteUser(
  app: Pick<App, "config" | "db" | "clock">,
  { principal, caller, request }: Ending,
): Promise<void> {
  requireUnlisted(app.config, principal.username, "deleted");
  const nowMs = app.clock.nowMs();
  const { accountId: id, username } = principal;
  await app.db.tx(async (tx) => {
    await deleteNamespace(tx, { id, kind: "user", username });
    await logAction(tx, { kind: "user_delete", caller, namespaceId: id, request, nowMs, metadata: { username } });
  });
}

/**
 * Makes the caller's account an organization of the user whose name and password are given, and gives that user. Throws
 * `invalid_request` with the reason `invaliduser` when those are not good, `too_many_logins` while locked out. Source:
 * quay-api reference, section 2.
 */
export async function convertUser(
  app: Pick<App, "config" | "db" | "clock" | "passwords" | "logins">,
  input: Ending & { adminUsername: string; adminPassword: string },
): Promise<Account> {
  const { principal, caller, request, adminUsername } = input;
  requireUnlisted(app.config, principal.username, "converted");
  if (adminUsername === principal.username) throw invalidAdmin("The admin user is not valid");
  const admin = await checkAdmin(app, adminUsername, input.adminPassword);
  if (admin.id === principal.accountId) throw invalidAdmin("The admin user is not valid");
  const nowMs = app.clock.nowMs();
  const user = { id: principal.accountId, kind: principal.kind, username: principal.username };
  await app.db.tx(async (tx) => {
    await requireUnchanged(tx, admin);
    await convertUserToOrganization(tx, { user, admin, caller, request, nowMs });
  });
  return admin;
}

async function checkAdmin(
  app: Pick<App, "config" | "db" | "clock" | "passwords" | "logins">,
  username: string,
  password: string,
): Promise<Account> {
  try {
    const admin = await checkPassword(app, username, password);
    if (!needsVerification(app.config, admin)) return admin;
  } catch (error) {
    if (!(error instanceof RegistryError) || error.code !== "unauthorized") throw error;
  }
  throw invalidAdmin("The admin user credentials are not valid");
}

function invalidAdmin(message: string): RegistryError {
  return new RegistryError("invalid_request", { message, detail: { reason: "invaliduser" } });
}
