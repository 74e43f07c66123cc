/** The roles on repositories that a team or an account was given. Giving them is the repository's business. */

import type { Db } from "../../db/db.ts";
import type { KeyPage } from "../../db/page.ts";

export interface RepositoryRole {
  readonly repository: string;
  /** With its namespace: what the list is ordered by. */
  readonly path: string;
  readonly isPublic: boolean;
  readonly role: "read" | "write" | "admin";
}

/** A page by the repository's path. Costs the holder's own roles. */
export async function listRoles(
  db: Db,
  holder: { teamId: number } | { accountId: number },
  page: KeyPage,
): Promise<RepositoryRole[]> {
  const isHolder =
    "teamId" in holder ? db.sql`p.team_id = ${holder.teamId}` : db.sql`p.account_id = ${holder.accountId}`;
  const rows = await db.sql<{
    name: string;
    path: string;
    visibility: string;
    role: RepositoryRole["role"];
  }>`/* team.roles */
    select r.name, r.path, r.visibility, p.role from repository_permission p join repository r on r.id = p.repository_id
    where ${isHolder} and r.path > ${page.after} and r.deleted_ms is null order by r.path limit ${page.limit}`;
  return rows.map((row) => ({
    repository: row.name,
    path: row.path,
    isPublic: row.visibility === "public",
    role: row.role,
  }));
}
