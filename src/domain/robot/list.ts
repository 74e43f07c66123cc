/** Robots as their namespace's people see them: one, or all of a namespace. Source: quay-api reference, section 6. */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { toNumber } from "../../db/decode.ts";
import type { KeyPage } from "../../db/page.ts";
import { getRobotAccount, type RobotOwner } from "./robot.ts";

export interface RobotView {
  readonly id: number;
  /** `namespace+short`. */
  readonly name: string;
  readonly description: string;
  readonly createdMs: number;
  readonly lastAccessedMs: number | undefined;
  /** Undefined when it was not asked for. */
  readonly token: string | undefined;
  readonly metadata: Record<string, unknown>;
}

/** What robots may, as names; of all robots that were listed. */
export interface RobotRights {
  readonly teams: ReadonlyMap<number, readonly string[]>;
  readonly repositories: ReadonlyMap<number, readonly string[]>;
}

interface RobotRow {
  id: number;
  username: string;
  description: string;
  metadata: string;
  token_encrypted: string | null;
  created_ms: number;
  last_accessed_ms: number | null;
}

type ListApp = Pick<App, "db" | "secrets">;

/** Robots of a namespace, a page by full name. Tokens only for those who administer it. */
export async function listRobots(
  app: ListApp,
  owner: RobotOwner,
  page: KeyPage & { withTokens: boolean },
): Promise<RobotView[]> {
  const rows = await app.db.sql<RobotRow>`/* robot.list */
    select id, username, description, metadata, token_encrypted, created_ms, last_accessed_ms
    from account where owner_id = ${owner.id} and username > ${page.after} and deleted_ms is null
    order by username limit ${page.limit}`;
  return rows.map((row) => decodeRobot(app, row, page.withTokens));
}

/** One robot with its token. Throws `invalid_request`: `Could not find robot with specified username`. */
export async function getRobot(app: ListApp, owner: RobotOwner, shortName: string): Promise<RobotView> {
  const account = await getRobotAccount(app.db, owner, shortName);
  const [row] = await app.db.sql<RobotRow>`/* robot.get */
    select id, username, description, metadata, token_encrypted, created_ms, last_accessed_ms
    from account where id = ${account.id}`;
  if (!row) throw new Error(`robot ${account.id} vanished`);
  return decodeRobot(app, row, true);
}

/** Teams and repositories of a page of robots. Two queries; costs the robots' own rights. */
export async function findRobotRights(db: Db, robotIds: readonly number[]): Promise<RobotRights> {
  const teams = await db.sql<{ id: number; name: string }>`/* robot.teams */
    select m.account_id as id, t.name from team_member m join team t on t.id = m.team_id
    where ${db.dialect.inList("m.account_id", robotIds)} order by t.name`;
  const repositories = await db.sql<{ id: number; name: string }>`/* robot.repositories */
    select p.account_id as id, r.name from repository_permission p join repository r on r.id = p.repository_id
    where ${db.dialect.inList("p.account_id", robotIds)} and r.deleted_ms is null order by r.name`;
  return { teams: byRobot(teams), repositories: byRobot(repositories) };
}

function byRobot(rows: readonly { id: number; name: string }[]): Map<number, string[]> {
  const names = new Map<number, string[]>();
  for (const row of rows) {
    const id = toNumber(row.id);
    const own = names.get(id);
    if (own) own.push(row.name);
    else names.set(id, [row.name]);
  }
  return names;
}

function decodeRobot(app: Pick<App, "secrets">, row: RobotRow, withToken: boolean): RobotView {
  return {
    id: toNumber(row.id),
    name: row.username,
    description: row.description,
    createdMs: toNumber(row.created_ms),
    lastAccessedMs: row.last_accessed_ms === null ? undefined : toNumber(row.last_accessed_ms),
    token: withToken && row.token_encrypted !== null ? app.secrets.open(row.token_encrypted) : undefined,
    metadata: JSON.parse(row.metadata) as Record<string, unknown>,
  };
}
