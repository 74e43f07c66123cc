/**
 * Accounts: users, organizations and robots as rows. Creating them, finding them, and turning a row into the `Principal`
 * that rights are decided for. Checking passwords is `login.ts`.
 */

import type { Config } from "../../config/schema.ts";
import type { Db, Tx } from "../../db/db.ts";
import { toBoolean, toNumber } from "../../db/decode.ts";
import { isUniqueViolation } from "../../db/violation.ts";
import { RegistryError } from "../../errors.ts";
import { parseEmail, parseUsername } from "../../oci/names.ts";
import { ANONYMOUS, type Caller, type Principal } from "../access/actor.ts";

export type AccountKind = "user" | "organization" | "robot";

export interface Account {
  readonly id: number;
  readonly uuid: string;
  readonly kind: AccountKind;
  readonly username: string;
  readonly ownerId: number | undefined;
  /** Whose robot it is; undefined for users and organizations. */
  readonly ownerKind: "user" | "organization" | undefined;
  readonly email: string | undefined;
  /** The e-mail address was confirmed, or never had to be. Where mail is on, nobody else can log in. */
  readonly verified: boolean;
  readonly passwordHash: string | undefined;
  readonly tokenEncrypted: string | undefined;
  /** Of the account itself; for robots, of the owner too. */
  readonly enabled: boolean;
  /** Made a superuser through the API (of a robot: its owner); who is one by the config too, `isSuperuser` says. */
  readonly promoted: boolean;
  readonly failedLogins: number;
  readonly lastFailedLoginMs: number | undefined;
  readonly lastAccessedMs: number | undefined;
  readonly createdMs: number;
  /** When it was last deleted and restored. */
  readonly restoredMs: number | undefined;
}

interface AccountRow {
  id: number;
  uuid: string;
  kind: AccountKind;
  username: string;
  owner_id: number | null;
  owner_kind: "user" | "organization" | null;
  email: string | null;
  verified: unknown;
  password_hash: string | null;
  token_encrypted: string | null;
  enabled: unknown;
  owner_enabled: unknown;
  superuser: unknown;
  failed_logins: number;
  last_failed_login_ms: number | null;
  last_accessed_ms: number | null;
  created_ms: number;
  restored_ms: number | null;
}

const selectAccount = (db: Db) => db.sql`
  select a.id, a.uuid, a.kind, a.username, a.owner_id, o.kind as owner_kind, a.email, a.verified, a.password_hash,
         a.token_encrypted, a.enabled, coalesce(o.enabled, true) as owner_enabled,
         coalesce(o.superuser, a.superuser) as superuser, a.failed_logins,
         a.last_failed_login_ms, a.last_accessed_ms, a.created_ms,
         a.restored_ms
  from account a left join account o on o.id = a.owner_id`;

/** Finds a living account by its username, undefined when there is none. */
export async function findAccount(db: Db, username: string): Promise<Account | undefined> {
  const [row] = await db.sql<AccountRow>`/* account.by_name */ ${selectAccount(db)}
    where a.username = ${username} and a.deleted_ms is null`;
  return row && decodeAccount(row);
}

/** Finds a user by e-mail address, undefined when there is none. */
export async function findUserByEmail(db: Db, email: string): Promise<Account | undefined> {
  const [row] = await db.sql<AccountRow>`/* account.by_email */ ${selectAccount(db)}
    where a.email = ${email} and a.kind = 'user' and a.deleted_ms is null`;
  return row && decodeAccount(row);
}

export async function findAccountById(db: Db, id: number): Promise<Account | undefined> {
  const [row] = await db.sql<AccountRow>`/* account.by_id */ ${selectAccount(db)}
    where a.id = ${id} and a.deleted_ms is null`;
  return row && decodeAccount(row);
}

/** Users by name, after `last`, at most `limit`. */
export async function listUsers(db: Db, last: string, limit: number): Promise<Account[]> {
  const rows = await db.sql<AccountRow>`/* account.list_users */ ${selectAccount(db)}
    where a.kind = 'user' and a.username > ${last} and a.deleted_ms is null order by a.username limit ${limit}`;
  return rows.map(decodeAccount);
}

/** True when no user exists yet: the state in which the first user may be made without log-in. */
export async function hasNoUsers(db: Db): Promise<boolean> {
  const rows = await db.sql`/* account.any_user */ select 1 as one from account where kind = 'user' limit 1`;
  return rows.length === 0;
}

export interface NewAccount {
  kind: AccountKind;
  /** Checked by the caller: a user's, organization's or full robot name. */
  username: string;
  ownerId?: number;
  email?: string;
  /** False for a user who has yet to confirm the address; true by default. */
  verified?: boolean;
  passwordHash?: string;
  tokenEncrypted?: string;
  description?: string;
  /** Window in which a deleted tag can be restored, seconds (DEFAULT_TAG_EXPIRATION). */
  tagExpirationSeconds: number;
  nowMs: number;
}

/** Makes an account. Throws `invalid_request` with Quay's texts when name or e-mail address are taken. */
export async function insertAccount(tx: Tx, account: NewAccount): Promise<number> {
  try {
    const [row] = await tx.sql<{ id: number }>`/* account.insert */
      insert into account (uuid, kind, username, owner_id, email, password_hash, token_encrypted, verified, description,
                           tag_expiration_s, created_ms)
      values (${crypto.randomUUID()}, ${account.kind}, ${account.username}, ${account.ownerId ?? null},
              ${account.email ?? null}, ${account.passwordHash ?? null}, ${account.tokenEncrypted ?? null},
              ${account.verified ?? true},
              ${account.description ?? ""}, ${account.tagExpirationSeconds}, ${account.nowMs})
      returning id`;
    if (!row) throw new Error("insert into account returned no row");
    return toNumber(row.id);
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    throw new RegistryError("invalid_request", { message: takenText(account), cause: error });
  }
}

