/**
 * What superusers do with users: making, changing, disabling, promoting and deleting them. A superuser never changes or
 * deletes another one this way. Source: quay-api reference, section 15; quay-behaviour, section 3.
 */

import type { App } from "../../app.ts";
import { durationMs } from "../../config/units.ts";
import type { Tx } from "../../db/db.ts";
import { isUniqueViolation } from "../../db/violation.ts";
import { RegistryError } from "../../errors.ts";
import { randomText } from "../../lib/random.ts";
import { parseEmail, parsePassword } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { deleteNamespace } from "../namespace/delete-namespace.ts";
import { takeOwnership } from "../organization/convert.ts";
import { endSessions } from "../session/session.ts";
import { accountKey, createUser, findAccount, isSuperuser, setEnabled, setPasswordHash } from "../user/account.ts";
import { lockManagedUser, type ManagedUser } from "./queries.ts";

type SuperuserApp = Pick<App, "config" | "db" | "clock" | "passwords">;

/** Source: quay-api reference, section 15. */
const PASSWORD_CHARS = 32;

/** Makes a user with a random password, which is given back once. Throws with Quay's texts. */
export async function createManagedUser(
  app: SuperuserApp,
  caller: Caller,
  request: RequestOrigin,
  input: { username: string; email: string | undefined },
): Promise<{ password: string }> {
  requireDatabaseUsers(app, "Cannot create a user in a non-database auth system");
  const password = randomText(PASSWORD_CHARS);
  const passwordHash = await app.passwords.hash(password);
  const nowMs = app.clock.nowMs();
  const tagExpirationSeconds = durationMs(app.config.DEFAULT_TAG_EXPIRATION) / 1000;
  await app.db.tx(async (tx) => {
    if (input.email !== undefined) await requireFreeEmail(tx, input.email, undefined);
    const id = await createUser(tx, { ...input, passwordHash }, { tagExpirationSeconds, nowMs });
    const metadata = { email: input.email ?? null, username: input.username };
    await logManaged(tx, "user_create", { id, caller, request, nowMs }, metadata);
  });
  return { password };
}

/** Only what is given is changed. */
export interface UserChange {
  readonly password?: string | undefined;
  readonly email?: string | undefined;
  readonly enabled?: boolean | undefined;
  readonly superuser?: boolean | undefined;
}

/**
 * Changes a user and gives it as it is then. A new password and disabling end the user's sessions. Who is a superuser can
 * only be made none, and only when not by the config. Throws `not_found`, and `invalid_request` with Quay's texts.
 */
export async function updateManagedUser(
  app: SuperuserApp,
  caller: Caller,
  request: RequestOrigin,
  username: string,
  change: UserChange,
): Promise<ManagedUser> {
  const { password, email } = change;
  if (password !== undefined) {
    requireDatabaseUsers(app, "Cannot change password in non-database auth");
    parsePassword(password);
  }
  if (email !== undefined) {
    requireDatabaseUsers(app, "Cannot change e-mail in non-database auth");
    parseEmail(email);
  }
  const passwordHash = password === undefined ? undefined : await app.passwords.hash(password);
  const nowMs = app.clock.nowMs();
  return app.db.tx(async (tx) => {
    const user = await lockManagedUser(tx, username);
    if (!user) throw new RegistryError("not_found");
    if (isSuperuser(app.config, user)) requireMayDemote(app, user, change);
    const entry = { id: user.id, caller, request, nowMs };
    if (passwordHash !== undefined) await changePassword(tx, user, passwordHash, entry);
    if (email !== undefined && email !== user.email) await changeEmail(tx, user, email, entry);
    if (change.enabled !== undefined && change.enabled !== user.enabled) {
      await changeEnabled(tx, user, change.enabled, entry);
    }
    if (change.superuser !== undefined && change.superuser !== isSuperuser(app.config, user)) {
      await changeSuperuser(tx, user, change.superuser, entry);
    }
    const changed = await lockManagedUser(tx, username);
    if (!changed) throw new RegistryError("not_found");
    return changed;
  });
}

/**
 * A promotion through the API can be taken back through it, since nobody could otherwise; nothing else of a superuser is
 * another's to change, and what the config says stays.
 */
