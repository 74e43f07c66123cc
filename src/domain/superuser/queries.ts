/** Users and organizations as superusers see them: their rows, one page at a time, and the locks for changing them. */

import type { Db, SqlQuery, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";

/** A user with what only superusers and the user itself may see. */
export interface ManagedUser {
  readonly id: number;
  readonly kind: "user";
  readonly username: string;
  readonly email: string | undefined;
  readonly verified: boolean;
  readonly enabled: boolean;
  /** Made a superuser through the API. */
  readonly promoted: boolean;
}

export interface ManagedOrganization {
  readonly id: number;
  readonly name: string;
  readonly email: string | undefined;
}

interface UserRow {
  id: number;
  username: string;
  email: string | null;
  verified: unknown;
  enabled: unknown;
  superuser: unknown;
}

/** Names of deleted accounts begin with this, and no other sorts behind it: lists end before them. */
const BEHIND_ALL_NAMES = "~";

const userColumns = (db: Db) => db.sql`id, username, email, verified, enabled, superuser`;

/** Living users by name, after `last`. Without the disabled ones it costs those too. */
export async function listManagedUsers(
  db: Db,
  page: { last: string; limit: number; withDisabled: boolean },
): Promise<ManagedUser[]> {
  const onlyEnabled = page.withDisabled ? db.sql`` : db.sql`and enabled = true`;
  const rows = await db.sql<UserRow>`/* superuser.users */
    select ${userColumns(db)} from account
    where kind = 'user' and username > ${page.last} and username < ${BEHIND_ALL_NAMES} and deleted_ms is null
      ${onlyEnabled}
    order by username limit ${page.limit}`;
  return rows.map(decodeUser);
}

export async function findManagedUser(db: Db, username: string): Promise<ManagedUser | undefined> {
  return findUser(db, username, db.sql``);
}

/** The user, held until the transaction ends, so that two changes at once do not overtake each other. */
export async function lockManagedUser(tx: Tx, username: string): Promise<ManagedUser | undefined> {
  return findUser(tx, username, tx.dialect.forUpdate);
}

async function findUser(db: Db, username: string, lock: SqlQuery<unknown>): Promise<ManagedUser | undefined> {
  const [row] = await db.sql<UserRow>`/* superuser.user */
    select ${userColumns(db)} from account
    where username = ${username} and kind = 'user' and deleted_ms is null ${lock}`;
  return row && decodeUser(row);
}

function decodeUser(row: UserRow): ManagedUser {
  return {
    id: toNumber(row.id),
    kind: "user",
    username: row.username,
    email: row.email ?? undefined,
    verified: toBoolean(row.verified),
    enabled: toBoolean(row.enabled),
    promoted: toBoolean(row.superuser),
  };
}

interface OrganizationRow {
  id: number;
  username: string;
  email: string | null;
}

/** Living organizations by name, after `last`. */
export async function listManagedOrganizations(
  db: Db,
  page: { last: string; limit: number },
): Promise<ManagedOrganization[]> {
  const rows = await db.sql<OrganizationRow>`/* superuser.organizations */
    select id, username, coalesce(email, shared_email) as email from account
    where kind = 'organization' and username > ${page.last} and username < ${BEHIND_ALL_NAMES} and deleted_ms is null
    order by username limit ${page.limit}`;
  return rows.map(decodeOrganization);
}

export async function findManagedOrganization(db: Db, name: string): Promise<ManagedOrganization | undefined> {
  return findOrganization(db, name, db.sql``);
}

/** The organization, held until the transaction ends. */
export async function lockManagedOrganization(tx: Tx, name: string): Promise<ManagedOrganization | undefined> {
  return findOrganization(tx, name, tx.dialect.forUpdate);
}

async function findOrganization(
  db: Db,
  name: string,
  lock: SqlQuery<unknown>,
): Promise<ManagedOrganization | undefined> {
  const [row] = await db.sql<OrganizationRow>`/* superuser.organization */
    select id, username, coalesce(email, shared_email) as email from account
    where username = ${name} and kind = 'organization' and deleted_ms is null ${lock}`;
  return row && decodeOrganization(row);
}

function decodeOrganization(row: OrganizationRow): ManagedOrganization {
  return { id: toNumber(row.id), name: row.username, email: row.email ?? undefined };
}

/** Superusers that a notice is written for; a registry has a handful. */
const SUPERUSERS_MAX = 100;

/** Ids of the living superusers: those of these names, and those that were made one through the API. */
export async function findSuperuserIds(db: Db, listed: readonly string[]): Promise<number[]> {
  const rows = await db.sql<{ id: number }>`/* superuser.ids */
    select id from account where superuser = true and kind = 'user' and deleted_ms is null
    union
    select id from account
    where ${db.dialect.inList("username", listed.slice(0, SUPERUSERS_MAX))} and kind = 'user' and deleted_ms is null
    limit ${SUPERUSERS_MAX}`;
  return rows.map((row) => toNumber(row.id));
}