/** Source of the texts: quay-behaviour reference, section 1. */
function takenText(account: NewAccount): string {
  if (account.kind === "robot") return `Existing robot with name: ${account.username}`;
  if (account.email === undefined) {
    return `Username has already been taken by user cannot be reused: ${account.username}`;
  }
  return `The username already exists or the email has already been used: ${account.username}, ${account.email}`;
}

export interface NewUser {
  username: string;
  /** Undefined makes a user that cannot log in with a password. */
  passwordHash: string | undefined;
  email?: string | undefined;
  /** False for one who has yet to confirm the address; true by default. */
  verified?: boolean;
}

/** Makes a user. Throws `name_invalid` or `invalid_request` in Quay's words. */
export async function createUser(
  tx: Tx,
  user: NewUser,
  facts: { tagExpirationSeconds: number; nowMs: number },
): Promise<number> {
  const username = parseUsername(user.username);
  if (user.email !== undefined) parseEmail(user.email);
  return insertAccount(tx, {
    kind: "user",
    username,
    ...(user.email === undefined ? {} : { email: user.email }),
    ...(user.passwordHash === undefined ? {} : { passwordHash: user.passwordHash }),
    ...(user.verified === undefined ? {} : { verified: user.verified }),
    ...facts,
  });
}

/** Sets a user's password hash and ends its lock-out. Every cached log-in of the user is dropped. */
export async function setPasswordHash(tx: Tx, accountId: number, passwordHash: string): Promise<void> {
  await tx.sql`/* account.set_password */
    update account set password_hash = ${passwordHash}, failed_logins = 0, last_failed_login_ms = null
    where id = ${accountId}`;
  tx.changed(accountKey(accountId));
}

/** Enables or disables an account. A disabled namespace refuses pushes and pulls; its robots are off too. */
export async function setEnabled(tx: Tx, accountId: number, enabled: boolean): Promise<void> {
  await tx.sql`/* account.set_enabled */ update account set enabled = ${enabled} where id = ${accountId}`;
  // Robots and repositories carry the namespace's state in their cached facts.
  tx.changed(EVERYTHING);
}

/** Cache key of one account: its row changed. */
export function accountKey(accountId: number): string {
  return `account:${accountId}`;
}

/** Cache key for changes whose reach is not worth working out: all cached facts go. */
export const EVERYTHING = "everything";

/** A user that SUPER_USERS names or that another superuser made one, whether or not FEATURE_SUPER_USERS is on. */
export function isSuperuser(
  config: Pick<Config, "SUPER_USERS">,
  account: Pick<Account, "kind" | "username" | "promoted">,
): boolean {
  return account.kind === "user" && (account.promoted || config.SUPER_USERS.includes(account.username));
}

/** What the account may be, by its row and the lists in the config; undefined when it may not log in at all. */
export function toPrincipal(config: Config, account: Account): Principal | undefined {
  if (account.kind === "organization" || !account.enabled) return undefined;
  const isUser = account.kind === "user";
  const superuser = config.FEATURE_SUPER_USERS && isSuperuser(config, account);
  return {
    accountId: account.id,
    username: account.username,
    kind: account.kind,
    ownerId: account.ownerId,
    superuser,
    globalReadonly: isUser && config.GLOBAL_READONLY_SUPER_USERS.includes(account.username),
    restricted: config.FEATURE_RESTRICTED_USERS && isRestricted(config, account),
  };
}

/** The account as the doer of what it does without a log-in: signing up, or bringing a code from a mail. */
export function callerFor(config: Config, account: Account): Caller {
  return { ...ANONYMOUS, principal: toPrincipal(config, account) };
}

/**
 * A user's robots count as the user, unless RESTRICTED_USER_INCLUDE_ROBOTS says that they do not; those of organizations are
 * nobody's. Source: quay-behaviour reference, section 3.
 */
function isRestricted(config: Config, account: Account): boolean {
  const isRobot = account.kind === "robot";
  if (isRobot && (account.ownerKind !== "user" || !config.RESTRICTED_USER_INCLUDE_ROBOTS)) return false;
  const user = account.username.split("+")[0] ?? account.username;
  if (config.FEATURE_SUPER_USERS && (account.promoted || config.SUPER_USERS.includes(user))) return false;
  return !(config.RESTRICTED_USERS_WHITELIST?.includes(user) ?? false);
}

function decodeAccount(row: AccountRow): Account {
  return {
    id: toNumber(row.id),
    uuid: row.uuid,
    kind: row.kind,
    username: row.username,
    ownerId: row.owner_id === null ? undefined : toNumber(row.owner_id),
    ownerKind: row.owner_kind ?? undefined,
    email: row.email ?? undefined,
    verified: toBoolean(row.verified),
    passwordHash: row.password_hash ?? undefined,
    tokenEncrypted: row.token_encrypted ?? undefined,
    enabled: toBoolean(row.enabled) && toBoolean(row.owner_enabled),
    promoted: toBoolean(row.superuser),
    failedLogins: toNumber(row.failed_logins),
    lastFailedLoginMs: row.last_failed_login_ms === null ? undefined : toNumber(row.last_failed_login_ms),
    lastAccessedMs: row.last_accessed_ms === null ? undefined : toNumber(row.last_accessed_ms),
    createdMs: toNumber(row.created_ms),
    restoredMs: row.restored_ms === null ? undefined : toNumber(row.restored_ms),
  };
}
