/**
 * Roles on a repository: of users and robots, and of the teams of its organization. They hold for the next request
 * everywhere, cached pulls among them. Rules and texts: quay-behaviour reference, section 4; quay-api, section 11.
 */

import type { App } from "../../app.ts";
import type { Db } from "../../db/db.ts";
import { RegistryError } from "../../errors.ts";
import { showValue } from "../../oci/quote.ts";
import type { RepositoryFacts } from "../access/facts.ts";
import { type Change, inChange } from "../repository/settings.ts";
import { type Account, findAccount } from "../user/account.ts";
import {
  type AccountRole,
  deleteAccountRole,
  deleteTeamRole,
  findTeamId,
  type GivenRole,
  listAccountRoles,
  listRolesOfAccount,
  listTeamRoles,
  putAccountRole,
  putTeamRole,
  type TeamRole,
} from "./queries.ts";

export type { AccountRole, GivenRole, TeamRole } from "./queries.ts";

type PermissionApp = Pick<App, "db" | "clock">;

/** Quay shows all roles of a repository in one answer; more than this are cut, by name. */
export const ROLES_SHOWN_MAX = 10_000;

export function listUserPermissions(app: Pick<App, "db">, repository: RepositoryFacts): Promise<AccountRole[]> {
  return listAccountRoles(app.db, repository, { limit: ROLES_SHOWN_MAX });
}

/** Throws `invalid_request` for an account that is not there or has no role of its own. */
export async function getUserPermission(
  app: Pick<App, "db">,
  repository: RepositoryFacts,
  username: string,
): Promise<AccountRole> {
  const account = await getAccount(app.db, username);
  const [found] = await listAccountRoles(app.db, repository, { limit: 1, accountId: account.id });
  if (!found) throw none("User");
  return found;
}

/** What the account was given itself and through teams. Throws `not_found` for one that is not there. */
export async function listTransitivePermissions(
  app: Pick<App, "db">,
  repository: RepositoryFacts,
  username: string,
): Promise<GivenRole[]> {
  const account = await findGrantee(app.db, username);
  if (!account) throw new RegistryError("not_found");
  return listRolesOfAccount(app.db, repository.id, account.id);
}

/** Gives a user or a robot of the namespace a role instead of the one it had. Throws `invalid_request` in Quay's words. */
export async function putUserPermission(
  app: PermissionApp,
  change: Change,
  username: string,
  role: GivenRole,
): Promise<AccountRole> {
  const { repository } = change;
  requireNotOwner(repository, username);
  const account = await getAccount(app.db, username);
  if (account.kind === "robot" && account.ownerId !== repository.namespaceId) {
    throw invalid(`Cannot add robot ${account.username} under namespace ${repository.namespace}`);
  }
  await inChange(app, change, { kind: "change_repo_permission", metadata: { username, role } }, (tx) =>
    putAccountRole(tx, { repositoryId: repository.id, accountId: account.id, role }),
  );
  return getUserPermission(app, repository, username);
}

/** Throws `invalid_request` when it had none, or owns the namespace. */
export async function deleteUserPermission(app: PermissionApp, change: Change, username: string): Promise<void> {
  const { repository } = change;
  requireNotOwner(repository, username);
  const account = await getAccount(app.db, username);
  await inChange(app, change, { kind: "delete_repo_permission", metadata: { username } }, async (tx) => {
    if (!(await deleteAccountRole(tx, repository.id, account.id))) throw none("User");
  });
}

export function listTeamPermissions(app: Pick<App, "db">, repository: RepositoryFacts): Promise<TeamRole[]> {
  return listTeamRoles(app.db, repository.id, { limit: ROLES_SHOWN_MAX });
}

/** Throws `invalid_request` for a team that is not there or has no role. */
export async function getTeamPermission(
  app: Pick<App, "db">,
  repository: RepositoryFacts,
  name: string,
): Promise<TeamRole> {
  const teamId = await getTeam(app.db, repository, name);
  const [found] = await listTeamRoles(app.db, repository.id, { limit: 1, teamId });
  if (!found) throw none("Team");
  return found;
}

/** Gives a team of the repository's organization a role instead of the one it had. */
export async function putTeamPermission(
  app: PermissionApp,
  change: Change,
  name: string,
  role: GivenRole,
): Promise<TeamRole> {
  const { repository } = change;
  const teamId = await getTeam(app.db, repository, name);
  await inChange(app, change, { kind: "change_repo_permission", metadata: { team: name, role } }, (tx) =>
    putTeamRole(tx, { repositoryId: repository.id, teamId, role }),
  );
  return { teamId, name, role };
}

export async function deleteTeamPermission(app: PermissionApp, change: Change, name: string): Promise<void> {
  const { repository } = change;
  const teamId = await getTeam(app.db, repository, name);
  await inChange(app, change, { kind: "delete_repo_permission", metadata: { team: name } }, async (tx) => {
    if (!(await deleteTeamRole(tx, repository.id, teamId))) throw none("Team");
  });
}

/** Roles are for who can log in: users and robots, not organizations. */
async function findGrantee(db: Db, username: string): Promise<Account | undefined> {
  const account = await findAccount(db, username);
  return account?.kind === "organization" ? undefined : account;
}

async function getAccount(db: Db, username: string): Promise<Account> {
  const account = await findGrantee(db, username);
  if (!account) throw invalid(`User does not exist: ${showValue(username)}`);
  return account;
}

async function getTeam(db: Db, repository: RepositoryFacts, name: string): Promise<number> {
  const id = await findTeamId(db, repository.namespaceId, name);
  if (id === undefined) throw invalid(`Team does not exist: ${showValue(`${repository.namespace}/${name}`)}`);
  return id;
}

function requireNotOwner(repository: RepositoryFacts, username: string): void {
  if (username === repository.namespace) throw invalid("Namespace owner must always be admin.");
}

function none(whose: "User" | "Team"): RegistryError {
  return invalid(`${whose} does not have permission for repo.`);
}

function invalid(message: string): RegistryError {
  return new RegistryError("invalid_request", { message });
}
