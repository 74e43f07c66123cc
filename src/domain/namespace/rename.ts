/**
 * Another name for a user or an organization: its repositories' paths and its robots' names follow in the same transaction,
 * so that nobody ever sees half of it. What names it by id (rights, logs, tokens) is not touched.
 */

import type { App } from "../../app.ts";
import type { Config } from "../../config/schema.ts";
import type { Tx } from "../../db/db.ts";
import { isUniqueViolation } from "../../db/violation.ts";
import { RegistryError } from "../../errors.ts";
import { parseNamespaceName } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { type Account, EVERYTHING } from "../user/account.ts";

export interface Rename {
  namespace: Pick<Account, "id" | "kind" | "username">;
  newName: string;
  caller: Caller;
  request: RequestOrigin;
  nowMs: number;
}

type NamePolicy = Pick<Config, "SUPER_USERS" | "GLOBAL_READONLY_SUPER_USERS" | "RESTRICTED_USERS_WHITELIST">;

/**
 * Renames a namespace and writes the log entry. Three statements, whose cost is the namespace's repositories and robots.
 * Log-ins, tokens and pulls under the old name end at commit. Throws `name_invalid`, `not_found` when it is gone or was
 * renamed meanwhile, and `invalid_request` for a name that is taken or that the config gives rights to. Source of the
 * texts: quay-api reference, section 2.2.
 */
export async function renameNamespace(app: Pick<App, "config">, tx: Tx, input: Rename): Promise<void> {
  const { namespace, nowMs } = input;
  const newName = parseNamespaceName(input.newName);
  if (namespace.kind === "robot") throw new RegistryError("not_found");
  if (newName === namespace.username) return;
  if (namespace.kind === "user") requireNoListedName(app.config, namespace.username, newName);
  await moveAccount(tx, namespace, newName);
  await tx.sql`/* namespace.rename_repositories */
    update repository set path = ${`${newName}/`} || name where namespace_id = ${namespace.id} and deleted_ms is null`;
  // A robot's name is its namespace's, a plus, and its own: what follows the old name stays.
  await tx.sql`/* namespace.rename_robots */
    update account set username = ${newName} || substr(username, cast(${namespace.username.length + 1} as integer))
    where owner_id = ${namespace.id} and deleted_ms is null`;
  tx.changed(EVERYTHING);
  await logRename(tx, input, newName, nowMs);
}

/** Rights in the config go by name: nobody gives them to himself, or loses them, by taking another one. */
function requireNoListedName(config: NamePolicy, oldName: string, newName: string): void {
  if (isListed(config, newName)) {
    throw invalid(`The name "${newName}" is named in the registry's configuration and cannot be taken by renaming`);
  }
  requireUnlisted(config, oldName, "renamed");
}

/**
 * Throws `invalid_request` for a name that the config gives rights to: it must not become free, for whoever signs up under
 * it next would have them.
 */
export function requireUnlisted(
  config: NamePolicy,
  name: string,
  what: "renamed" | "deleted" | "converted" | "given by restoring",
): void {
  if (!isListed(config, name)) return;
  throw invalid(`"${name}" is named in the registry's configuration and cannot be ${what}`);
}

function isListed(config: NamePolicy, name: string): boolean {
  const { SUPER_USERS, GLOBAL_READONLY_SUPER_USERS, RESTRICTED_USERS_WHITELIST } = config;
  return [SUPER_USERS, GLOBAL_READONLY_SUPER_USERS, RESTRICTED_USERS_WHITELIST ?? []].some((list) =>
    list.includes(name),
  );
}

async function moveAccount(tx: Tx, namespace: Rename["namespace"], newName: string): Promise<void> {
  try {
    const rows = await tx.sql`/* namespace.rename */
      update account set username = ${newName}
      where id = ${namespace.id} and kind = ${namespace.kind} and username = ${namespace.username}
        and deleted_ms is null
      returning id`;
    if (rows.length === 0) throw new RegistryError("not_found");
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    const message =
      namespace.kind === "user" ? "Username is already in use" : "A user or organization with this name already exists";
    throw new RegistryError("invalid_request", { message, cause: error });
  }
}

async function logRename(tx: Tx, input: Rename, newName: string, nowMs: number): Promise<void> {
  const { namespace, caller, request } = input;
  const isUser = namespace.kind === "user";
  const base = isUser
    ? { old_username: namespace.username, username: newName }
    : { old_name: namespace.username, new_name: newName };
  // Who renames somebody else's namespace does so as superuser.
  const bySuperuser = caller.principal?.superuser === true && caller.principal.accountId !== namespace.id;
  await logAction(tx, {
    kind: isUser ? "user_change_name" : "org_change_name",
    caller,
    namespaceId: namespace.id,
    request,
    nowMs,
    metadata: bySuperuser ? { ...base, superuser: caller.principal?.username } : base,
  });
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
