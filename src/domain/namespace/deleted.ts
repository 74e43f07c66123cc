/** Users and organizations that were deleted and can be restored, as superusers see them. */

import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";

export interface DeletedAccount {
  readonly id: number;
  readonly uuid: string;
  readonly kind: "user" | "organization";
  /** What it was called. */
  readonly name: string;
  readonly deletedMs: number;
  /** From then on it is removed. */
  readonly restorableUntilMs: number;
  /** How many repositories come back with it. */
  readonly repositories: number;
}

/** Where a page goes on: behind this one. */
export interface DeletedPosition {
  readonly deletedMs: number;
  readonly id: number;
}

/** The latest first, after `after`, at most `limit`. Costs the page, and counting the repositories of those on it. */
export async function listDeletedNamespaces(
  db: Db,
  page: { after: DeletedPosition | undefined; limit: number },
): Promise<DeletedAccount[]> {
  const { after } = page;
  const range = after ? db.sql`and (deleted_ms, id) < (${after.deletedMs}, ${after.id})` : db.sql``;
  const rows = await db.sql<{
    id: number;
    uuid: string;
    kind: "user" | "organization";
    restore_name: string;
    deleted_ms: number;
    window_s: number;
    repositories: number;
  }>`/* namespace.list_deleted */
    select a.id, a.uuid, a.kind, a.restore_name, a.deleted_ms, a.tag_expiration_s as window_s,
           (select count(*) from repository r
            where r.namespace_id = a.id and r.restore_state is not null and r.restore_name is null) as repositories
    from (select * from account
          where deleted_ms is not null and restore_name is not null and owner_id is null ${range}
          order by deleted_ms desc, id desc limit ${page.limit}) a
    order by a.deleted_ms desc, a.id desc`;
  return rows.map((row) => {
    const deletedMs = toNumber(row.deleted_ms);
    return {
      id: toNumber(row.id),
      uuid: row.uuid,
      kind: row.kind,
      name: row.restore_name,
      deletedMs,
      restorableUntilMs: deletedMs + toNumber(row.window_s) * 1000,
      repositories: toNumber(row.repositories),
    };
  });
}