function requireMayDemote(app: SuperuserApp, user: ManagedUser, change: UserChange): void {
  const isDemotion =
    change.superuser === false && Object.values(change).filter((value) => value !== undefined).length === 1;
  if (isDemotion && !app.config.SUPER_USERS.includes(user.username)) return;
  throw invalid("Cannot update a superuser");
}

/** Deletes a user, its repositories and robots in the background. Throws `not_found` and `invalid_request`. */
export async function deleteManagedUser(
  app: SuperuserApp,
  caller: Caller,
  request: RequestOrigin,
  username: string,
): Promise<void> {
  requireDatabaseUsers(app, "Cannot delete a user in a non-database auth system");
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const user = await lockManagedUser(tx, username);
    if (!user) throw new RegistryError("not_found");
    if (isSuperuser(app.config, user)) throw invalid("Cannot delete a superuser");
    await deleteNamespace(tx, user);
    await logManaged(tx, "user_delete", { id: user.id, caller, request, nowMs }, { username });
  });
}

/** Makes the calling superuser the owner of a namespace. Throws `not_found` and `invalid_request`. */
export async function takeNamespace(
  app: SuperuserApp,
  caller: Caller,
  request: RequestOrigin,
  name: string,
): Promise<void> {
  const nowMs = app.clock.nowMs();
  await app.db.tx(async (tx) => {
    const namespace = await findAccount(tx, name);
    if (!namespace || namespace.kind === "robot") throw new RegistryError("not_found");
    await takeOwnership(app, tx, { namespace, caller, request, nowMs });
  });
}

interface Entry {
  readonly id: number;
  readonly caller: Caller;
  readonly request: RequestOrigin;
  readonly nowMs: number;
}

async function changePassword(tx: Tx, user: ManagedUser, passwordHash: string, entry: Entry): Promise<void> {
  await setPasswordHash(tx, user.id, passwordHash);
  await endSessions(tx, user.id);
  await logManaged(tx, "user_change_password", entry, { username: user.username });
}

async function changeEmail(tx: Tx, user: ManagedUser, email: string, entry: Entry): Promise<void> {
  await requireFreeEmail(tx, email, user.id);
  try {
    await tx.sql`/* superuser.set_email */ update account set email = ${email} where id = ${user.id}`;
  } catch (error) {
    if (isUniqueViolation(error)) throw emailTaken();
    throw error;
  }
  tx.changed(accountKey(user.id));
  await logManaged(tx, "user_change_email", entry, { username: user.username, email, old_email: user.email ?? null });
}

async function changeEnabled(tx: Tx, user: ManagedUser, enabled: boolean, entry: Entry): Promise<void> {
  await setEnabled(tx, user.id, enabled);
  if (!enabled) await endSessions(tx, user.id);
  await logManaged(tx, enabled ? "user_enable" : "user_disable", entry, { username: user.username });
}

async function changeSuperuser(tx: Tx, user: ManagedUser, superuser: boolean, entry: Entry): Promise<void> {
  await tx.sql`/* superuser.set */ update account set superuser = ${superuser} where id = ${user.id}`;
  tx.changed(accountKey(user.id));
  await logManaged(tx, "user_change_superuser", entry, { username: user.username, granted: superuser });
}

/** Source of the text: quay-api reference, section 2.2. */
async function requireFreeEmail(tx: Tx, email: string, exceptId: number | undefined): Promise<void> {
  const rows = await tx.sql`/* superuser.email_taken */
    select id from account where email = ${email} and id <> ${exceptId ?? 0} limit 1`;
  if (rows.length > 0) throw emailTaken();
}

function emailTaken(): RegistryError {
  return invalid("E-mail address already used");
}

/** Quay names the superuser who did it in every such entry. */
async function logManaged(tx: Tx, kind: ActionKind, entry: Entry, metadata: Record<string, unknown>): Promise<void> {
  const { id, caller, request, nowMs } = entry;
  const superuser = caller.principal?.username ?? null;
  await logAction(tx, { kind, caller, namespaceId: id, request, nowMs, metadata: { ...metadata, superuser } });
}

function requireDatabaseUsers(app: Pick<App, "config">, message: string): void {
  if (app.config.AUTHENTICATION_TYPE !== "Database") throw invalid(message);
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
