/**
 * Bringing a deleted user or organization back, with what was its own: repositories, robots with their tokens, teams with
 * their members, default permissions, policies, quota and applications. Sessions, tokens, invitations, stars and the trust
 * of robots in other issuers stay ended. Berth's own: Quay has nothing like it.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { enqueue, hastenJob, withdrawJob } from "../../db/queue.ts";
import { isUniqueViolation } from "../../db/violation.ts";
import { RegistryError } from "../../errors.ts";
import { parseNamespaceName } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import { notePolicy } from "../autoprune/due.ts";
import { noteNamespace } from "../quota/count.ts";
import { insertWordsOfNamespace } from "../repository/words.ts";
import { EVERYTHING } from "../user/account.ts";
import { requireUnlisted } from "./rename.ts";

type RestoreApp = Pick<App, "config" | "db" | "clock">;

export interface ChosenNamespace {
  readonly uuid: string;
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

interface Locked {
  readonly id: number;
  readonly kind: "user" | "organization";
  /** What it was called. */
  readonly name: string;
}

/**
 * Restores a deleted account under its name or another one, and gives that. Throws `not_found` when it is not there, lives,
 * or is being removed; `name_invalid` and `invalid_request` for a name that it cannot have.
 */
export async function restoreNamespace(
  app: RestoreApp,
  chosen: ChosenNamespace,
  newName: string | undefined,
): Promise<{ name: string; kind: "user" | "organization" }> {
  const wanted = newName === undefined ? undefined : parseNamespaceName(newName);
  return app.db.tx(async (tx) => {
    const deleted = await lockDeleted(tx, chosen.uuid);
    const { id, kind } = deleted;
    const name = wanted ?? deleted.name;
    if (kind === "user" && name !== deleted.name) requireUnlisted(app.config, name, "given by restoring");
    await reviveAccount(tx, deleted, name);
    await reviveContents(tx, deleted, name);
    await reviveMemberships(tx, id);
    await withdrawJob(tx, "namespacegc", String(id));
    // Accounts that are deleted are passed over when the feature is turned on.
    await noteNamespace(tx, id);
    await notePolicy(tx, { namespaceId: id, namespace: name, repository: undefined });
    tx.changed(EVERYTHING);
    await log(app, tx, chosen, deleted, kind === "user" ? "user_restore" : "org_restore", name);
    return { name, kind };
  });
}

/** Gives up what a deleted account could be restored from: its removal begins now. Throws `not_found`. */
export async function purgeDeletedNamespace(app: RestoreApp, chosen: ChosenNamespace): Promise<void> {
  await app.db.tx(async (tx) => {
    const deleted = await lockDeleted(tx, chosen.uuid);
    await tx.sql`/* namespace.give_up */ update account set restore_name = null where id = ${deleted.id}`;
    const job = { queue: "namespacegc", dedupeKey: String(deleted.id) } as const;
    await enqueue(tx, { ...job, payload: { namespaceId: deleted.id } });
    await hastenJob(tx, job.queue, job.dedupeKey);
    const kind = deleted.kind === "user" ? "user_permanently_delete" : "org_permanently_delete";
    await log(app, tx, chosen, deleted, kind, deleted.name);
  });
}

/** Its removal asks for the same row: who holds it first has it. */
async function lockDeleted(tx: Tx, uuid: string): Promise<Locked> {
  const [row] = await tx.sql<{
    id: number;
    kind: "user" | "organization";
    restore_name: string;
  }>`/* namespace.lock_deleted */
    select id, kind, restore_name from account
    where uuid = ${uuid} and owner_id is null and deleted_ms is not null and restore_name is not null
    ${tx.dialect.forUpdate}`;
  if (!row) throw new RegistryError("not_found");
  return { id: toNumber(row.id), kind: row.kind, name: row.restore_name };
}

