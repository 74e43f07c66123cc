/** The roles on repositories that a team or an account was given. Giving them is the repository's business. */

import type { Db } from "../../db/db.ts";

export interface RepositoryRole {
  readonly repository: string;
  readonly isPublic: boolean;
  readonly role: "read" | "write" | "admin";
}

/** By repository's name. Costs the holder's own roles. */
export async function listRoles(db: Db, holder: { teamId: number } | { accountId: number }): Promise<RepositoryRole[]> {
  const isHolder =
    "teamId" in holder ? db.sql`p.team_id = ${holder.teamId}` : db.sql`p.account_id = ${holder.accountId}`;
  const rows = await db.sql<{ name: string; visibility: string; role: RepositoryRole["role"] }>`/* team.roles */
    select r.name, r.visibility, p.role from repository_permission p join repository r on r.id = p.repository_id
    where ${isHolder} and r.deleted_ms is null order by r.path`;
  return rows.map((row) => ({ repository: row.name, isPublic: row.visibility === "public", role: row.role }));
}
