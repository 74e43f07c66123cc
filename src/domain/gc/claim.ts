/**
 * Who gets what was deleted: the purge, or somebody who restores it. Both hold the row and look at `restore_state` of a
 * repository and `restore_name` of an account, which the winner clears; so exactly one of them does.
 */

import type { App } from "../../app.ts";
import type { Tx } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

/**
 * Takes a deleted repository for its removal. Gives the milliseconds until that may begin, where it can still be restored:
 * the window of its namespace as it is now decides, unless that was claimed itself. "gone": it lives or is not there.
 */
export async function claimRepository(
  db: App["db"],
  repositoryId: number,
  goes: "by itself" | "with its namespace",
): Promise<"claimed" | "gone" | number> {
  return db.tx(async (tx) => {
    const [row] = await tx.sql<{
      namespace_id: number;
      restore_name: string | null;
      restore_state: string | null;
      deleted_ms: number;
    }>`/* purge.lock_repository */
      select namespace_id, restore_name, restore_state, deleted_ms from repository
      where id = ${repositoryId} and deleted_ms is not null ${tx.dialect.forUpdate}`;
    if (!row) return "gone";
    if (goes === "by itself" && row.restore_state !== null) {
      // It came back since somebody asked for its removal, and was deleted with its namespace: that one's removal takes it.
      if (row.restore_name === null) return "gone";
      const leftMs = await findLeftMs(tx, toNumber(row.namespace_id), toNumber(row.deleted_ms));
      if (leftMs > 0) return leftMs;
    }
    await tx.sql`/* purge.claim_repository */
      update repository set restore_name = null, restore_state = null where id = ${repositoryId}`;
    return "claimed";
  });
}

/** The same of a deleted user, organization or robot. */
export async function claimAccount(
  db: App["db"],
  accountId: number,
): Promise<{ kind: "user" | "organization" | "robot" } | "gone" | number> {
  return db.tx(async (tx) => {
    const [row] = await tx.sql<{
      kind: "user" | "organization" | "robot";
      restore_name: string | null;
      deleted_ms: number;
    }>`/* purge.lock_account */
      select kind, restore_name, deleted_ms from account
      where id = ${accountId} and deleted_ms is not null ${tx.dialect.forUpdate}`;
    if (!row) return "gone";
    if (row.restore_name !== null) {
      const leftMs = await findLeftMs(tx, accountId, toNumber(row.deleted_ms));
      if (leftMs > 0) return leftMs;
    }
    await tx.sql`/* purge.claim_account */ update account set restore_name = null where id = ${accountId}`;
    return { kind: row.kind };
  });
}

async function findLeftMs(tx: Tx, namespaceId: number, deletedMs: number): Promise<number> {
  const [row] = await tx.sql<{ left_ms: number }>`/* purge.window */
    select ${deletedMs} + tag_expiration_s * 1000 - ${tx.dialect.nowMs} as left_ms
    from account where id = ${namespaceId}`;
  return toNumber(row?.left_ms ?? 0);
}