/** An address that somebody else has by now does not come back. */
async function reviveAccount(tx: Tx, { id }: Locked, name: string): Promise<void> {
  const taken = await tx.sql`/* namespace.name_taken */ select 1 as one from account where username = ${name}`;
  if (taken.length > 0) throw nameTaken(name);
  try {
    await tx.sql`/* namespace.revive */
      update account
      set username = ${name}, deleted_ms = null, restored_ms = ${tx.dialect.nowMs}, enabled = restore_enabled,
          email = case when not exists (select 1 from account o where o.email = account.restore_email)
                       then restore_email end,
          shared_email = restore_shared_email,
          restore_name = null, restore_email = null, restore_shared_email = null, restore_enabled = null
      where id = ${id}`;
  } catch (error) {
    // Somebody took the name, or the address, since we looked.
    if (isUniqueViolation(error)) throw nameTaken(name, error);
    throw error;
  }
}

function nameTaken(name: string, cause?: unknown): RegistryError {
  return new RegistryError("invalid_request", {
    message: `The name "${name}" has been taken since: restore under another name, given as "name"`,
    detail: { name },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Repositories that were deleted before it stay deleted, and can be restored by themselves as long as their time is not over. */
async function reviveContents(tx: Tx, { id, name: oldName }: Locked, name: string): Promise<void> {
  await tx.sql`/* namespace.revive_repositories */
    update repository
    set path = ${`${name}/`} || name, state = restore_state, deleted_ms = null, restore_state = null
    where namespace_id = ${id} and deleted_ms is not null and restore_state is not null and restore_name is null`;
  await insertWordsOfNamespace(tx, id);
  // A robot's name is its namespace's, a plus, and its own.
  await tx.sql`/* namespace.revive_robots */
    update account
    set username = ${name} || substr(restore_name, cast(${oldName.length + 1} as integer)), deleted_ms = null,
        restored_ms = ${tx.dialect.nowMs}, enabled = restore_enabled, restore_name = null, restore_enabled = null
    where owner_id = ${id} and deleted_ms is not null and restore_name is not null`;
}

/**
 * Who was in its teams is again, and so is it in the teams of others; the same of a user's roles. What was deleted meanwhile
 * is left out, and comes back when that does.
 */
async function reviveMemberships(tx: Tx, id: number): Promise<void> {
  for (const which of [tx.sql`t.organization_id = ${id}`, tx.sql`m.account_id = ${id}`]) {
    const members = tx.sql`
      from retired_member m join team t on t.id = m.team_id join account o on o.id = t.organization_id
        join account a on a.id = m.account_id
      where ${which} and o.deleted_ms is null and a.deleted_ms is null`;
    await tx.sql`/* namespace.revive_members */
      insert into team_member (team_id, account_id) select m.team_id, m.account_id ${members} on conflict do nothing`;
    await tx.sql`/* namespace.revived_members */
      delete from retired_member where (team_id, account_id) in (select m.team_id, m.account_id ${members})`;
  }
  await tx.sql`/* namespace.revive_roles */
    insert into repository_permission (repository_id, account_id, role)
    select r.repository_id, r.account_id, r.role from retired_role r where r.account_id = ${id} on conflict do nothing`;
  await tx.sql`/* namespace.revived_roles */ delete from retired_role where account_id = ${id}`;
}

async function log(
  app: Pick<App, "clock">,
  tx: Tx,
  { caller, request }: ChosenNamespace,
  deleted: Locked,
  kind: "user_restore" | "org_restore" | "user_permanently_delete" | "org_permanently_delete",
  name: string,
): Promise<void> {
  const superuser = caller.principal?.username ?? null;
  const was = deleted.kind === "user" ? { old_username: deleted.name } : { old_name: deleted.name };
  const is = deleted.kind === "user" ? { username: name } : { namespace: name };
  await logAction(tx, {
    kind,
    caller,
    namespaceId: deleted.id,
    request,
    nowMs: app.clock.nowMs(),
    metadata: { ...is, ...(name === deleted.name ? {} : was), superuser },
  });
}
