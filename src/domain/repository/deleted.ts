/**
 * Repositories that were deleted by themselves: which can be restored and until when, bringing one back with its tags and
 * their history, its roles, stars and policies, and giving it up before its time. Berth's own: Quay has nothing like it.
 */

import type { App } from "../../app.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import { enqueue, hastenJob, withdrawJob } from "../../db/queue.ts";
import { isUniqueViolation } from "../../db/violation.ts";
import { RegistryError } from "../../errors.ts";
import { isRepositoryName, type NamespaceName, type RepositoryName, repositoryPath } from "../../oci/names.ts";
import type { Caller } from "../access/actor.ts";
import { logAction, type RequestOrigin } from "../audit/audit.ts";
import type { ActionKind } from "../audit/kinds.ts";
import { notePrunable } from "../autoprune/due.ts";
import { repositoryKey } from "../lookup/lookup.ts";
import { lockNamespace } from "../namespace/lock.ts";
import type { Account } from "../user/account.ts";
import { findUsage } from "./extras.ts";
import { insertWords } from "./words.ts";

/** The user or organization in which it was. */
type Namespace = Pick<Account, "id" | "username">;

export interface DeletedRepository {
  readonly id: number;
  readonly uuid: string;
  /** What it was called. */
  readonly name: string;
  readonly visibility: "public" | "private";
  readonly deletedMs: number;
  /** From then on it is removed. */
  readonly restorableUntilMs: number;
  /** As far as it was counted. */
  readonly sizeBytes: number;
}

/** Where a page goes on: behind this one. */
export interface DeletedPosition {
  readonly deletedMs: number;
  readonly id: number;
}

/** The latest first, after `after`, at most `limit`. */
export async function listDeletedRepositories(
  db: Db,
  namespaceId: number,
  page: { after: DeletedPosition | undefined; limit: number },
): Promise<DeletedRepository[]> {
  const { after } = page;
  const range = after ? db.sql`and (r.deleted_ms, r.id) < (${after.deletedMs}, ${after.id})` : db.sql``;
  const rows = await db.sql<{
    id: number;
    uuid: string;
    restore_name: string;
    visibility: "public" | "private";
    deleted_ms: number;
    window_s: number;
  }>`/* repository.list_deleted */
    select r.id, r.name as uuid, r.restore_name, r.visibility, r.deleted_ms, a.tag_expiration_s as window_s
    from repository r join account a on a.id = r.namespace_id
    where r.namespace_id = ${namespaceId} and r.restore_name is not null ${range}
    order by r.deleted_ms desc, r.id desc limit ${page.limit}`;
  const usage = await findUsage(
    db,
    rows.map((row) => toNumber(row.id)),
  );
  return rows.map((row) => {
    const [id, deletedMs] = [toNumber(row.id), toNumber(row.deleted_ms)];
    return {
      id,
      uuid: row.uuid,
      name: row.restore_name,
      visibility: row.visibility,
      deletedMs,
      restorableUntilMs: deletedMs + toNumber(row.window_s) * 1000,
      sizeBytes: usage.get(id)?.sizeBytes ?? 0,
    };
  });
}

export interface ChosenRepository {
  /** The caller has been found to administer it. */
  readonly namespace: Namespace;
  readonly uuid: string;
  readonly caller: Caller;
  readonly request: RequestOrigin;
}

/**
 * Restores a deleted repository under its name or another one of the same namespace, and gives that. Throws `not_found` when
 * it is not there or is being removed, `invalid_request` for a name that it cannot have.
 */
export async function restoreRepository(
  app: Pick<App, "config" | "db" | "clock">,
  chosen: ChosenRepository,
  newName: string | undefined,
): Promise<string> {
  if (newName !== undefined && !isRepositoryName(newName, { extended: app.config.FEATURE_EXTENDED_REPOSITORY_NAMES })) {
    throw new RegistryError("invalid_request", { message: "Invalid repository name" });
  }
  const { namespace } = chosen;
  return app.db.tx(async (tx) => {
    await lockNamespace(tx, { id: namespace.id, name: namespace.username });
    const deleted = await lockDeleted(tx, chosen);
    const name = newName ?? deleted.name;
    await revive(tx, deleted.id, {
      name,
      path: repositoryPath(namespace.username as NamespaceName, name as RepositoryName),
    });
    await insertWords(tx, { id: deleted.id, name });
    await withdrawJob(tx, "repositorygc", String(deleted.id));
    await notePrunable(tx, deleted.id);
    await log(app, tx, chosen, deleted, "restore_repo", name);
    tx.changed(repositoryKey(deleted.id));
    return name;
  });
}

/** Gives up what a deleted repository could be restored from: its removal begins now. Throws `not_found`. */
export async function purgeDeletedRepository(app: Pick<App, "db" | "clock">, chosen: ChosenRepository): Promise<void> {
  await app.db.tx(async (tx) => {
    const deleted = await lockDeleted(tx, chosen);
    await tx.sql`/* repository.give_up */
      update repository set restore_name = null, restore_state = null where id = ${deleted.id}`;
    const job = { queue: "repositorygc", dedupeKey: String(deleted.id) } as const;
    await enqueue(tx, { ...job, payload: { repositoryId: deleted.id } });
    await hastenJob(tx, job.queue, job.dedupeKey);
    await log(app, tx, chosen, deleted, "permanently_delete_repo", deleted.name);
  });
}

/** Its removal asks for the same row: who holds it first has it. */
async function lockDeleted(tx: Tx, { namespace, uuid }: ChosenRepository): Promise<{ id: number; name: string }> {
  const [row] = await tx.sql<{ id: number; restore_name: string }>`/* repository.lock_deleted */
    select id, restore_name from repository
    where namespace_id = ${namespace.id} and name = ${uuid} and deleted_ms is not null and restore_name is not null
    ${tx.dialect.forUpdate}`;
  if (!row) throw new RegistryError("not_found");
  return { id: toNumber(row.id), name: row.restore_name };
}

async function revive(tx: Tx, id: number, now: { name: string; path: string }): Promise<void> {
  try {
    await tx.sql`/* repository.revive */
      update repository
      set name = ${now.name}, path = ${now.path}, state = restore_state, deleted_ms = null, restore_name = null,
          restore_state = null
      where id = ${id}`;
  } catch (error) {
    // Nobody else can make one now: the namespace is held.
    if (!isUniqueViolation(error)) throw error;
    throw new RegistryError("invalid_request", {
      message: `There is a repository "${now.path}" again: restore under another name, given as "name"`,
      detail: { name: now.path },
      cause: error,
    });
  }
}

async function log(
  app: Pick<App, "clock">,
  tx: Tx,
  { namespace, caller, request }: ChosenRepository,
  deleted: { id: number; name: string },
  kind: ActionKind,
  name: string,
): Promise<void> {
  await logAction(tx, {
    kind,
    caller,
    namespaceId: namespace.id,
    repositoryId: deleted.id,
    request,
    nowMs: app.clock.nowMs(),
    metadata: {
      repo: name,
      namespace: namespace.username,
      ...(name === deleted.name ? {} : { old_repo: deleted.name }),
    },
  });
}
